import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";
import { openTimeline } from "./web/timeline.js";
import { ask } from "./web/wire.js";

const part = (selector) => document.querySelector(selector);
const said = () => {}; // what went wrong is on the page already

/** Whose list it is. Who has no cookie yet gets one with this answer: everything else is asked afterwards. */
async function tellUser() {
  part("#user").textContent = (await load("user")).name;
}

async function showTasks() {
  const tasks = await load("tasks");
  part(".tasks").replaceChildren(...tasks.map(row));
  part(".empty").hidden = tasks.length > 0;
}

function row({ id, title, done }) {
  const mark = done ? element("span", { class: "mark" }, "✓ done") : null;
  const name = element("b", {}, title);
  return element("li", { class: done ? "task is-done" : "task", "data-id": id }, element("small", {}, `${id}.`), name, mark);
}

function highlight(id) {
  for (const task of part(".tasks").children) task.classList.toggle("highlighted", task.dataset.id === String(id));
  const task = part(".highlighted");
  task?.scrollIntoView({ block: "nearest" });
  part(".list [role=status]").textContent = task ? `Changed: ${task.textContent}` : "";
}

async function load(path, method = "GET") {
  const headers = method === "GET" ? {} : { "content-type": "application/json" };
  const response = await fetch(path, { method, headers });
  if (!response.ok) throw new Error(`the server has answered ${response.status}`);
  return await response.json();
}

/** Do what needs the server. If that fails the page says so, with a button to try it again. */
async function attempt(work) {
  const trouble = part(".list [role=alert]");
  trouble.replaceChildren();
  try {
    await work();
  } catch (error) {
    const again = element("button", { type: "button", onclick: () => attempt(work).catch(said) }, "Try again");
    trouble.replaceChildren(element("p", {}, "The server is away. Your tasks are kept."), again);
    throw error;
  }
}

/** Open the user's last conversation, unless the address names one: it is there after a restart of the server, too. */
async function findConversation() {
  const url = new URL(location.href);
  if (url.searchParams.has("thread")) return;
  const { data } = await ask("chatkit", "threads.list", { limit: 1, order: "desc" });
  if (data.length) url.searchParams.set("thread", data[0].id);
  history.replaceState(null, "", url);
}

async function start() {
  await tellUser();
  await showTasks();
  await findConversation();
  const timeline = openTimeline(part("#timeline"));
  const chat = openChat(part("#chat"), {
    greeting: "Say what is to be done.",
    suggestions: ["hi", "add buy milk", "show me all tasks", "finish milk"],
    tools: {
      refresh_tasks: () => attempt(showTasks),
      highlight_task: ({ task_id: id }) => highlight(id),
    },
    onItems: () => showTasks().catch(said), // another tab may have changed them
    onEvent: () => timeline.refresh(chat.threadId),
    onIdle: () => timeline.refresh(chat.threadId),
  });
}

async function becomeAnotherUser() {
  await load("user/another", "POST");
  location.assign(location.pathname); // without the thread: it was the other user's
}

part("#another").addEventListener("click", () => attempt(becomeAnotherUser).catch(said));
attempt(start).catch(said);
