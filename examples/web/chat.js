/**
 * The chat of a page: the official ChatKit.js, or where that cannot be loaded a small one, which speaks ChatKit's wire
 * protocol and needs no network. `?chatkit=small` in the page's address asks for the small one.
 *
 *     const chat = openChat(document.querySelector("#chat"), {
 *       endpoint: "chatkit",                        // where ChatKit's requests go
 *       tools: { show_profiles: (params) => ... },  // client tools; what they return is the answer, and they may throw
 *       effects: { indicator: (data) => ... },      // client effects: nobody waits for them
 *       suggestions: ["Who knows about law?"],      // what a visitor may say
 *       waits: { choose: "Waiting for your choice" },  // what to say while a client tool waits for the user
 *       greeting: "Whom do you look for?",          // what an empty conversation says
 *       onItems: (items) => ...,                    // a thread was loaded: its items, the oldest first
 *       onEvent: (event) => ...,                    // every event of every stream
 *       onSend: (text) => ...,                      // the server has what the user has written
 *       onIdle: () => ...,                          // the server and the page have done what there was to do
 *     });
 *     chat.threadId, chat.isBusy, chat.load()
 *
 * With the small chat, tabs that show the same thread tell one another when something is new. A tab that waits for the
 * user stops waiting when the call has been answered, or cancelled, in another one.
 */

import { RESUME, withReceipts } from "../client-tools.js";
import { addressOf, rememberThread, threadInAddress, wantsOwnChat } from "./address.js";
import { element } from "./dom.js";
import { isOpenCall, rendered, update } from "./items.js";
import { openOfficialChat } from "./official.js";
import { Away, Refused, events, itemsOf } from "./wire.js";

const FAILED = "Something went wrong on the server.";
const AWAY = "The server is away. Nothing that it knows is lost.";
const KEPT = "The server is away. What you wrote is still in the box.";
const UNANSWERED =
  "This message has no answer yet. Its run was stopped, or its server has died, or another tab is at work on it.";
const FORGOTTEN = "The server does not know this conversation any more. A new one begins.";
const nothing = () => {};

/** Why a client tool is not waited for any more: its call is over, in another tab or on the server. */
const ELSEWHERE = new Error("answered elsewhere");

/** Wait for a promise, but not any more when the signal says so. */
function unlessAborted(promise, signal) {
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return Promise.race([promise, aborted]);
}

function textOf({ content }) {
  return content.map((part) => part.text ?? "").join("");
}

const DEFAULTS = {
  endpoint: "chatkit",
  greeting: "",
  tools: {},
  effects: {},
  suggestions: [],
  waits: {},
  onItems: nothing,
  onEvent: nothing,
  onSend: nothing,
  onIdle: nothing,
};

/** Open a chat in an element of the page. With `mirrors: true` it is a small one, and another chat tells it what to send. */
export function openChat(root, options) {
  const given = { ...DEFAULTS, ...options };
  return options.mirrors ? new Chat(root, given) : new ChosenChat(root, given);
}

/** The official chat, or the small one: which of them shows after a moment. */
class ChosenChat {
  #chat = null;
  #chosen;

  constructor(root, options) {
    root.classList.add("chat");
    this.#chosen = wantsOwnChat() ? this.#small(root, options, WANTED) : this.#official(root, options);
  }

  get threadId() {
    return this.#chat?.threadId ?? null;
  }

  get isBusy() {
    return this.#chat?.isBusy ?? true;
  }

  /** Show the thread as the server has it, and let it go on if a call is still open. */
  async load() {
    await this.#chosen;
    await this.#chat.load();
  }

  async #official(root, options) {
    const note = which("ChatKit.js is loaded from OpenAI…", "Use our small chat", "small");
    root.append(note);
    this.#chat = await openOfficialChat(root, options);
    note.remove();
    if (!this.#chat) return this.#small(root, options, OFFLINE);
    root.append(which("This is OpenAI's ChatKit.js.", "Use our small chat", "small"));
  }

  #small(root, options, why) {
    this.#chat = new Chat(root, options);
    root.append(which(...why, "official"));
  }
}

const WANTED = ["This is our small chat.", "Use OpenAI's ChatKit.js"];
const OFFLINE = ["ChatKit.js cannot be reached, so this is our small chat.", "Try it again"];

/** Say which chat it is, with the way to the other one. */
function which(text, label, other) {
  const link = element("a", { href: addressOf(other) }, label);
  // the conversation may have begun since
  link.addEventListener("click", () => (link.href = addressOf(other)));
  return element("p", { class: "which" }, `${text} `, link);
}

class Chat {
  #options;
  #onClientTool;
  #items = new Map();
  #elements = new Map();
  #busy = null;
  #work = null;
  #runsTool = false;
  #receipt = null;
  #unconfirmed = null;
  #isBehind = false;
  #tabs = null;
  #view;

  /** With `mirrors: true` it has no box and remembers no thread. */
  constructor(root, options) {
    this.#options = options;
    this.#onClientTool = withReceipts(options.tools);
    this.threadId = options.mirrors ? null : threadInAddress();
    this.#view = this.#build(root);
    if (!options.mirrors) this.#listen();
    if (this.threadId) this.load();
  }

  get isBusy() {
    return this.#busy !== null;
  }

  get #mayWrite() {
    return !this.isBusy || this.#runsTool;
  }

  /**
   * Say something; the result says whether it was sent. While the server answers nothing is; but nobody has to wait for
   * a client tool of the page.
   */
  async send(text) {
    if (!this.#mayWrite || !text.trim()) return false;
    await this.#interrupt();
    if (this.isBusy) return false; // another one was faster
    this.#unconfirmed = text;
    this.#show({ id: "unconfirmed", type: "user_message", content: [{ type: "input_text", text }] });
    const content = [{ type: "input_text", text }];
    const input = { content, attachments: [], inference_options: {} };
    await this.#converse(this.threadId ? "threads.add_user_message" : "threads.create", { input });
    return true;
  }

  /** Send an action; with an item's id, of that widget. */
  async act({ type, payload = null }, itemId) {
    if (this.isBusy) return;
    await this.#converse("threads.custom_action", { action: { type, payload }, ...(itemId && { item_id: itemId }) });
  }

  /** Show the thread as the server has it, and let it go on if a call is still open. */
  async load() {
    const known = await this.#during(async (signal) => {
      const items = await this.#loadItems(signal);
      this.#forget();
      items.forEach((item) => this.#show(item));
      this.#options.onItems(items);
      return true;
    });
    if (known) await this.act(RESUME);
    this.#offerRetry();
  }

  /** Offer to answer the last message again if nothing else goes on, and nothing else went wrong. */
  #offerRetry() {
    if (this.isBusy || !this.#isUnanswered() || this.#view.trouble.hasChildNodes()) return;
    this.#trouble(UNANSWERED, () => this.#retry());
  }

  /** Begin a new conversation. */
  startOver() {
    this.stop();
    this.#setThread(null);
    this.#forget();
    this.#trouble(null);
    this.#options.onItems([]);
  }

  /** End the answer that is on its way. */
  stop() {
    this.#busy?.abort();
  }

  /** Hear what other tabs do, and look again when the user comes back to this one. */
  #listen() {
    this.#tabs = new BroadcastChannel(new URL(this.#options.endpoint, location.href).href);
    this.#tabs.addEventListener("message", ({ data }) => data === this.threadId && this.#catchUp());
    document.addEventListener("visibilitychange", () => document.hidden || this.#catchUp());
  }

  /** Show what is new in the thread; stop waiting for the user if what was asked is over. */
  async #catchUp() {
    if (!this.threadId) return;
    this.#isBehind = this.isBusy && !this.#runsTool;
    if (this.#isBehind) return; // as soon as this tab is idle
    const waitsFor = this.#receipt;
    const threadId = this.threadId;
    const items = await this.#loadItems().catch(nothing); // the server is away: there will be another occasion
    if (!items || threadId !== this.threadId || waitsFor !== this.#receipt) return;
    if (this.#runsTool) {
      if (items.some((item) => isOpenCall(item) && item.arguments._receipt === waitsFor)) return;
      this.#busy.abort(ELSEWHERE);
      await this.#work;
    }
    if (!this.isBusy) this.#sync(items);
  }

  #sync(items) {
    const ids = new Set(items.map(({ id }) => id));
    const isNew = (item) => JSON.stringify(item) !== JSON.stringify(this.#items.get(item.id));
    const gone = [...this.#items.keys()].filter((id) => !ids.has(id));
    if (!gone.length && !items.some(isNew)) return;
    gone.forEach((id) => this.#remove(id));
    items.filter(isNew).forEach((item) => this.#show(item));
    if (!this.#isUnanswered()) this.#trouble(null);
    this.#options.onItems(items);
  }

  #isUnanswered() {
    const types = [...this.#items.values()].map(({ type }) => type);
    return types.lastIndexOf("user_message") > types.lastIndexOf("assistant_message");
  }

  #loadItems(signal) {
    return itemsOf(this.#options.endpoint, this.threadId, signal);
  }

  /** Post a request, run the client tools that come, and post their answers, until none comes. */
  async #converse(type, params) {
    await this.#during(async (signal) => {
      let calls = await this.#read(type, params, signal);
      while (calls.length) {
        const call = calls.shift();
        const result = await this.#runTool(call, signal);
        calls.push(...(await this.#read("threads.add_client_tool_output", { result }, signal)));
      }
    });
  }

  async #runTool({ name, arguments: params }, signal) {
    signal.throwIfAborted();
    this.#receipt = params._receipt;
    this.#setRunsTool(true, this.#options.waits[name]);
    try {
      return await unlessAborted(this.#onClientTool({ name, params }), signal);
    } finally {
      this.#receipt = null;
      this.#setRunsTool(false);
    }
  }

  /** End what is being done, and wait for the end. */
  async #interrupt() {
    this.stop();
    await this.#work;
  }

  /** Read one stream; return the client tool calls in it. */
  async #read(type, params, signal) {
    const calls = [];
    const request = this.threadId ? { thread_id: this.threadId, ...params } : params;
    for await (const event of events(this.#options.endpoint, type, request, signal)) {
      this.#take(event);
      if (event.type === "thread.item.done") this.#tabs?.postMessage(this.threadId);
      if (event.type === "thread.item.done" && isOpenCall(event.item)) calls.push(event.item);
    }
    return calls;
  }

  /** Be busy while something is done; say what went wrong. */
  #during(work) {
    this.#work = this.#attempt(work);
    return this.#work;
  }

  async #attempt(work) {
    const controller = new AbortController();
    this.#setBusy(controller);
    try {
      const done = await work(controller.signal);
      this.#progress("");
      return done;
    } catch (error) {
      this.#progress("");
      this.#failed(error);
    } finally {
      if (this.#busy === controller) this.#setBusy(null);
      if (this.#isBehind) this.#catchUp();
    }
  }

  #failed(error) {
    if (error === ELSEWHERE) return;
    if (error.name === "AbortError") {
      this.#progress("Stopped. Write to go on.");
    } else if (error instanceof Refused && error.status === 404) {
      this.startOver();
      this.#trouble(FORGOTTEN);
    } else if (error instanceof Away) {
      const text = this.#takeBack();
      this.#trouble(text === null ? AWAY : KEPT, () => (text === null ? this.load() : this.#submit()));
    } else {
      this.#trouble(error.message);
      if (!(error instanceof Refused)) throw error;
    }
  }

  /** Put what the server has not confirmed back into the box; return it. */
  #takeBack() {
    const text = this.#unconfirmed;
    this.#remove("unconfirmed");
    this.#unconfirmed = null;
    if (text !== null && this.#view.box) this.#view.box.value = text;
    return text;
  }

  #take(event) {
    switch (event.type) {
      case "thread.created":
      case "thread.updated":
        this.#setThread(event.thread.id);
        break;
      case "thread.item.added":
      case "thread.item.done":
      case "thread.item.replaced":
        if (event.item.type === "user_message") this.#confirm(event.item);
        this.#show(event.item, event.type === "thread.item.added");
        break;
      case "thread.item.updated":
        this.#update(event.item_id, event.update);
        break;
      case "thread.item.removed":
        this.#remove(event.item_id);
        break;
      case "progress_update":
        this.#progress(event.text);
        break;
      case "client_effect":
        this.#options.effects[event.name]?.(event.data);
        break;
      case "error":
        this.#trouble(event.message ?? FAILED, event.allow_retry && (() => this.#retry()));
        break;
      case "notice":
        this.#progress(event.message);
    }
    this.#options.onEvent(event);
  }

  /** Let the last message be answered again. */
  async #retry() {
    const ids = [...this.#items.keys()];
    const messages = ids.filter((id) => this.#items.get(id).type === "user_message");
    const last = messages.at(-1);
    if (!last) return;
    ids.slice(ids.indexOf(last) + 1).forEach((id) => this.#remove(id));
    this.#options.onSend(textOf(this.#items.get(last)));
    await this.#converse("threads.retry_after_item", { item_id: last });
    this.#offerRetry();
  }

  #show(item, isGrowing = false) {
    this.#items.set(item.id, item);
    const made = rendered(item, (action, itemId) => this.act(action, itemId));
    if (!made) return;
    if (isGrowing) made.setAttribute("aria-busy", "true"); // a screen reader waits for the whole
    const shown = this.#elements.get(item.id);
    if (shown) shown.replaceWith(made);
    else this.#view.log.append(made);
    this.#elements.set(item.id, made);
    this.#view.log.scrollTop = this.#view.log.scrollHeight;
  }

  #update(id, change) {
    const item = this.#items.get(id);
    if (!item) return;
    update(item, change);
    this.#show(item, true);
  }

  #remove(id) {
    this.#items.delete(id);
    this.#elements.get(id)?.remove();
    this.#elements.delete(id);
  }

  #confirm(message) {
    if (this.#unconfirmed === null) return;
    this.#unconfirmed = null;
    this.#remove("unconfirmed");
    this.#options.onSend(textOf(message));
  }

  #forget() {
    [...this.#items.keys()].forEach((id) => this.#remove(id));
  }

  #setThread(id) {
    this.threadId = id;
    if (!this.#options.mirrors) rememberThread(id);
  }

  #setBusy(controller) {
    this.#busy = controller;
    const { root, stop } = this.#view;
    root.classList.toggle("busy", this.isBusy);
    this.#setRunsTool(false);
    if (stop) stop.hidden = !this.isBusy;
    if (this.isBusy) {
      this.#trouble(null);
      this.#progress("Working…");
    } else {
      for (const shown of this.#elements.values()) shown.removeAttribute("aria-busy");
      this.#options.onIdle();
    }
  }

  #setRunsTool(runsTool, waits) {
    this.#runsTool = runsTool;
    this.#view.root.classList.toggle("waits", Boolean(waits)); // for a person: nothing turns meanwhile
    if (this.isBusy) this.#progress(waits ?? "Working…");
    // not `disabled`, which would lose the focus
    this.#view.send?.setAttribute("aria-disabled", String(!this.#mayWrite));
  }

  #progress(text) {
    this.#view.progress.textContent = text;
  }

  /** Say what went wrong, with a button for what can be done about it; `null`: nothing is wrong. */
  #trouble(text, again) {
    const retry = () => {
      this.#trouble(null);
      this.#view.box?.focus();
      again();
    };
    const button = again && element("button", { type: "button", onclick: retry }, "Try again");
    this.#view.trouble.replaceChildren(...(text ? [element("p", {}, text)] : []), ...(button ? [button] : []));
  }

  #submit() {
    const { box } = this.#view;
    const text = box.value;
    if (!this.#mayWrite || !text.trim()) return;
    box.value = "";
    this.send(text);
  }

  #build(root) {
    const log = element("div", { class: "log", role: "log", "aria-label": "Conversation", tabindex: "0" });
    log.dataset.greeting = this.#options.greeting;
    const progress = element("p", { class: "progress", role: "status" });
    const trouble = element("div", { class: "trouble", role: "alert" });
    const state = element("div", { class: "state" }, progress);
    root.classList.add("chat");
    root.append(log, trouble, state);
    return { root, log, progress, trouble, ...(this.#options.mirrors ? {} : this.#buildForm(root, state)) };
  }

  #buildForm(root, state) {
    const stop = element("button", { type: "button", class: "stop", hidden: true, onclick: () => this.stop() }, "Stop");
    const box = element("textarea", { rows: 2, placeholder: "Write a message", "aria-label": "Message" });
    const send = element("button", { type: "submit", class: "send" }, "Send");
    const suggest = (text) => element("button", { type: "button", onclick: () => this.send(text) }, text);
    const startOver = element(
      "button",
      { type: "button", class: "plain-button", onclick: () => this.#startOver(box) },
      "New conversation",
    );
    const suggestions = element("div", { class: "suggestions" }, ...this.#options.suggestions.map(suggest));
    const form = element("form", { class: "composer" }, box, send);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    state.append(startOver, stop);
    root.append(suggestions, form);
    return { stop, box, send };
  }

  #startOver(box) {
    this.startOver();
    box.focus();
  }
}
