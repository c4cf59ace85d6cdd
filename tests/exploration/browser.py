"""The browser: it runs each call it is sent, and posts the answers when the controller says so."""

from __future__ import annotations

from typing import Any, NamedTuple

from .scenario import answer_to

RECEIPT = "_receipt"


class Answer(NamedTuple):
    """What the browser posts for a call."""

    label: str
    result: Any


class Browser:
    """One page. With receipts it wraps its handlers as `withReceipts` does."""

    def __init__(self, *, failing: tuple[int, ...] = (), remembers: bool = True) -> None:
        self.failing = failing
        self.remembers = remembers
        self.waiting: list[Answer] = []
        self.posted: list[Answer] = []
        self.posts: dict[str, int] = {}
        self.delivered: list[str] = []
        self.executed: list[str] = []
        self.answers: dict[str, Answer] = {}

    def receive(self, event: dict[str, Any]) -> None:
        """Run a call that is streamed, unless this receipt has been run before."""
        item = event.get("item", {})
        if event["type"] != "thread.item.done" or item["type"] != "client_tool_call":
            return
        params = item["arguments"]
        receipt = params.get(RECEIPT)
        self.delivered.append(item["id"])
        if receipt is None or not self.remembers or receipt not in self.answers:
            self.executed.append(params["label"])
            answer = self._run(item["name"], params, receipt)
            self.answers[receipt or item["id"]] = answer
        else:
            answer = self.answers[receipt]
        if answer not in self.waiting:
            self.waiting.append(answer)

    def take(self, answer: Answer) -> int:
        """Post an answer; return how often this one has been posted."""
        if answer in self.waiting:
            self.waiting.remove(answer)
        if answer not in self.posted:
            self.posted.append(answer)
        self.posts[answer.label] = self.posts.get(answer.label, 0) + 1
        return self.posts[answer.label]

    def reload(self) -> None:
        """What has not been answered is forgotten; what has been run is not."""
        self.waiting.clear()

    @property
    def key(self) -> tuple[Any, ...]:
        waiting = tuple(answer.label for answer in self.waiting)
        return waiting, tuple(self.posts.items()), tuple(self.delivered), tuple(self.executed)

    def copy(self) -> Browser:
        other = Browser(failing=self.failing, remembers=self.remembers)
        other.waiting, other.posted, other.posts = [*self.waiting], [*self.posted], {**self.posts}
        other.delivered, other.executed, other.answers = [*self.delivered], [*self.executed], {**self.answers}
        return other

    def _run(self, name: str, params: dict[str, Any], receipt: str | None) -> Answer:
        label = params["label"]
        if params["n"] in self.failing:
            outcome: dict[str, Any] = {"error": label}
            return Answer(label, outcome if receipt is None else {RECEIPT: receipt, **outcome})
        outcome = answer_to(name, label)
        return Answer(label, outcome if receipt is None else {RECEIPT: receipt, "result": outcome})
