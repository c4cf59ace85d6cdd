/**
 * For the tests of the pages: an `<openai-chatkit>` in the place of OpenAI's, which cannot be loaded without a network.
 *
 * It has the events and methods of `@openai/chatkit` that the pages use, and speaks ChatKit's wire protocol with the
 * options that it is given. `window.used` says what it was given, and what it has emitted, for a test that compares
 * both with the types.
 */

window.used = { options: [], events: [], calls: [], emitted: [] };

customElements.define(
  "openai-chatkit",
  class extends HTMLElement {
    #options = null;
    #thread = null;

    addEventListener(type, ...rest) {
      used.events.push(type);
      super.addEventListener(type, ...rest);
    }

    setOptions(options) {
      used.options.push(options);
      this.#options = options;
    }

    async connectedCallback() {
      await new Promise((loaded) => setTimeout(loaded)); // its frame
      this.#emit("ready");
      if (this.#options.initialThread) await this.setThreadId(this.#options.initialThread);
    }

    async setThreadId(threadId) {
      this.#thread = threadId;
      this.replaceChildren();
      this.#emit("thread.change", { threadId });
      if (!threadId) return;
      this.#emit("thread.load.start", { threadId });
      await this.#fetchItems();
      this.#emit("thread.load.end", { threadId });
    }

    async fetchUpdates() {
      used.calls.push(["fetchUpdates"]);
      await this.#fetchItems();
    }

    async #fetchItems() {
      const response = await this.#post("threads.get_by_id", { thread_id: this.#thread });
      this.replaceChildren();
      for (const item of (await response.json()).items.data) this.#show(item);
    }

    async sendUserMessage({ text }) {
      const input = { content: [{ type: "input_text", text }], attachments: [], inference_options: {} };
      await this.#stream(this.#thread ? "threads.add_user_message" : "threads.create", { input });
    }

    async sendCustomAction(action) {
      used.calls.push(["sendCustomAction", action]);
      await this.#stream("threads.custom_action", { action });
    }

    #emit(name, detail) {
      if (detail) used.emitted.push([`chatkit.${name}`, detail]);
      this.dispatchEvent(new CustomEvent(`chatkit.${name}`, { detail }));
    }

    async #post(type, params) {
      const { url, fetch = window.fetch.bind(window) } = this.#options.api;
      const headers = { "content-type": "application/json" };
      return await fetch(url, { method: "POST", headers, body: JSON.stringify({ type, params }) });
    }

    async #stream(type, params) {
      this.#emit("response.start");
      const response = await this.#post(type, this.#thread ? { thread_id: this.#thread, ...params } : params);
      const frames = (await response.text()).split("\n\n").filter((frame) => frame.startsWith("data:"));
      const events = frames.map((frame) => JSON.parse(frame.slice("data:".length)));
      for (const event of events) {
        if (event.type === "thread.created") this.#thread = event.thread.id;
        if (event.type === "thread.created") this.#emit("thread.change", { threadId: this.#thread });
        if (event.type === "thread.item.done") this.#show(event.item);
        if (event.type === "client_effect") this.#emit("effect", { name: event.name, data: event.data });
      }
      this.#emit("response.end");
      for (const { item } of events) if (item?.type === "client_tool_call" && item.status === "pending") await this.#run(item);
    }

    async #run({ name, arguments: params }) {
      const result = await this.#options.onClientTool({ name, params });
      await this.#stream("threads.add_client_tool_output", { result });
    }

    #show({ type, content }) {
      if (!["user_message", "assistant_message"].includes(type)) return;
      const text = content.map((part) => part.text).join("");
      this.append(Object.assign(document.createElement("p"), { className: type, textContent: text }));
    }
  },
);
