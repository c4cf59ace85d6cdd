// What Zensical leaves to be done for people who use a keyboard or a screen reader.
const improve = () => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) {
    const scrolls = table.scrollWidth > table.clientWidth; // then it can be scrolled by keyboard too
    if (scrolls) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
  }
  for (const buttons of document.querySelectorAll("nav.md-code__nav")) buttons.role = "none"; // it leads nowhere
};
new MutationObserver(improve).observe(document.body, { childList: true, subtree: true });
addEventListener("resize", improve);
