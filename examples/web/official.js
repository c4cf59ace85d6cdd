/** The official ChatKit.js, from its own address: for those who are online. */

import { resumeOnLoad, withReceipts } from "../client-tools.js";
import { element } from "./dom.js";

const SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js";
const OFFLINE = "ChatKit.js could not be loaded from its address. Are you online? Our own chat needs no network:";

/** Open it in an element of the page, with the options of `openChat`. */
export function openOfficialChat(root, { endpoint = "chatkit", tools = {}, effects = {}, suggestions = [], ...on }) {
  const chatkit = document.createElement("openai-chatkit");
  const chat = { threadId: null, isBusy: false, send: (text) => chatkit.sendUserMessage({ text }) };
  const listen = (name, listener) => chatkit.addEventListener(`chatkit.${name}`, ({ detail }) => listener(detail));
  listen("thread.change", ({ threadId }) => (chat.threadId = threadId));
  listen("effect", ({ name, data }) => effects[name]?.(data));
  listen("response.start", () => (chat.isBusy = true));
  listen("response.end", () => {
    chat.isBusy = false;
    on.onIdle?.();
  });
  resumeOnLoad(chatkit);

  const script = element("script", { src: SCRIPT, async: true });
  script.addEventListener("load", () => customElements.whenDefined("openai-chatkit").then(() => open()));
  script.addEventListener("error", () => {
    const own = element("a", { href: location.pathname }, "open it");
    root.append(element("p", { class: "trouble", role: "alert" }, `${OFFLINE} `, own));
  });
  const open = () => {
    root.append(chatkit); // in the document it becomes what the script has defined
    chatkit.setOptions({
      api: { url: new URL(endpoint, location.href).href, domainKey: "local-dev" },
      onClientTool: withReceipts(tools),
      startScreen: { prompts: suggestions.map((text) => ({ label: text, prompt: text })) },
    });
  };
  root.classList.add("chat", "official");
  document.head.append(script);
  return chat;
}
