/**
 * The browser's half of chatkit-clienttools: every client tool call is run once, however often it is delivered.
 *
 * A call may come again: its stream broke, or the page or the thread was loaded again. With receipts the server puts
 * a text into its params, as `_receipt`, which names the thread and the call: "thread:call_0123...". What was answered
 * under a receipt is answered again from memory; what is still being executed is waited for; nothing is executed a
 * second time. Two calls never have one receipt, even if a provider gives the same id to a call in another thread.
 *
 * A call may have a limited time. Then its params say beside the receipt when that is over, by the server's clock, as
 * `_expires_at`, and how much of it is left, as `_expires_in`, both in milliseconds. The page counts by the latter: its
 * clock may be wrong. When the time is over the call is answered as expired, whatever the handler still does.
 *
 * One receipt is one key of sessionStorage, not an entry of one index: a write costs one answer, a damaged entry or one
 * that does not fit leaves the others alone, and tabs that share a storage do not overwrite one another's index.
 *
 * No dependencies. For every browser since March 2022.
 */

const PREFIX = "chatkit_clienttools:";
const REMEMBERED = 256;

/** The answers to calls that have ended before their handler has: the server knows the first one. */
const EXPIRED = "expired: the browser did not answer in time";
const CANCELLED = "cancelled on this page";
const DENIED = "denied: the user declined";
const LONGEST_TIMER = 2 ** 31 - 1;

/** The action that puts a thread with an unanswered call back in motion: `chatkit.sendCustomAction(RESUME)`. */
export const RESUME = Object.freeze({ type: "chatkit_clienttools.resume", payload: Object.freeze({}) });

/**
 * What a handler throws when the user does not want what the call asks for: `throw new Denied()`. The call has failed
 * with the reason "denied", which is told apart from an error of the page; `onError` is not told of it.
 */
export class Denied extends Error {
  constructor() {
    super(DENIED);
    this.name = "Denied";
  }
}

/**
 * Make ChatKit's `onClientTool` of one function for all tools, or of an object with one function for each.
 *
 * What it returns never throws and never rejects: what goes wrong is an answer, `{"error": "what went wrong"}`.
 *
 * @param handler `({name, params}, {signal}) => answer`, or `{tool_name: (params, {signal}) => answer}`; may be async,
 *   and may throw. The signal aborts when the time of the call is over, and with `cancelRunning()`.
 * @param options
 *   `storage`: where answers survive a reload: like sessionStorage, which it is by default; null for nowhere;
 *   `remember`: how many receipts are remembered;
 *   `onError(error, call)`: told of what became an error answer; the default writes it to the console.
 */
export function withReceipts(handler, options = {}) {
  const run = runner(handler);
  const { storage, remember, onError } = checked(options);
  const memory = memoryOf(storage);

  /** Run the call; return its outcome, `{"result": ...}` or `{"error": "..."}`, as JSON. */
  const execute = async (call) => {
    const [controller, done] = begun(call);
    try {
      const answer = run(withoutStamps(call), { signal: controller.signal });
      return `{"result":${json(await unlessAborted(answer, controller.signal))}}`;
    } catch (error) {
      if (!(error instanceof Denied)) tell(onError, error, call);
      return `{"error":${json(messageOf(error))}}`;
    } finally {
      done();
    }
  };

  return async function onClientTool(call) {
    const receipt = receiptOf(call);
    if (receipt === undefined) return bare(JSON.parse(await execute(call)));
    return { _receipt: receipt, ...JSON.parse(await memory.once(receipt, () => execute(call), remember)) };
  };
}

/**
 * Send RESUME whenever ChatKit has loaded a thread: after a reload, and when the user comes back to a thread.
 *
 * @param chatkit The `<openai-chatkit>` element; call this before the thread is loaded, so before `setOptions`.
 * @param options `onError(error)`: told when the action could not be sent; the default writes it to the console.
 * @returns A function that stops it.
 */
export function resumeOnLoad(chatkit, { onError = report } = {}) {
  const resume = async () => {
    try {
      await chatkit.sendCustomAction(RESUME);
    } catch (error) {
      tell(onError, error);
    }
  };
  chatkit.addEventListener("chatkit.thread.load.end", resume);
  return () => chatkit.removeEventListener("chatkit.thread.load.end", resume);
}

/**
 * Abort whatever handlers run on this page: their calls are answered at once as failed, and what the handlers return
 * later is ignored. For the page's own Stop button, and wherever the page knows that a call is cancelled.
 *
 * What was aborted is not remembered: if the server sends the call again, it is executed again.
 */
export function cancelRunning() {
  for (const controller of [...executing]) controller.abort(new DOMException(CANCELLED, "AbortError"));
}

/** What aborts the handlers that run on this page. */
const executing = new Set();

/** Begin to execute a call: return what aborts it, and what is to be done at the end. */
function begun(call) {
  const controller = new AbortController();
  const left = receiptOf(call) === undefined ? undefined : call.params._expires_in;
  const expire = () => controller.abort(new DOMException(EXPIRED, "TimeoutError"));
  const isKept = typeof left === "number" && left >= 0 && left <= LONGEST_TIMER;
  const timer = isKept ? setTimeout(expire, left) : undefined;
  executing.add(controller);
  const done = () => {
    clearTimeout(timer);
    executing.delete(controller);
  };
  return [controller, done];
}

/** Return what a handler answers, or throw why it was aborted, if that is first. */
function unlessAborted(answer, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
    Promise.resolve(answer).then(resolve, reject);
  });
}

/** What was answered and what is being executed, on this page and, as far as the storage allows, after a reload. */
class Memory {
  #answered = new Map();
  #running = new Map();
  #storage;

  constructor(storage) {
    this.#storage = storage;
  }

  /** Return the outcome of the receipt: remembered, or being worked out, or worked out now. */
  once(receipt, execute, remember) {
    const known = this.#answered.get(receipt) ?? this.#running.get(receipt) ?? stored(this.#storage, receipt);
    if (known !== undefined) return known;
    const running = execute().then((outcome) => {
      this.#keep(receipt, outcome, remember);
      return outcome;
    });
    this.#running.set(receipt, running);
    return running;
  }

  #keep(receipt, outcome, remember) {
    this.#running.delete(receipt);
    if (outcome === NOT_REMEMBERED) return;
    this.#answered.set(receipt, outcome);
    for (const oldest of [...this.#answered.keys()].slice(0, -remember)) this.#answered.delete(oldest);
    store(this.#storage, receipt, outcome, remember);
  }
}

/** The outcome of a call that the page has cancelled. */
const NOT_REMEMBERED = JSON.stringify({ error: CANCELLED });

/** One memory for each storage, not for each handler: a page may wrap its handler anew whenever it is rendered. */
const memories = new WeakMap();
const NOWHERE = {};

function memoryOf(storage) {
  const key = storage ?? NOWHERE;
  if (!memories.has(key)) memories.set(key, new Memory(storage));
  return memories.get(key);
}

/** Return what the storage holds for a receipt, if that is an outcome: anybody can write there. */
function stored(storage, receipt) {
  try {
    const [, outcome] = JSON.parse(storage.getItem(PREFIX + receipt));
    return isOutcome(JSON.parse(outcome)) ? outcome : undefined;
  } catch {
    return undefined; // no storage, a forbidden one, nothing there, or nothing of ours
  }
}

function isOutcome(value) {
  const keys = Object.keys(value);
  return keys.length === 1 && (keys[0] === "result" || (keys[0] === "error" && typeof value.error === "string"));
}

/** Write an outcome down; if there is no room, in place of the oldest ones, unless it is bigger than all of them. */
function store(storage, receipt, outcome, remember) {
  try {
    const older = written(storage).filter(({ key }) => key !== PREFIX + receipt);
    const entry = JSON.stringify([(older.at(-1)?.order ?? 0) + 1, outcome]);
    while (older.length >= remember) storage.removeItem(older.shift().key);
    const replaceable = older.reduce((sum, { size }) => sum + size, 0) >= entry.length;
    while (!fits(storage, PREFIX + receipt, entry) && replaceable && older.length) {
      storage.removeItem(older.shift().key);
    }
  } catch {
    // no storage, or a forbidden one: the page remembers
  }
}

function fits(storage, key, entry) {
  try {
    storage.setItem(key, entry);
    return true;
  } catch {
    return false;
  }
}

/**
 * Return our keys, the oldest first; an entry is JSON, and begins with its number: `[17,"{...}"]`.
 * A tab that shares the storage may remove a key while we look.
 */
function written(storage) {
  const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index));
  return keys
    .filter((key) => key?.startsWith(PREFIX))
    .map((key) => ({ key, entry: storage.getItem(key) ?? "" }))
    .map(({ key, entry }) => ({ key, size: entry.length, order: parseInt(entry.slice(1), 10) || 0 }))
    .sort((one, other) => one.order - other.order);
}

function runner(handler) {
  if (typeof handler === "function") return handler;
  if (typeof handler !== "object" || handler === null) {
    throw new TypeError("withReceipts needs a function, or an object of functions by tool name");
  }
  return ({ name, params }, options) => {
    if (!Object.hasOwn(handler, name) || typeof handler[name] !== "function") {
      throw new Error(`this page has no client tool ${JSON.stringify(String(name))}`);
    }
    return handler[name](params, options);
  };
}

function checked({ storage = sessionStorageIfAny(), remember = REMEMBERED, onError = report }) {
  if (typeof storage !== "object") throw new TypeError("storage must be like sessionStorage, or null");
  if (!Number.isInteger(remember) || remember < 1) throw new TypeError("remember must be a whole number from 1 on");
  if (typeof onError !== "function") throw new TypeError("onError must be a function");
  return { storage, remember, onError };
}

function sessionStorageIfAny() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // forbidden: a sandboxed frame, or cookies are blocked
  }
}

function receiptOf(call) {
  try {
    const receipt = call.params._receipt;
    return typeof receipt === "string" ? receipt : undefined;
  } catch {
    return undefined;
  }
}

function withoutStamps(call) {
  if (receiptOf(call) === undefined) return { ...call, params: call?.params ?? {} };
  const { _receipt, _expires_at, _expires_in, ...params } = call.params;
  return { ...call, params };
}

function bare(outcome) {
  return Object.hasOwn(outcome, "error") ? outcome : outcome.result;
}

function json(value) {
  try {
    return JSON.stringify(value, strictly()) ?? "null";
  } catch (cause) {
    throw new TypeError(`the answer is not JSON: ${messageOf(cause)}`, { cause });
  }
}

/** Return a replacer that refuses what JSON would silently drop, empty or make null, and says where it is. */
function strictly() {
  const places = new Map(); // where each object is: "result.items[2]"
  return function replacer(key, value) {
    const place = () => (places.has(this) ? places.get(this) + stepTo(key, this) : "result");
    const problem = problemWith(value, this[key]);
    if (problem) throw new TypeError(`${place()} is ${problem}`);
    if (key.isWellFormed?.() === false) throw new TypeError("it has a key that was cut through a character");
    if (typeof value === "object" && value !== null) places.set(value, place());
    return typeof value === "string" ? (value.toWellFormed?.() ?? value) : value; // servers refuse half a character
  };
}

function stepTo(key, holder) {
  if (Array.isArray(holder)) return `[${key}]`;
  return /^[\p{L}_$][\p{L}\d_$]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

/** Say what a value is, if it is not JSON; `original` is what it was before its `toJSON`. */
function problemWith(value, original) {
  if (typeof value === "number" && !Number.isFinite(value)) return `${value}: JSON has finite numbers only`;
  if (value === null && tagOf(original) === "Date") return "an invalid Date";
  if (["function", "symbol", "bigint"].includes(typeof value)) return `a ${typeof value}`;
  if (typeof value !== "object" || value === null || Array.isArray(value) || value.toJSON) return undefined;
  const tag = tagOf(value);
  if (tag === "Object") return undefined;
  return `${/^[AEIO]/.test(tag) ? "an" : "a"} ${tag}: ${CURES[tag] ?? "make a plain object or an array of it"}`;
}

const ENCODE = "use clientFile or clientImage";
const CURES = { Blob: ENCODE, File: ENCODE, Promise: "await it" };

function tagOf(value) {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

function messageOf(error) {
  try {
    return (typeof error?.message === "string" && error.message) || String(error);
  } catch {
    return "the client tool failed";
  }
}

/** Tell without waiting, and without harm if the listener fails. */
function tell(onError, ...what) {
  Promise.resolve()
    .then(() => onError(...what))
    .catch((error) => console.error("chatkit_clienttools: onError failed:", error));
}

function report(error, call) {
  console.error(`chatkit_clienttools: ${call ? `client tool ${call.name}` : "resume"} failed:`, error);
}

const MEBIBYTE = 2 ** 20;

/** What a canvas makes, and what the server takes as it is. */
const DRAWN = ["image/png", "image/jpeg", "image/webp"];
const TAKEN = [...DRAWN, "image/gif"];

/**
 * Make an answer, or a part of one, that the server reads as a `ClientImage`: `{ data_url }`.
 *
 * A picture in a Blob or a File that is small enough is sent as it is. Any other is drawn anew, and made smaller until it
 * fits: models look at no more than about 2048 pixels, and a server refuses what is too large.
 *
 * @param source A canvas, a Blob or a File; or an image, a video or whatever else `createImageBitmap` takes.
 * @param options
 *   `maxEdge`: how long its longer edge may be, in pixels; 2048;
 *   `maxBytes`: how long the data URL may be; 4 MiB;
 *   `type`, `quality`: as in `canvas.toBlob`; the type is that of the Blob, or PNG;
 *   `detail`: how closely the model is to look: "auto", "low" or "high".
 */
export async function clientImage(
  source,
  { maxEdge = 2048, maxBytes = 4 * MEBIBYTE, type, quality, detail } = {},
) {
  const picture = await pictureIn(source);
  const { width, height } = picture;
  try {
    const scale = Math.min(1, atLeastOne("maxEdge", maxEdge) / Math.max(width, height));
    const mayStay = scale === 1 && TAKEN.includes(source.type) && [undefined, source.type].includes(type);
    const own = mayStay && urlLength(source) <= atLeastOne("maxBytes", maxBytes);
    const kind = type ?? (DRAWN.includes(source.type) ? source.type : DRAWN[0]);
    const sent = own ? source : await smallEnough(picture, scale, kind, quality, atLeastOne("maxBytes", maxBytes));
    return { data_url: await dataUrl(sent), ...(detail && { detail }) };
  } finally {
    picture.close();
  }
}

/**
 * Make an answer, or a part of one, that the server reads as a `ClientFile`: `{ data_url, filename }`.
 *
 * @param blob A File or a Blob.
 * @param options
 *   `filename`: the name of the File, or none;
 *   `type`: its media type, if the browser does not know it, or not the right one;
 *   `maxBytes`: how long the data URL may be; 8 MiB, as at the server. A longer one throws, and is not sent.
 */
export async function clientFile(blob, { filename = blob?.name, type = blob?.type, maxBytes = 8 * MEBIBYTE } = {}) {
  if (!(blob instanceof Blob)) throw new TypeError("clientFile needs a File or a Blob");
  if (!type) throw new TypeError('the browser does not know what kind of file this is: say { type: "text/markdown" }');
  const typed = blob.slice(0, blob.size, type);
  if (urlLength(typed) > atLeastOne("maxBytes", maxBytes)) {
    throw new RangeError(`the file is too large: ${blob.size} bytes`);
  }
  return { data_url: await dataUrl(typed), ...(filename && { filename }) };
}

async function pictureIn(source) {
  try {
    return await createImageBitmap(source);
  } catch (cause) {
    throw new TypeError(`this is no picture that the browser can read: ${messageOf(cause)}`, { cause });
  }
}

/** Draw a picture and make a Blob of it; with fewer pixels as long as that is too large. */
async function smallEnough(picture, scale, type, quality, maxBytes) {
  for (;;) {
    const blob = await encoded(drawn(picture, scale, type), type, quality);
    const size = urlLength(blob);
    if (size <= maxBytes) return blob;
    if (Math.max(picture.width, picture.height) * scale <= 1) {
      throw new RangeError(`no picture is as small as ${maxBytes} bytes`);
    }
    scale *= Math.min(0.9, Math.sqrt(maxBytes / size));
  }
}

function drawn(picture, scale, type) {
  const [width, height] = [picture.width, picture.height].map((edge) => Math.max(1, Math.round(edge * scale)));
  const canvas = canvasOf(width, height);
  const paint = canvas.getContext("2d");
  paint.imageSmoothingQuality = "high";
  if (type === "image/jpeg") {
    paint.fillStyle = "#fff"; // it has no transparency, and would be black there
    paint.fillRect(0, 0, width, height);
  }
  paint.drawImage(picture, 0, 0, width, height);
  return canvas;
}

function canvasOf(width, height) {
  if (typeof document === "undefined") return new OffscreenCanvas(width, height); // in a worker
  return Object.assign(document.createElement("canvas"), { width, height });
}

function encoded(canvas, type, quality) {
  if (canvas.convertToBlob) return canvas.convertToBlob({ type, quality });
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("the browser could not encode the picture")));
    canvas.toBlob(done, type, quality);
  });
}

function urlLength({ type, size }) {
  return `data:${type};base64,`.length + 4 * Math.ceil(size / 3);
}

async function dataUrl(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  // a function takes so many arguments at once
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return `data:${blob.type};base64,${btoa(text)}`;
}

function atLeastOne(option, value) {
  if (typeof value === "number" && value >= 1) return value;
  throw new TypeError(`${option} must be a number from 1 on`);
}
