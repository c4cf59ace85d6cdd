import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";

const AWAY = "The server is away. Your tasks are kept.";

/** The user's tasks, as the server has them. */
class TaskList {
  #list;
  #empty;
  #status;
  #trouble;

  constructor(root) {
    this.#list = root.querySelector(".tasks");
    this.#empty = root.querySelector(".empty");
    this.#status = root.querySelector("[role=status]");
    this.#trouble = root.querySelector("[role=alert]");
  }

  async refresh() {
    const tasks = await ask("tasks");
    this.#list.replaceChildren(...tasks.map(row));
    this.#empty.hidden = tasks.length > 0;
  }

  highlight(id) {
    for (const shown of this.#list.children) {
      const isIt = shown.dataset.id === String(id);
      shown.classList.toggle("highlighted", isIt);
      if (!isIt) continue;
      shown.scrollIntoView({ block: "nearest" });
      this.#status.textContent = `Changed: ${shown.textContent}`;
    }
  }

  /** Say what went wrong, with a button to try it again. */
  failed(again) {
    const button = element("button", { type: "button", onclick: again }, "Try again");
    this.#trouble.replaceChildren(element("p", {}, AWAY), button);
  }
}

function row({ id, title, done }) {
  const mark = done ? element("span", { class: "mark" }, "✓ done") : null;
  return element(
    "li",
    { class: done ? "task is-done" : "task", "data-id": id },
    element("small", {}, `${id}.`),
    element("b", {}, title),
    mark,
  );
}

async function ask(path, method = "GET") {
  const response = await fetch(path, { method });
  if (!response.ok) throw new Error(`the server has answered ${response.status}`);
  return await response.json();
}

const list = new TaskList(document.querySelector(".list"));

/** The user first: who has no cookie yet gets one with that answer, and everything else is asked with it. */
async function start() {
  const { name } = await ask("user");
  document.querySelector("#user").textContent = name;
  await list.refresh();
  openChat(document.querySelector("#chat"), {
    suggestions: ["hi", "add buy milk", "show me all tasks", "finish milk"],
    tools: {
      refresh_tasks: () => list.refresh(),
      highlight_task: ({ task_id: id }) => list.highlight(id),
    },
  });
}

async function becomeAnotherUser() {
  await ask("user/another", "POST");
  location.assign(location.pathname);
}

document.querySelector("#another").addEventListener("click", () => becomeAnotherUser().catch(() => list.failed(reload)));
const reload = () => location.reload();
start().catch(() => list.failed(reload));
