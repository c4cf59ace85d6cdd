/** The life of each client tool call, as the server has logged it. */

import { element } from "./dom.js";

const AGAIN_MS = 1000;
const OPEN = new Set(["queued", "pending", "sent again", "waits", "woken"]);

/**
 * Show the client tool calls of a thread in an `<ol>`, whenever `refresh(threadId)` is called.
 *
 * One request is on its way at a time, and asks only for steps that are new. Who wants a refresh meanwhile gets it with
 * the next one, so nothing is dropped because it comes late. While a call is open, it looks again every second: another
 * tab or another worker may have been at work.
 */
export function openTimeline(list) {
  let threadId = null;
  let steps = [];
  let isAsking = false;
  let isWanted = false;
  let timer = 0;

  const show = () => list.replaceChildren(...calls(steps).map(row));

  const refresh = async (wanted) => {
    if (wanted !== threadId) {
      [threadId, steps] = [wanted, []];
      show();
    }
    isWanted = true;
    if (isAsking) return;
    isAsking = true;
    clearTimeout(timer);
    while (isWanted && threadId) {
      isWanted = false;
      const asked = threadId;
      const news = await stepsOf(asked, steps.at(-1)?.number ?? 0);
      if (asked !== threadId || !news.length) continue;
      steps.push(...news);
      show();
    }
    isAsking = false;
    if (calls(steps).some(isOpen)) timer = setTimeout(() => refresh(threadId), AGAIN_MS);
  };
  return { refresh };
}

async function stepsOf(threadId, after) {
  try {
    const response = await fetch(`timeline/${encodeURIComponent(threadId)}?after=${after}`);
    return response.ok ? await response.json() : [];
  } catch {
    return []; // the chat says that the server is away
  }
}

function calls(steps) {
  const byCall = new Map();
  for (const step of steps) byCall.set(step.call_id, [...(byCall.get(step.call_id) ?? []), step]);
  return [...byCall.values()];
}

function isOpen(steps) {
  return OPEN.has(kindOf(steps.at(-1)));
}

/** The state, without what a tool waits for. */
function kindOf({ state }) {
  return state.startsWith("waits") ? "waits" : state;
}

function row(steps) {
  const { tool, call_id: id, item_id: item } = steps[0];
  const short = element("small", { title: id, class: "id" }, `…${id.slice(-6)}`);
  const head = element("div", { class: "call-head" }, element("code", {}, tool), item ? short : element("small", {}, "tool"));
  return element("li", { class: item ? "call" : "call server-tool" }, head, element("ol", { class: "steps" }, ...steps.map(chip)));
}

function chip(step) {
  const { state, waited_ms: waited, at, reason } = step;
  const time = new Date(at * 1000).toLocaleTimeString([], { hour12: false });
  const after = waited === null ? time : `+${duration(waited)}`;
  return element(
    "li",
    { class: `step ${kindOf(step).replace(" ", "-")}`, title: `${time}${reason ? `: ${reason}` : ""}` },
    element("b", {}, state),
    ` ${after}`,
    reason && element("small", {}, ` ${reason}`),
  );
}

function duration(ms) {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
