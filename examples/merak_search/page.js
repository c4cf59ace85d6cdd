import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";
import { openTimeline } from "./web/timeline.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const moment = (ms) => new Promise((done) => setTimeout(done, calm.matches ? 0 : ms));
const breaks = document.querySelector("#break");

const STATES = {
  idle: "Ask Merak for people.",
  searching: "Searching…",
  found: "Found. The answer is on its way…",
  showing: "Putting them on stage…",
  done: "That is everybody.",
  nobody: "Nobody was found.",
  never: "Told to stop an animation that had never begun.",
  failed: "The page could not show them; the animation was stopped all the same.",
};

/** What the page shows besides the chat, and what the client tools do to it. */
class Stage {
  constructor(root) {
    this.root = root;
    this.text = element("p", { role: "status" });
    this.cards = element("ul", { class: "cards", "aria-label": "People" });
    this.score = element("p", { class: "score" });
    const ring = element("div", { class: "ring", "aria-hidden": "true" });
    root.append(element("div", { class: "stage-head" }, ring, this.text), this.cards, this.score);
    this.begin();
  }

  set(state) {
    this.root.dataset.state = state;
    this.text.textContent = STATES[state];
  }

  get state() {
    return this.root.dataset.state;
  }

  show(people) {
    this.cards.replaceChildren(...people.map(card));
  }

  /** The user has written. */
  begin() {
    this.ran = new Set();
    this.answers = 0;
    this.hasFailed = false;
    this.score.textContent = "";
    this.show([]);
    this.set("idle");
  }

  /** The server has said something. */
  hear(event) {
    if (event.type === "thread.item.done" && event.item.type === "assistant_message") this.answers += 1;
  }

  /** Show what the calls of a thread have done: they are not executed again when the page is loaded again. */
  restore(items) {
    this.begin();
    for (const item of items.slice(items.findLastIndex((one) => one.type === "user_message") + 1)) {
      if (item.type === "assistant_message") this.answers += 1;
      if (item.type === "client_tool_call" && item.output?.error) this.failed();
      else if (item.type === "client_tool_call") this.does[item.name](item.arguments);
    }
    this.end();
  }

  /** Nothing more will come. */
  end() {
    if (this.state === "searching" || this.state === "found") this.set("idle");
    if (!this.ran.size) return;
    const answers = `${this.answers} ${this.answers === 1 ? "answer" : "answers"} in words`;
    this.score.textContent = `${this.ran.size} of 3 client tools have reached the page; ${answers}.`;
    this.score.classList.toggle("lost", this.ran.size < 3 || this.answers > 1);
  }

  /** The people cannot be shown. */
  failed() {
    this.ran.add("profiles");
    this.hasFailed = true;
  }

  /** What each client tool does to the stage. */
  does = {
    run_search_animation: ({ state }) => {
      this.ran.add(state);
      if (state === "start") this.set("showing");
      else if (this.state !== "showing") this.set("never");
      else if (this.hasFailed) this.set("failed");
      else this.set(this.cards.children.length ? "done" : "nobody");
    },
    display_agent_profiles: ({ agents }) => {
      this.ran.add("profiles");
      this.show(agents);
    },
  };

  /** The page's client tools, by name: they take the moment that a person needs to see it. */
  tools = {
    run_search_animation: async (params) => {
      await moment(400);
      this.does.run_search_animation(params);
    },
    display_agent_profiles: async (params) => {
      await moment(600);
      if (breaks.checked) {
        this.failed();
        throw new Error("this page has no room for cards");
      }
      this.does.display_agent_profiles(params);
      await moment(400);
    },
  };

  /** The page's client effects: to be seen while the server searches. */
  effects = {
    search_indicator: ({ on }) => this.set(on ? "searching" : "found"),
  };
}

function card({ name, knows }) {
  const portrait = element("span", { class: "portrait", "aria-hidden": "true" }, name[0]);
  return element("li", { class: "person" }, portrait, element("span", {}, element("b", {}, name), knows));
}

const compare = document.querySelector("#compare");
compare.addEventListener("change", () => {
  document.body.classList.toggle("comparing", compare.checked);
  document.querySelector("#plain").hidden = !compare.checked;
});

const plainStage = new Stage(document.querySelector("#plain .stage"));
const plainChat = openChat(document.querySelector("#plain .chat"), {
  endpoint: "plain/chatkit",
  mirrors: true,
  tools: plainStage.tools,
  onSend: () => plainStage.begin(),
  onEvent: (event) => plainStage.hear(event),
  onIdle: () => plainStage.end(),
});

const stage = new Stage(document.querySelector("#ours .stage"));
const timeline = openTimeline(document.querySelector("#timeline"));
const chat = openChat(document.querySelector("#ours .chat"), {
  tools: stage.tools,
  effects: stage.effects,
  suggestions: ["Who knows about maritime law?", "Who knows the harbour?"],
  onSend: (text) => {
    stage.begin();
    if (compare.checked) plainChat.send(text);
  },
  onItems: (items) => {
    stage.restore(items);
    plainStage.begin();
    plainChat.startOver(); // plain ChatKit is shown from now on
  },
  onEvent: (event) => {
    stage.hear(event);
    timeline.refresh(chat.threadId);
  },
  onIdle: () => {
    stage.end();
    timeline.refresh(chat.threadId);
  },
});
