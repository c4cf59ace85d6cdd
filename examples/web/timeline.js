/** The life of each client tool call, as the server's observer has seen it. */

import { element } from "./dom.js";

/** Show the client tool calls of a thread in an `<ol>`, whenever `refresh(threadId)` is called. */
export function openTimeline(list) {
  let asked = 0;
  const refresh = async (threadId) => {
    const mine = ++asked;
    const steps = threadId ? await stepsOf(threadId) : [];
    if (mine === asked && steps) list.replaceChildren(...calls(steps).map(row)); // an older answer may come later
  };
  return { refresh };
}

async function stepsOf(threadId) {
  try {
    const response = await fetch(`timeline/${encodeURIComponent(threadId)}`);
    return response.ok ? await response.json() : null;
  } catch {
    return null; // the chat says that the server is away
  }
}

function calls(steps) {
  const byCall = new Map();
  for (const step of steps) byCall.set(step.call_id, [...(byCall.get(step.call_id) ?? []), step]);
  return [...byCall.values()];
}

function row(steps) {
  const { tool, call_id: id } = steps[0];
  const head = element("div", { class: "call-head" }, element("code", {}, tool), element("small", {}, id));
  return element("li", { class: "call" }, head, element("ol", { class: "steps" }, ...steps.map(chip)));
}

function chip({ state, previous, waited_ms: waited, at, reason }) {
  const time = new Date(at * 1000).toLocaleTimeString([], { hour12: false });
  const after = previous ? `+${waited} ms` : time;
  return element(
    "li",
    { class: `step ${state}`, title: `${time}${reason ? `: ${reason}` : ""}` },
    element("b", {}, state),
    ` ${after}`,
    reason && element("small", {}, ` ${reason}`),
  );
}
