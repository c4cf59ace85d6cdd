/** ChatKit's wire protocol: every request is one POST; what is streamed comes back as server-sent events. */

/** The server could not be reached, or went away in the middle of its answer. */
export class Away extends Error {}

/** The server has answered, and the answer is no. */
export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** Post a request that is answered at once. */
export async function ask(endpoint, type, params, signal) {
  return await (await post(endpoint, type, params, signal)).json();
}

/** Return the items of a thread, the oldest first. */
export async function itemsOf(endpoint, threadId, signal) {
  let page = (await ask(endpoint, "threads.get_by_id", { thread_id: threadId }, signal)).items;
  const items = page.data;
  while (page.has_more) {
    page = await ask(endpoint, "items.list", { thread_id: threadId, order: "asc", after: page.after }, signal);
    items.push(...page.data);
  }
  return items;
}

/** Post a request that is answered by a stream; yield its events. */
export async function* events(endpoint, type, params, signal) {
  yield* eventsIn(await post(endpoint, type, params, signal));
}

/** Yield the events of a stream. */
export async function* eventsIn(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (;;) {
      const { done, value } = await unlessAway(reader.read());
      if (done) return;
      const frames = (rest + value).split(/\r?\n\r?\n/);
      rest = frames.pop();
      yield* frames.map(dataOf).filter(Boolean).map((data) => JSON.parse(data));
    }
  } finally {
    reader.cancel().catch(() => {}); // it is broken, or has ended
  }
}

async function post(endpoint, type, params, signal) {
  const body = JSON.stringify({ type, params });
  const headers = { "content-type": "application/json" };
  const response = await unlessAway(fetch(endpoint, { method: "POST", headers, body, signal }));
  if (response.status >= 500) throw new Away(`the server failed (${response.status})`);
  if (!response.ok) throw new Refused(response.status, await reasonOf(response));
  return response;
}

async function unlessAway(reached) {
  try {
    return await reached;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("the server is away", { cause: error });
  }
}

async function reasonOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).detail ?? text;
  } catch {
    return text;
  }
}

function dataOf(frame) {
  const lines = frame.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice("data:".length).trimStart()).join("\n");
}
