"""What axe-core finds on a page that keeps somebody from using it: from npm, installed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers.typescript import installed

if TYPE_CHECKING:
    from playwright.async_api import Page

PACKAGE = "axe-core@4.14.1"
RUN = """async () => (await axe.run({ resultTypes: ["violations"] })).violations.flatMap(({ id, nodes }) =>
  nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}: ${failureSummary}`))"""


async def violations(page: Page) -> list[str]:
    """Return every violation of a rule, with the element, and with what is wrong."""
    if not await page.evaluate("'axe' in window"):
        script = installed((PACKAGE,)) / "axe-core" / "axe.min.js"
        await page.evaluate(script.read_text("utf-8"))
    found: list[str] = await page.evaluate(RUN)
    return found
