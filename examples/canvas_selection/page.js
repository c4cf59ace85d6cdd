import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";
import { openTimeline } from "./web/timeline.js";

const NODES = [
  { id: "n1", kind: "circle", colour: "red", size: 84 },
  { id: "n2", kind: "square", colour: "blue", size: 64 },
  { id: "n3", kind: "triangle", colour: "green", size: 76 },
  { id: "n4", kind: "square", colour: "orange", size: 44 },
  { id: "n5", kind: "triangle", colour: "purple", size: 56 },
  { id: "n6", kind: "circle", colour: "teal", size: 52 },
];

const FILLS = {
  red: "#dc2f3c",
  blue: "#3772e8",
  green: "#2b9a57",
  orange: "#ee8a1d",
  purple: "#9155d6",
  teal: "#1a9aa0",
};

const REST = ["Nothing is asked.", "Select what you like; the assistant asks for it when it needs it."];
const SILENT = ["The canvas keeps quiet.", "The assistant waits for an answer that never comes. Write again to go on."];
const PAINT = "the canvas is covered in paint";

/** The shapes, and the question that waits for a selection. */
class Canvas {
  #status;
  #done;
  #answer = null;

  constructor(root) {
    this.root = root;
    this.#status = root.querySelector("[role=status]");
    this.#done = element("button", { type: "button", class: "done", onclick: () => this.#answer?.() }, "Done");
    root.querySelector(".shapes").append(...NODES.map(shape));
    root.append(element("div", { class: "done-row" }, this.#done)); // after what is to be selected
    this.rest();
  }

  get selected() {
    const checked = [...this.root.querySelectorAll(".shape :checked")].map((box) => box.value);
    return NODES.filter((node) => checked.includes(node.id));
  }

  /** Ask for a selection; it is there when the user presses Done. */
  ask(question) {
    this.#say("waiting", ["Waiting for your selection.", question]);
    this.#done.hidden = false;
    return new Promise((resolve) => {
      this.#answer = () => {
        this.rest();
        resolve({ nodes: this.selected });
      };
    });
  }

  /** Ask, and never answer. */
  keepQuiet() {
    this.#say("waiting", SILENT);
    return new Promise(() => {});
  }

  /** Ask for nothing, or for nothing any more. */
  rest() {
    this.#answer = null;
    if (document.activeElement === this.#done) this.#status.focus(); // it goes
    this.#done.hidden = true;
    this.#say("resting", REST);
  }

  #say(state, [head, text]) {
    this.root.dataset.state = state;
    this.#status.replaceChildren(element("b", {}, head), text);
    if (state === "waiting") this.root.scrollIntoView({ block: "nearest" }); // on a phone it is below the chat
  }
}

function shape({ id, kind, colour, size }) {
  const box = element("input", { type: "checkbox", value: id });
  const drawn = element("i", { class: kind, style: `width: ${size}px; background: ${FILLS[colour]}` });
  return element("label", { class: "shape" }, box, drawn, element("span", {}, `${colour} ${kind}`));
}

const canvas = new Canvas(document.querySelector("#canvas"));
const faults = document.querySelector("#faults");

const timeline = openTimeline(document.querySelector("#timeline"));

const chat = openChat(document.querySelector("#chat"), {
  greeting: "Ask about the shapes. You select which ones you mean.",
  waits: { get_selected_canvas_nodes: "Waiting for your selection." },
  suggestions: ["What have I selected?", "Which of these is the largest?"],
  tools: {
    get_selected_canvas_nodes({ ask }) {
      const fault = faults.querySelector(":checked").value;
      if (fault === "fails") throw new Error(PAINT);
      return fault === "silent" ? canvas.keepQuiet() : canvas.ask(ask);
    },
  },
  onSend: () => canvas.rest(),
  onEvent: () => timeline.refresh(chat.threadId),
  onIdle: () => {
    canvas.rest();
    timeline.refresh(chat.threadId);
  },
});
