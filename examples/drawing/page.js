import { clientImage } from "./client-tools.js";
import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";
import { openTimeline } from "./web/timeline.js";

const COLOURS = {
  black: "#1f2430",
  red: "#dc2f3c",
  orange: "#ee8a1d",
  green: "#2b9a57",
  blue: "#3772e8",
  purple: "#9155d6",
};
const SHAPES = ["pen", "circle", "square", "triangle"];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const PEN = 14; // how thick a line is
const STAMP = 60; // from the middle of a stamp to its edge
const STEP = 30; // how far an arrow key moves
const KEPT = "drawing"; // the key of the marks in sessionStorage: a drawing outlasts a reload
const MAX_EDGE = 512; // that is enough to see what it is, and a small request

/** The paper: marks, each a line or a stamp, and a canvas that shows them. */
class Paper {
  #paint;
  #cursor;
  #at;
  #line = null;

  constructor(root, chosen) {
    this.canvas = root.querySelector("canvas");
    this.chosen = chosen;
    this.marks = kept();
    this.#paint = this.canvas.getContext("2d");
    this.#cursor = root.querySelector(".cursor");
    this.#moveTo([this.canvas.width / 2, this.canvas.height / 2]);
    this.canvas.addEventListener("pointerdown", (event) => this.#press(event));
    this.canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => this.#lift());
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#show();
  }

  undo() {
    this.marks.pop();
    this.#changed();
  }

  clear() {
    this.marks = [];
    this.#changed();
  }

  #press(event) {
    if (!event.isPrimary || event.button !== 0) return; // a second finger, or another button
    this.canvas.setPointerCapture(event.pointerId);
    this.#moveTo(this.#placeOf(event));
    this.#mark([this.#at]);
    if (this.chosen().shape === "pen") this.#line = this.marks.at(-1);
  }

  #drag(event) {
    if (!this.#line || !event.isPrimary) return;
    this.#moveTo(this.#placeOf(event));
    this.#line.points.push(this.#at);
    this.#show();
  }

  #lift() {
    this.#line = null;
    this.#changed();
  }

  #key(event) {
    const step = STEPS[event.key];
    if (step) {
      const before = this.#at;
      this.#moveTo(before.map((part, axis) => part + STEP * step[axis]));
      if (event.shiftKey) this.#mark([before, this.#at], "pen");
    } else if (event.key === " " || event.key === "Enter") {
      this.#mark([this.#at]);
    } else {
      return;
    }
    event.preventDefault(); // the page does not scroll
  }

  #mark(points, shape = this.chosen().shape) {
    this.marks.push({ ...this.chosen(), shape, points });
    this.#changed();
  }

  #placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * this.canvas.width, ((clientY - top) / height) * this.canvas.height];
  }

  #moveTo([x, y]) {
    const { width, height } = this.canvas;
    this.#at = [Math.round(Math.min(Math.max(x, 0), width)), Math.round(Math.min(Math.max(y, 0), height))];
    this.#cursor.style.left = `${(100 * this.#at[0]) / width}%`;
    this.#cursor.style.top = `${(100 * this.#at[1]) / height}%`;
  }

  #changed() {
    this.#show();
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.marks));
    } catch {
      // forbidden or full: then a reload begins with an empty paper
    }
  }

  #show() {
    const { width, height } = this.canvas;
    this.#paint.fillStyle = "#fff"; // what the assistant sees is on white, whatever the page looks like
    this.#paint.fillRect(0, 0, width, height);
    for (const mark of this.marks) this.#draw(mark);
  }

  #draw({ shape, colour, points }) {
    const paint = this.#paint;
    const [x, y] = points[0];
    Object.assign(paint, { fillStyle: colour, strokeStyle: colour, lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    paint.beginPath();
    if (shape === "circle") paint.arc(x, y, STAMP, 0, 2 * Math.PI);
    else if (shape === "square") paint.rect(x - STAMP, y - STAMP, 2 * STAMP, 2 * STAMP);
    else {
      paint.moveTo(x, shape === "triangle" ? y - STAMP : y);
      const ends = shape === "triangle" ? [[x + STAMP, y + STAMP], [x - STAMP, y + STAMP]] : points;
      for (const [toX, toY] of ends) paint.lineTo(toX, toY);
    }
    if (shape === "pen") paint.stroke();
    else paint.fill();
  }
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? [];
  } catch {
    return [];
  }
}

/** Let the user choose one of several; the function that is returned says which. */
function choice(root, names, sign = () => null) {
  const name = root.id;
  const inputs = names.map((value, n) => element("input", { type: "radio", name, value, checked: n === 0 }));
  root.append(...inputs.map((input) => element("label", {}, input, sign(input.value), input.value)));
  return () => inputs.find((input) => input.checked).value;
}

const root = document.querySelector("#drawing");
const seen = root.querySelector(".seen");
const swatch = (name) => element("i", { class: "swatch", style: `background: ${COLOURS[name]}` });
const colour = choice(root.querySelector("#colours"), Object.keys(COLOURS), swatch);
const shape = choice(root.querySelector("#shapes"), SHAPES);
const paper = new Paper(root, () => ({ shape: shape(), colour: COLOURS[colour()] }));
root.querySelector("#undo").addEventListener("click", () => paper.undo());
root.querySelector("#clear").addEventListener("click", () => paper.clear());

/** Show what was sent. */
function show({ data_url }) {
  const image = element("img", { src: data_url, alt: "The picture that the assistant has seen" });
  const size = `${Math.ceil(data_url.length / 1024)} KiB`;
  seen.replaceChildren(image, element("span", {}, `The assistant has seen this: ${size}.`));
}

const timeline = openTimeline(document.querySelector("#timeline"));

const chat = openChat(document.querySelector("#chat"), {
  greeting: "Draw something, and ask what it is.",
  suggestions: ["What have I drawn?", "Which colour have I used most?"],
  tools: {
    async get_drawing() {
      const image = await clientImage(paper.canvas, { maxEdge: MAX_EDGE });
      show(image);
      return { image, marks: paper.marks.length };
    },
  },
  onEvent: () => timeline.refresh(chat.threadId),
  onIdle: () => timeline.refresh(chat.threadId),
});
