"""What client-tools.js promises of reloads, storages and tabs, in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkit_clienttools import frontend

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

URL = "https://example.com/"
SANDBOX = {"content-security-policy": "sandbox allow-scripts"}

PAGE = """\
<!doctype html>
<script type="module">
  import { withReceipts } from "./client-tools.js";

  window.executed = [];
  window.pick = (options, handler = () => "done") => {
    const onClientTool = withReceipts(({ params }) => { executed.push(params); return handler(params); }, options);
    return (receipt, params) => onClientTool({ name: "pick", params: { ...params, _receipt: receipt } });
  };
  window.ready = true;
</script>
"""

DONE = {"_receipt": "call_1", "result": "done"}


async def opened(page: Page, headers: dict[str, str] | None = None) -> Page:
    """Open a page that has the module. Its host is not asked: every request is answered here."""

    async def answer(route: Route) -> None:
        if route.request.url == f"{URL}client-tools.js":
            # a sandboxed page has no origin: it may load a module only from a server that says so
            await route.fulfill(path=frontend.path(), headers={"access-control-allow-origin": "*"})
        else:
            await route.fulfill(body=PAGE, content_type="text/html", headers=headers or {})

    await page.route(f"{URL}**", answer)
    await page.goto(URL)
    return await loaded(page)


async def loaded(page: Page) -> Page:
    await page.wait_for_function("window.ready")
    return page


async def reloaded(page: Page) -> Page:
    await page.reload()
    return await loaded(page)


async def run(page: Page, script: str) -> Any:
    return await page.evaluate(f"async () => {{ {script} }}")


async def test_an_answer_survives_a_reload(page: Page) -> None:
    """What was answered before the reload is answered after it, and not executed."""
    deliver = 'return [await pick()("call_1"), executed.length]'
    await opened(page)
    before = await run(page, deliver)

    await reloaded(page)

    assert [DONE, 1] == before
    assert [DONE, 0] == await run(page, deliver)


async def test_a_call_that_was_not_answered_is_executed_again(page: Page) -> None:
    """A reload while the handler runs: nobody knows how far it came, so the new page executes the call."""
    await opened(page)
    await run(page, 'pick({}, () => new Promise(() => {}))("call_1")')

    await reloaded(page)

    assert [DONE, 1] == await run(page, 'return [await pick()("call_1"), executed.length]')


async def test_deliveries_at_once_are_executed_once(page: Page) -> None:
    """Deliveries of one receipt that overlap share one execution."""
    at_once = 'const it = pick(); return [await Promise.all([it("call_1"), it("call_1")]), executed.length]'
    await opened(page)

    assert [[DONE, DONE], 1] == await run(page, at_once)


async def test_a_full_storage_leaves_the_page_its_memory(page: Page) -> None:
    """Where others have used up the quota, a receipt is still executed once, for as long as the page lives."""
    await opened(page)
    await run(
        page,
        """
        for (let size = 2 ** 24; size >= 1; size /= 2) {
          try { for (;;) sessionStorage.setItem(`theirs${sessionStorage.length}`, "x".repeat(size)); } catch {}
        }
        """,
    )

    twice = 'const it = pick(); return [await it("call_1"), await it("call_1"), executed.length]'

    assert [DONE, DONE, 1] == await run(page, twice)
    assert [DONE, DONE, 1] == await run(await reloaded(page), twice)


async def test_the_newest_answers_have_the_room(page: Page) -> None:
    """Where our own answers have used up the quota, the newest one takes the place of the oldest."""
    await opened(page)
    await run(
        page,
        """
        const it = pick({}, () => "x".repeat(2 ** 20));
        for (let n = 1; n <= 12; n++) await it(`call_${n}`);
        """,
    )

    await reloaded(page)
    await run(page, 'const it = pick(); await it("call_12", { n: 12 }); await it("call_1", { n: 1 })')

    assert [{"n": 1}] == await run(page, "return executed")


async def test_an_answer_too_big_is_remembered_by_the_page_alone(page: Page) -> None:
    """An answer beyond the quota is given again on this page, and the others are still there after a reload."""
    await opened(page)

    assert [2**23, 2**23, 1] == await run(
        page,
        """
        await pick()("call_1");
        executed.length = 0;
        const it = pick({}, () => "x".repeat(2 ** 23));
        return [(await it("call_2")).result.length, (await it("call_2")).result.length, executed.length];
        """,
    )
    assert [DONE, 0] == await run(await reloaded(page), 'return [await pick()("call_1"), executed.length]')


async def test_a_forbidden_storage_leaves_the_page_its_memory(page: Page) -> None:
    """In a sandboxed frame the browser throws at the word `sessionStorage`; a receipt is still executed once."""
    await opened(page, SANDBOX)

    assert ["SecurityError", [DONE, DONE], 1] == await run(
        page,
        """
        let forbidden;
        try { sessionStorage; } catch (error) { forbidden = error.name; }
        const it = pick();
        return [forbidden, [await it("call_1"), await it("call_1")], executed.length];
        """,
    )


async def test_each_tab_executes_for_itself(page: Page) -> None:
    """A call that is delivered to two tabs is executed in both: each shows its own page."""
    deliver = 'return [await pick()("call_1"), executed.length]'
    await opened(page)
    other = await opened(await page.context.new_page())

    assert [[DONE, 1], [DONE, 1]] == [await run(page, deliver), await run(other, deliver)]


async def test_tabs_can_share_what_was_answered(page: Page) -> None:
    """With localStorage a call that one tab has answered is not executed by another."""
    deliver = 'return [await pick({ storage: localStorage })("call_1"), executed.length]'
    await opened(page)
    other = await opened(await page.context.new_page())

    assert [[DONE, 1], [DONE, 0]] == [await run(page, deliver), await run(other, deliver)]
