/**
 * Plays the two sides of the front page. Without this script, or where little motion is wanted, the page shows the end.
 *
 * `data-at` says when something is there, in milliseconds; `data-from` and `data-to` when a line of code is at work.
 */

const SLOWER = 1.5;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const button = document.querySelector("#play");
const parts = [...document.querySelectorAll("[data-at]")];
const lines = [...document.querySelectorAll(".line[data-to]")];
const end = Math.max(...parts.map(({ dataset }) => Number(dataset.at))) + 600;
let began = null;

function show(now) {
  for (const part of parts) part.classList.toggle("later", now < Number(part.dataset.at));
  for (const { classList, dataset } of lines) {
    classList.toggle("now", now >= Number(dataset.from) && now < Number(dataset.to));
  }
  for (const line of document.querySelectorAll(".line.gone")) {
    line.classList.toggle("not-yet", now < Number(line.dataset.from));
  }
}

function next(time) {
  if (began === null) return;
  const now = (time - began) / SLOWER - 500; // the user reads the question first
  show(now);
  if (now < end) requestAnimationFrame(next);
  else stop();
}

function play() {
  began = performance.now();
  button.textContent = "Show the end";
  requestAnimationFrame(next);
}

function stop() {
  began = null;
  show(Infinity);
  button.textContent = "Play again";
}

button.hidden = false;
button.addEventListener("click", () => (began === null ? play() : stop()));
if (!calm.matches) play();
