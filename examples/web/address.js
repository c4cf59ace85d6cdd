/** The page's address names the conversation, so that a reload, and another tab, show it. */

export function threadInAddress() {
  return new URLSearchParams(location.search).get("thread");
}

export function rememberThread(id) {
  const url = new URL(location.href);
  if (id) url.searchParams.set("thread", id);
  else url.searchParams.delete("thread");
  history.replaceState(null, "", url);
}

/** Which chat the address asks for: our own, or the official one if it can be had. */
export function wantsOwnChat() {
  return new URLSearchParams(location.search).get("chatkit") === "small";
}

/** The page's address with another chat. */
export function addressOf(chat) {
  const url = new URL(location.href);
  if (chat === "small") url.searchParams.set("chatkit", chat);
  else url.searchParams.delete("chatkit");
  return url.href;
}
