/** The items of a thread, as elements: messages, and the widgets that demos use. */

import { element } from "./dom.js";

const SPEAKER = { user_message: "You", assistant_message: "Assistant", widget: "Card" };

/** Whether an item is a client tool call that the page has to answer. */
export function isOpenCall(item) {
  return item.type === "client_tool_call" && item.status === "pending";
}

/** Return the element of an item, or null for what a chat does not show. */
export function rendered(item, act) {
  if (!(item.type in SPEAKER)) return null;
  const speaker = element("span", { class: "speaker" }, `${SPEAKER[item.type]}: `);
  return element("article", { class: `item ${item.type}`, "data-id": item.id }, speaker, bodyOf(item, act));
}

/** Change an item as an event says. */
export function update(item, change) {
  switch (change.type) {
    case "assistant_message.content_part.added":
    case "assistant_message.content_part.done":
      item.content[change.content_index] = change.content;
      break;
    case "assistant_message.content_part.text_delta":
      item.content[change.content_index].text += change.delta;
      break;
    case "widget.root.updated":
      item.widget = change.widget;
      break;
    case "widget.component.updated":
      item.widget = replaced(item.widget, change.component_id, () => change.component);
      break;
    case "widget.streaming_text.value_delta":
      item.widget = replaced(item.widget, change.component_id, (old) => ({ ...old, value: old.value + change.delta }));
  }
}

function bodyOf(item, act) {
  if (item.type === "widget") return widget(item.widget, (action) => act(action, item.id));
  return element("p", {}, item.content.map((part) => part?.text ?? "").join(""));
}

function replaced(node, id, made) {
  if (node.id === id) return made(node);
  return node.children ? { ...node, children: node.children.map((child) => replaced(child, id, made)) } : node;
}

/** The widgets that are more than a box around their children. */
const WIDGETS = {
  Title: ({ value }) => element("h3", {}, value),
  Text: ({ value }) => element("p", {}, value),
  Markdown: ({ value }) => element("p", {}, value),
  Caption: ({ value }) => element("small", {}, value),
  Badge: ({ label }) => element("span", { class: "badge" }, label),
  Divider: () => element("hr"),
  Spacer: () => element("span", { class: "spacer" }),
  Button: ({ label, onClickAction }, act) =>
    element("button", { type: "button", onclick: () => onClickAction && act(onClickAction) }, label ?? ""),
};

function widget(node, act) {
  if (node.type in WIDGETS) return WIDGETS[node.type](node, act);
  const children = (node.children ?? []).map((child) => widget(child, act));
  return element("div", { class: `widget-${node.type}` }, ...children);
}
