/**
 * The official ChatKit.js, as its documentation shows it: the script, an `<openai-chatkit>` element, its options.
 *
 * A page needs to know more than ChatKit.js tells: that the user has written, what a thread has in it, when nothing more
 * will come. So it gets a `fetch` of ours, which does what `fetch` does, and looks at what goes by.
 */

import { RESUME, withReceipts } from "../client-tools.js";
import { rememberThread, threadInAddress } from "./address.js";
import { element } from "./dom.js";
import { isOpenCall } from "./items.js";
import { eventsIn, itemsOf } from "./wire.js";

const SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js";

/** How long it may take until ChatKit.js is there. */
const PATIENCE_MS = 6000;

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Open it in an element of the page, with the options of `openChat`; null if it cannot be loaded, or takes too long. */
export async function openOfficialChat(root, options) {
  const chat = new OfficialChat(options);
  let timer = 0;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("it takes too long")), PATIENCE_MS)));
  try {
    await Promise.race([chat.open(root), late]);
    return chat;
  } catch {
    chat.close();
    return null;
  } finally {
    clearTimeout(timer);
  }
}

function script() {
  const made = element("script", { src: SCRIPT, async: true });
  return new Promise((loaded, failed) => {
    made.addEventListener("load", loaded);
    made.addEventListener("error", () => failed(new Error("it cannot be loaded")));
    document.head.append(made);
  });
}

class OfficialChat {
  #options;
  #element = null;
  #closed = new AbortController();

  constructor(options) {
    this.#options = options;
    this.threadId = threadInAddress();
    this.isBusy = false;
  }

  async open(root) {
    await script();
    await customElements.whenDefined("openai-chatkit");
    const { signal } = this.#closed;
    if (signal.aborted) return;
    this.#element = document.createElement("openai-chatkit");
    const listen = (name, listener) => this.#element.addEventListener(`chatkit.${name}`, listener, { signal });
    listen("effect", ({ detail: { name, data } }) => this.#options.effects[name]?.(data));
    listen("thread.change", ({ detail: { threadId } }) => this.#showThread(threadId));
    listen("thread.load.end", ({ detail: { threadId } }) => this.#goOn(threadId));
    listen("error", ({ detail: { error } }) => console.error(error)); // it tells the user by itself
    const isReady = new Promise((ready) => listen("ready", ready));
    this.#setOptions();
    dark.addEventListener("change", () => this.#setOptions(), { signal });
    const theme = new MutationObserver(() => this.#setOptions()); // a client tool may switch it
    theme.observe(document.documentElement, { attributeFilter: ["style"] });
    signal.addEventListener("abort", () => theme.disconnect());
    root.append(this.#element);
    await isReady;
  }

  /** It is not wanted any more: another chat takes its place. */
  close() {
    this.#closed.abort();
    this.#element?.remove();
  }

  /** Show the thread as the server has it, and let it go on if a call is still open. */
  async load() {
    await this.#element.fetchUpdates();
    await this.#goOn(this.threadId);
  }

  #setOptions() {
    const { endpoint, tools, greeting, suggestions } = this.#options;
    this.#element.setOptions({
      api: {
        url: new URL(endpoint, location.href).href,
        domainKey: "local-dev",
        fetch: (address, request) => this.#fetch(address, request),
      },
      initialThread: threadInAddress(),
      onClientTool: withReceipts(tools),
      startScreen: { greeting, prompts: suggestions.map((text) => ({ label: text, prompt: text })) },
      theme: document.documentElement.style.colorScheme || (dark.matches ? "dark" : "light"),
    });
  }

  async #fetch(address, request) {
    const response = await fetch(address, request);
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      this.#watch(request, response.clone()).catch(console.error); // ChatKit.js has it all the same
    }
    return response;
  }

  /** Tell the page what is new. When a stream ends without a call for the page, nothing more will come. */
  async #watch(request, response) {
    const { onSend, onEvent, onIdle } = this.#options;
    let isCalled = false;
    this.isBusy = true;
    try {
      const { type, params } = JSON.parse(request.body);
      if (type === "threads.create" || type === "threads.add_user_message") {
        onSend(params.input.content.map(({ text = "" }) => text).join(""));
      }
      for await (const event of eventsIn(response)) {
        if (event.type === "thread.created") this.#showThread(event.thread.id);
        isCalled ||= event.type === "thread.item.done" && isOpenCall(event.item);
        onEvent(event);
      }
    } finally {
      this.isBusy = isCalled;
      if (!isCalled) onIdle();
    }
  }

  /** A thread was loaded. First the page shows what is in it; then the call that is open, if there is one, comes again. */
  async #goOn(threadId) {
    this.#showThread(threadId);
    this.#options.onItems(await itemsOf(this.#options.endpoint, threadId));
    await this.#element.sendCustomAction(RESUME);
  }

  #showThread(id) {
    if (this.threadId && !id) this.#options.onItems([]);
    this.threadId = id;
    rememberThread(id);
  }
}
