import { openChat } from "./web/chat.js";
import { element } from "./web/dom.js";
import { openTimeline } from "./web/timeline.js";

const facts = document.querySelector("#facts");
const scheme = document.querySelector("#scheme");

/** The page's client tools, by name. */
const tools = {
  record_fact: ({ text }) => {
    const isKnown = [...facts.children].some((fact) => fact.textContent === text);
    if (!isKnown) facts.append(element("li", {}, text));
  },
  switch_theme: (theme) => {
    document.documentElement.style.colorScheme = theme.scheme;
    scheme.textContent = theme.scheme;
  },
};

/** Show what the calls of a thread have done: they are not executed again when the page is loaded again. */
function restore(items) {
  facts.replaceChildren();
  document.documentElement.style.colorScheme = "";
  scheme.textContent = "as your system";
  for (const item of items) if (item.type === "client_tool_call") tools[item.name](item.arguments);
}

const timeline = openTimeline(document.querySelector("#timeline"));
const chat = openChat(document.querySelector("#chat"), {
  tools,
  greeting: "Tell me something about yourself, and how the page is to look.",
  suggestions: ["I sail on Sundays. Make it dark.", "My boat is red. Light, please."],
  onItems: restore,
  onEvent: () => timeline.refresh(chat.threadId),
  onIdle: () => timeline.refresh(chat.threadId),
});
