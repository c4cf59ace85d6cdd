"""What may have become of the client tool calls of one thread: a dull oracle for the lifecycle.

It shares no code with what it is held against. Where a request was cut off nobody can say how far the server has got;
so the oracle does not keep one state but every state that is possible, a `World` each, and drops those that do not fit
what is seen. When none is left, the server has done what it must not do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from chatkit_clienttools import ClientTool

Name = str
Key = str
"""What a call is known by to the page: its receipt, or the id of its item."""


@dataclass(frozen=True)
class Asked:
    """A call that was asked for."""

    name: Name
    is_recent: bool
    """Whether that was since the user's last message: a retry starts over without it."""
    key: Key | None = None
    """What the page was given it as, last."""


@dataclass(frozen=True)
class World:
    """One state that a thread may be in."""

    waiting: tuple[Asked, ...] = ()
    """The calls that are not settled, in order."""
    is_out: bool = False
    """Whether the page has the first of them."""
    runs: int = 0
    model_knows: bool = True
    """Whether the model knows all the answers that were wanted."""
    erasable: tuple[Asked, ...] = ()
    """Required calls of older messages that were settled since the last one: a retry removes what is known of them."""

    @property
    def aged(self) -> World:
        """The same after a message: whatever waits was asked for before it."""
        return replace(self, waiting=tuple(replace(call, is_recent=False) for call in self.waiting))

    @property
    def first(self) -> list[Key | None]:
        """What the page knows the first of them by."""
        return [call.key for call in self.waiting[:1]]

    @property
    def pending(self) -> list[Key | None]:
        """What the page has and has not answered: one call, or none."""
        return self.first if self.is_out else []


Change = Callable[[World], Iterable[World]]


class ImpossibleError(Exception):
    """No world fits what was seen."""


class Oracle:
    """Every world that is possible."""

    def __init__(
        self,
        tools: Iterable[ClientTool[..., Any]],
        on_user_message: Literal["cancel", "keep"],
        on_failure: Literal["continue", "abort"],
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._keeps = on_user_message == "keep"
        self._aborts = on_failure == "abort"
        self.worlds = {World()}

    def became(self, done: Change, *, cut_off: Change | None = None) -> None:
        """A request was answered; or cut off, and did nothing, all or something of what it does."""
        before = self.worlds
        self.worlds = {new for world in before for new in done(world)}
        if cut_off is not None:
            self.worlds |= before | {new for world in before for new in cut_off(world)}

    def message(self, names: Iterable[Name], *, retried: bool = False) -> Change:
        """The user writes, or wants the last message answered again."""

        def change(world: World) -> Iterable[World]:
            for begun in self.begins(retried=retried)(world):
                yield self._asks(begun, names)

        return change

    def begins(self, *, retried: bool = False) -> Change:
        """The run of a message has begun: what was open is cancelled, or kept."""

        def change(world: World) -> Iterable[World]:
            older = tuple(call for call in world.waiting if not call.is_recent)
            waiting = older if retried else world.aged.waiting
            new = replace(world, runs=world.runs + 1, model_knows=True, erasable=())
            for n in range(len(world.erasable) if retried else 0):
                # the first of them may have been out when the message came, and stand before it
                erased = (*world.erasable[n:], *(call for call in waiting if self._is_required(call)))
                yield replace(new, waiting=erased, is_out=False)
            if not self._keeps:
                waiting = tuple(call for call in waiting if self._is_required(call))
            else:
                yield replace(new, waiting=waiting, is_out=world.is_out)
            yield replace(new, waiting=waiting, is_out=False)

        return change

    def cut_message(self, world: World) -> Iterable[World]:
        """A message was stored, and the request cut off: before calls were cancelled, before the run, or in it.

        Cancelling is one step, and a step that has begun comes to its end.
        """
        yield world.aged
        yield replace(world.aged, is_out=False)  # older ChatKits remove a pending call themselves
        for begun in self.begins()(world):
            yield replace(begun, runs=world.runs, model_knows=world.model_knows)
            yield replace(begun, model_knows=world.model_knows)  # half a run tells it nothing
            yield begun

    def action(self, names: Iterable[Name]) -> Change:
        """The user presses a button."""
        return lambda world: [self._asks(replace(world, runs=world.runs + 1), names)]

    def answer(self, key: Key, *, fails: bool, may_still_run: bool = False) -> Change:
        """An answer to a call is recorded, unless it was before; the model runs after the last if it wants to know.

        With `may_still_run` a run that was cut off may still be about to tell it.
        """

        def change(world: World) -> Iterable[World]:
            for new in self.recorded(key, fails=fails)(world):
                may_wait = new == world or (may_still_run and not world.model_knows)
                yield from self.goes_on(new) if may_wait else [self._tells(new)]

        return change

    def recorded(self, key: Key, *, fails: bool) -> Change:
        """An answer to a call is recorded, unless it was before, and nothing else happens."""

        def change(world: World) -> Iterable[World]:
            if not world.waiting or world.waiting[0].key != key:
                return [world]
            # one that has been released again may be pending without the page having seen it
            not_pending = [] if world.is_out else [world]
            first, *rest = world.waiting
            if fails and self._aborts:
                rest = [call for call in rest if self._is_required(call)]
            model_knows = world.model_knows and not self._tools[first.name].answer_wanted
            erased = (first,) if self._is_required(first) and not first.is_recent else ()
            erasable = (*world.erasable, *erased)
            return [
                replace(world, waiting=tuple(rest), is_out=False, model_knows=model_knows, erasable=erasable),
                *not_pending,
            ]

        return change

    def cut_answer(self, key: Key, *, fails: bool) -> Change:
        """An answer was recorded, and then the request was cut off: before the model ran, or while it did."""

        def change(world: World) -> Iterable[World]:
            for new in self.recorded(key, fails=fails)(world):
                yield new
                if not new.waiting and not new.model_knows:
                    yield replace(new, runs=new.runs + 1)

        return change

    def goes_on(self, world: World) -> Iterable[World]:
        """The server may take the occasion to tell the model what it does not know."""
        return {world, self._tells(world)}

    def given(self, name: Name, key: Key, *, again: bool = False) -> None:
        """The page was given a call; with `again` it may be one that it has under another id."""
        expected = {world.waiting[0].name if world.waiting and not world.is_out else None for world in self.worlds}
        self._must(
            lambda world: (
                bool(world.waiting)
                and world.waiting[0].name == name
                and (again or not world.is_out or world.waiting[0].key == key)
            ),
            f"the page was given {name} ({key}), and expected was {_any_of(expected)}",
        )
        self.worlds = {_given(world, key) for world in self.worlds}

    def ran(self, runs: int) -> None:
        """The model has been run so many times."""
        expected = sorted({world.runs for world in self.worlds})
        self._must(
            lambda world: world.runs == runs, f"the model ran {runs} times, and expected was {_any_of(expected)}"
        )

    def nothing_is_due(self) -> None:
        """The server has nothing to release."""
        due = {world.waiting[0].name for world in self.worlds if world.waiting and not world.is_out}
        left = {", ".join(call.name for call in world.waiting) for world in self.worlds if world.waiting}
        self._must(
            lambda world: not world.waiting or world.is_out,
            f"nothing is pending, and the page was not given {_any_of(due)}; open, in order: {_any_of(left)}. "
            "Your server has to ask for all that `messages` lists, also after an error of the page",
        )

    def pending(self, keys: list[Key]) -> None:
        """These calls are pending; those that the page does not know yet are left out."""
        firsts = [world.waiting[0] if world.waiting else None for world in self.worlds]
        expected = {first and f"{first.name} ({first.key})" for first in firsts}
        # one that the page knows may have been released again, under its old id, by a request that was cut off
        self._must(
            lambda world: world.first == keys if keys else not world.is_out,
            f"the calls that are pending are {keys or 'none'}, and expected was {_any_of(expected)}",
        )
        self.worlds = {replace(world, is_out=bool(keys)) for world in self.worlds}

    def all_settled(self, *, counts_runs: bool) -> None:
        """Nothing is open any more."""
        left = {call.name for world in self.worlds for call in world.waiting}
        self._must(
            lambda world: not world.waiting, f"no call comes any more, and the page never settled {_any_of(left)}"
        )
        if counts_runs:
            self._must(lambda world: world.model_knows, "the model was never told of an answer that it wanted")

    def _is_required(self, call: Asked) -> bool:
        return self._tools[call.name].required

    def _must(self, fits: Callable[[World], bool], otherwise: str) -> None:
        fitting = {world for world in self.worlds if fits(world)}
        if not fitting:
            raise ImpossibleError(otherwise)
        self.worlds = fitting

    @staticmethod
    def _asks(world: World, names: Iterable[Name]) -> World:
        return replace(world, waiting=(*world.waiting, *(Asked(name, is_recent=True) for name in names)))

    @staticmethod
    def _tells(world: World) -> World:
        if world.waiting or world.model_knows:
            return world
        return replace(world, runs=world.runs + 1, model_knows=True)


def _given(world: World, key: Key) -> World:
    first, *rest = world.waiting
    return replace(world, waiting=(replace(first, key=key), *rest), is_out=True)


def _any_of(expected: Iterable[object]) -> str:
    return " or ".join(sorted("nothing" if each is None else str(each) for each in expected))
