import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";
import { openTimeline } from "./web/timeline.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const moment = (ms) => new Promise((done) => setTimeout(done, calm.matches ? 0 : ms));
const breaks = document.querySelector("#break");

const STATES = {
  idle: "Ask Merak for people.",
  searching: "Searching…",
  choosing: "Choose one of them.",
  chosen: "Chosen. The answer is on its way…",
  done: "You have chosen.",
  nobody: "Nobody was found.",
  never: "Told to stop an animation that had never begun.",
  failed: "The page could not show them; the animation was stopped all the same.",
};

/** What the page shows besides the chat, and what the client tools do to it. */
class Stage {
  /** `strayStop` is what the stage shows when it is told to stop an animation that it has not begun. */
  constructor(root, strayStop) {
    this.root = root;
    this.strayStop = strayStop;
    this.round = 0;
    this.text = element("p", { role: "status", tabindex: "-1" });
    this.cards = element("ul", { class: "cards", "aria-label": "People" });
    this.score = element("p", { class: "score" });
    this.progress = element("p", { class: "so-far", "aria-hidden": "true" }); // the chat tells it to a screen reader
    const ring = element("div", { class: "ring", "aria-hidden": "true" });
    const words = element("div", {}, this.text, this.progress);
    root.append(element("div", { class: "stage-head" }, ring, words), this.cards, this.score);
    this.begin();
  }

  set(state) {
    this.root.dataset.state = state;
    this.text.textContent = STATES[state];
    this.progress.textContent = "";
  }

  get state() {
    return this.root.dataset.state;
  }

  /** Show people; with `choose`, each has a button that calls it. */
  show(people, { chosen, choose } = {}) {
    this.cards.replaceChildren(...people.map((person) => card(person, person.name === chosen, choose)));
  }

  /** The user has written. */
  begin() {
    this.round += 1; // a handler of the round before may still be at work
    this.ran = new Set();
    this.answers = 0;
    this.outcome = "nobody";
    this.score.textContent = "";
    this.show([]);
    this.set("idle");
  }

  /** The server has said something. */
  hear(event) {
    if (event.type === "thread.item.done" && event.item.type === "assistant_message") this.answers += 1;
    if (event.type === "progress_update" && this.state === "searching") this.progress.textContent = event.text;
    this.#count(false);
  }

  /** Show what the calls of a thread have done: they are not executed again when the page is loaded again. */
  restore(items) {
    this.begin();
    for (const item of items.slice(items.findLastIndex((one) => one.type === "user_message") + 1)) {
      if (item.type === "assistant_message") this.answers += 1;
      if (item.type === "client_tool_call" && item.status === "completed") this.#redo(item);
    }
    this.end();
  }

  #redo({ name, arguments: params, output }) {
    if (name === "run_search_animation") this.animate(params);
    else if (output?.error) this.failed();
    else this.settle(params, output.name);
  }

  /** Nothing more will come. */
  end() {
    if (["searching", "choosing", "chosen"].includes(this.state)) this.set("idle");
    this.#count(true);
  }

  /** Say how many client tools have reached the page; what is missing is lost when nothing more will come. */
  #count(isOver) {
    if (!this.ran.size) return;
    const wanted = this.state === "nobody" ? 2 : 3;
    const answers = `${this.answers} ${this.answers === 1 ? "answer" : "answers"} in words`;
    const soFar = isOver && this.answers ? "" : " so far";
    this.score.textContent = `${this.ran.size} of ${wanted} client tools have reached the page${soFar}; ${answers}.`;
    this.score.classList.toggle("lost", !soFar && (this.ran.size < wanted || this.answers > 1));
  }

  animate({ state }) {
    if (state === "stop" && !this.ran.has("start") && this.strayStop === "idle") return; // of a search before this one
    this.ran.add(state);
    if (state === "start") this.set("searching");
    else this.set(this.ran.has("start") ? this.outcome : this.strayStop);
  }

  /** The user has chosen. */
  settle({ agents }, chosen) {
    this.ran.add("choice");
    this.outcome = "done";
    if (this.cards.contains(document.activeElement)) this.text.focus(); // its button goes
    this.show(agents, { chosen });
    this.set("chosen");
  }

  /** The people cannot be shown. */
  failed() {
    this.ran.add("choice");
    this.outcome = "failed";
  }

  /** Show the people; it is done when the user has chosen one. */
  choice(people) {
    this.ran.add("choice");
    this.set("choosing");
    this.#count(false);
    return new Promise((choose) => this.show(people, { choose }));
  }

  /** The page's client tools, by name: they take the moment that a person needs to see it. */
  tools = {
    run_search_animation: async (params) => {
      const { round } = this;
      await moment(params.state === "start" ? 0 : 400);
      if (round === this.round) this.animate(params);
    },
    choose_agent: async (params) => {
      await moment(400);
      if (breaks.checked) {
        this.failed();
        throw new Error("this page has no room for cards");
      }
      const name = await this.choice(params.agents);
      this.settle(params, name);
      return { name };
    },
  };
}

function card({ name, knows }, isChosen, choose) {
  const portrait = element("span", { class: "portrait", "aria-hidden": "true" }, name[0]);
  const text = element("span", {}, element("b", {}, name), knows);
  const mark = isChosen && element("span", { class: "mark" }, "chosen");
  const button =
    choose &&
    element("button", { type: "button", "aria-label": `Choose ${name}`, onclick: () => choose(name) }, "Choose");
  return element("li", { class: isChosen ? "person chosen" : "person" }, portrait, text, mark || null, button || null);
}

const compare = document.querySelector("#compare");
compare.addEventListener("change", () => {
  document.body.classList.toggle("comparing", compare.checked);
  document.querySelector("#plain").hidden = !compare.checked;
});

const plainStage = new Stage(document.querySelector("#plain .stage"), "never");
const plainChat = openChat(document.querySelector("#plain .chat"), {
  endpoint: "plain/chatkit",
  mirrors: true,
  tools: plainStage.tools,
  onSend: () => plainStage.begin(),
  onEvent: (event) => plainStage.hear(event),
  onIdle: () => plainStage.end(),
});

const stage = new Stage(document.querySelector("#ours .stage"), "idle");
const timeline = openTimeline(document.querySelector("#timeline"));
const chat = openChat(document.querySelector("#ours .chat"), {
  tools: stage.tools,
  greeting: "Ask Merak for people who know something. You choose one of them.",
  suggestions: ["Who knows about maritime law?", "Who knows the harbour?"],
  waits: { choose_agent: "Waiting for your choice." },
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

const server = document.querySelector(".server");
const tell = (text) => (server.querySelector("[role=status]").textContent = text);
const json = { "content-type": "application/json" };

/** Return the number of the process that serves, and whether another one takes its place when it dies. */
async function serving() {
  const response = await fetch("../server").catch(() => null);
  return response?.ok ? await response.json() : { process: null, restarts: false };
}

/** Kill the process, as a crash would, and wait for the next one. */
async function kill() {
  const before = (await serving()).process;
  tell(`Process ${before} is dead. Another one starts…`);
  await fetch("../server/kill", { method: "POST", headers: json, body: JSON.stringify({ process: before }) }).catch(() => {}); // it cannot answer
  let now = before;
  while (!now || now === before) {
    await new Promise((done) => setTimeout(done, 200));
    now = (await serving()).process;
  }
  tell(`Process ${before} was killed. Process ${now} has taken over.`);
  if (!chat.isBusy && chat.threadId) chat.load(); // what was cut off goes on; what waits for you waits on
}

serving().then(({ process, restarts }) => {
  server.hidden = !restarts;
  tell(`Process ${process} serves this page.`);
});
document.querySelector("#kill").addEventListener("click", kill);
