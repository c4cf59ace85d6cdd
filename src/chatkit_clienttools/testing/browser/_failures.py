"""What fails a test: each says what it was, and what had happened before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._transcript import Transcript


class FailedTestError(AssertionError):
    """Something that fails a test."""

    def __init__(self, what: str, transcript: Transcript) -> None:
        """Say what it was, and what had happened before."""
        self.what = what
        self.transcript = transcript
        super().__init__(f"{what}\n\nWhat had happened:\n{transcript}")


class BrokenStreamError(FailedTestError):
    """A response was not what ChatKit.js can take: it broke off, was an HTTP error, or not made of ChatKit's events."""


class BrokenLifecycleError(FailedTestError):
    """A server has done with client tool calls what it must not do."""


class FaultError(FailedTestError):
    """A fault that the test has asked for did not happen: the test did not try what it was written for."""


class HandlerError(FailedTestError):
    """The test's own handler of a client tool has failed, in a way that no page would report to the server."""


class MissingHandlerError(FailedTestError):
    """The server asks for a client tool that the page has no handler for."""

    def __init__(self, name: str, known: list[str], transcript: Transcript) -> None:
        """Name it, and those there are."""
        self.name = name
        super().__init__(f"The server asks for client tool {name!r}; the page has handlers for {known}", transcript)
