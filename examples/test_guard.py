"""What a demo refuses: other sites, other names of the server, long bodies. And it serves no source."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from agents.testing import ScriptedModel, assistant_message
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.testclient import TestClient

from examples import __main__, guard, offline, play, site
from examples.demo import NAMES, demos

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page

HERE = "http://127.0.0.1:8000"
EXAMPLES = Path(__file__).parent
ENDPOINTS = [f"/{name}/{endpoint}" for name in NAMES for endpoint in demos()[name].endpoints.values()]
JSON = {"content-type": "application/json"}
TEXT = {"content": [{"type": "input_text", "text": "Who knows about maritime law?"}], "attachments": []}
MESSAGE = json.dumps({"type": "threads.create", "params": {"input": {**TEXT, "inference_options": {}}}})
THREADS = {"type": "threads.list", "params": {"limit": 1000}}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """All demos on one server: to start the tools of the todo list takes a second."""
    with TestClient(site.application(), HERE) as client:
        yield client


def threads(client: TestClient) -> list[list[str]]:
    """The conversations that each server knows."""
    answers = [client.post(endpoint, json=THREADS).json() for endpoint in ENDPOINTS]
    return [[thread["id"] for thread in answer["data"]] for answer in answers]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain", "origin": "https://evil.example"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
        ({**JSON, "origin": "https://evil.example"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "origin": "http://127.0.0.1:3000"}, 403),
        ({**JSON, "origin": "https://127.0.0.1:8000"}, 403),
        ({**JSON, "origin": "http://localhost:8000"}, 403),
    ],
)
def test_a_message_from_another_site_is_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    """A message that the demo's own page has not posted, or that is no JSON, begins no conversation."""
    before = threads(client)

    answers = [client.post(endpoint, content=MESSAGE, headers=headers) for endpoint in ENDPOINTS]

    assert {status} == {answer.status_code for answer in answers}
    assert before == threads(client)


@pytest.mark.parametrize(
    "headers", [JSON, {**JSON, "origin": HERE}, {"content-type": "Application/JSON; charset=utf-8"}]
)
def test_a_message_from_its_own_page_is_served(client: TestClient, headers: dict[str, str]) -> None:
    """The demo's own page is served, and so is a program, which has no `Origin`."""
    before = threads(client)

    answers = [client.post(endpoint, content=MESSAGE, headers=headers) for endpoint in ENDPOINTS]

    assert {200} == {answer.status_code for answer in answers}
    assert [len(known) + 1 for known in before] == [len(known) for known in threads(client)]


def test_becoming_another_user_is_refused_to_another_site(client: TestClient) -> None:
    """What changes something is a POST, and keeps other sites out as the chat does."""
    url = "/todo/user/another"
    user = client.get("/todo/user").json()

    refused = [
        client.get(url).status_code,
        client.post(url).status_code,
        client.post(url, json={}, headers={"origin": "https://evil.example"}).status_code,
    ]

    assert [405, 415, 403] == refused
    assert user == client.get("/todo/user").json()
    assert user != client.post(url, json={}).json()


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "x@localhost", ""]
)
def test_an_unknown_name_is_refused(client: TestClient, host: str) -> None:
    """A site that lets its own name point to this machine can read nothing, and start nothing."""
    for url in ("/", "/web/chat.js", *[f"/{name}/" for name in NAMES], "/todo/tasks"):
        assert 403 == client.get(url, headers={"host": host}).status_code
    for endpoint in ENDPOINTS:
        headers = {**JSON, "host": host, "origin": f"http://{host}"}
        assert 403 == client.post(endpoint, content=MESSAGE, headers=headers).status_code


@pytest.mark.parametrize("name", NAMES)
def test_a_demo_by_itself_is_guarded_too(name: str) -> None:
    """A demo that is served without the site around it refuses the same."""
    with TestClient(site.app_of(name), HERE) as client:
        by_name = client.get("/", headers={"host": "evil.example"})
        by_text = client.post("/chatkit", content=MESSAGE, headers={"content-type": "text/plain"})

    assert (403, 415) == (by_name.status_code, by_text.status_code)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9999", "192.168.1.5:8000", "[::1]:8000"])
def test_localhost_and_addresses_are_known(client: TestClient, host: str) -> None:
    """No site can have an IP address, or localhost, for its name; the port may be a forwarded one."""
    own = {**JSON, "host": host, "origin": f"http://{host}"}

    assert 200 == client.get("/", headers={"host": host}).status_code
    assert 200 == client.post("/todo/chatkit", json=THREADS, headers=own).status_code


def test_more_names_can_be_given(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """DEMO_HOSTS has the names that the server has besides, and no part of a name is enough."""
    monkeypatch.setenv(guard.HOSTS, "box.example, Other.example")

    served = ["box.example:8000", "other.example", "localhost"]
    refused = ["example", "x.box.example", "box.example.evil.example", ""]

    assert [200] * 3 == [client.get("/", headers={"host": host}).status_code for host in served]
    assert [403] * 4 == [client.get("/", headers={"host": host}).status_code for host in refused]


def test_the_name_at_which_it_listens_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts it with `--host NAME` can open it by that name."""
    seen: list[int] = []

    def run(_: object) -> None:
        client = TestClient(site.application(), HERE)
        seen.extend(client.get("/", headers={"host": host}).status_code for host in ("box.example:80", "box2.example"))

    monkeypatch.setenv(guard.HOSTS, "")
    # no machine has that name
    monkeypatch.setattr(__main__, "_listening", lambda _, port: socket.create_server(("127.0.0.1", port)))
    monkeypatch.setattr("uvicorn.supervisors.Multiprocess.run", run)
    __main__.main(["--host", "box.example", "--port", "0"])

    assert [200, 403] == seen


def test_a_long_body_is_refused(client: TestClient) -> None:
    """More than 1 MiB is refused before it is parsed, whether its length is announced or not."""
    fits = json.dumps(THREADS).rjust(guard.MAX_BODY)

    def in_chunks() -> Iterator[bytes]:
        yield from [b"x" * 1024] * 1025

    for endpoint in ENDPOINTS:
        answers = [client.post(endpoint, content=body, headers=JSON) for body in (fits, f"{fits} ", in_chunks())]
        assert [200, 413, 413] == [answer.status_code for answer in answers]


async def test_a_long_body_is_refused_by_the_real_server(url: str) -> None:
    """The refusal of a body that is much too long arrives, and the next request is served."""
    async with httpx2.AsyncClient(headers=JSON) as client:
        refused = await client.post(f"{url}/merak_search/chatkit", content=b"x" * 8 * guard.MAX_BODY)
        served = await client.post(f"{url}/merak_search/chatkit", json=THREADS)

    assert (413, {"detail": "This is too long."}) == (refused.status_code, refused.json())
    assert 200 == served.status_code


def test_no_source_is_served(client: TestClient) -> None:
    """No Python file can be loaded, wherever it is, as it is or compiled."""
    files = [file for pattern in ("*.py", "*.pyc") for file in EXAMPLES.rglob(pattern)]
    paths = [file.relative_to(EXAMPLES).as_posix() for file in files]
    urls = [f"{folder}{path}" for path in paths for folder in ("/", "/web/%2e%2e/", "/todo/web/%2e%2e/")]
    urls += [f"{folder}web/__init__.py" for folder in ("/", *[f"/{name}/" for name in NAMES])]

    assert {404} == {client.get(url).status_code for url in urls}
    assert 200 == client.get("/web/chat.js").status_code


ATTACK = """async ([url, body]) => {
  const json = { "content-type": "application/json" };
  for (const options of [{ mode: "no-cors" }, { headers: json }]) {
    await fetch(url, { method: "POST", body, ...options }).catch(() => "refused");
  }
  document.body.innerHTML = `<iframe name="result"></iframe><form method="post" target="result"><input></form>`;
  const [frame, form] = document.body.children;
  Object.assign(form, { action: url, enctype: "text/plain" });
  [form.firstChild.name, form.firstChild.value] = body.split("="); // it posts them with a = between them
  const answered = new Promise((done) => { frame.onload = done; });
  form.submit();
  await answered;
}"""


async def test_another_page_in_the_same_browser_starts_nothing(
    calm: Page, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of another server posts with fetch and with a form, as text and as JSON: the model is not asked."""
    model = ScriptedModel([[assistant_message("There.", item_id=f"msg_{n}")] for n in range(5)])
    monkeypatch.setattr(offline.OfflineModel, "stream_response", model.stream_response)
    evil = FastAPI()
    evil.add_api_route("/", lambda: HTMLResponse("<!doctype html><title>Evil</title>"))
    posted: list[str] = []
    calm.on("request", lambda request: posted.append(request.method) if request.url.startswith(url) else None)

    async with play.serving(evil) as other:
        await calm.goto(other)
        await calm.evaluate(ATTACK, [f"{url}/merak_search/chatkit", MESSAGE.replace("?", "=?")])

    assert 2 <= posted.count("POST")
    assert 0 == len(model.calls)
