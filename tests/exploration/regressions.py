"""Schedules in which something went wrong once, as the exploration has printed them."""

from __future__ import annotations

from dataclasses import dataclass

from . import awaited
from .scenario import Scenario
from .scenarios import CALLS, METADATA, SWEEP, TWO


@dataclass(frozen=True)
class Regression:
    """A scenario, the schedule, and what was violated by it."""

    violated: str
    why: str
    scenario: Scenario
    schedule: str


FOUND = [
    Regression(
        "recorded twice",
        "a message withdraws a required call: the plan has it under a new id, and the process dies before the old item "
        "is deleted. It is adopted as a stranger, and both are released",
        SWEEP.but(calls=("stops",), messages=1, crashes=1),
        """
        message1: load_thread | add_thread_item | emit message-message1-1 | emit stream_options | load_plan | \
load_thread_items | add_thread_item | emit message-message1-2 | load_plan | load_thread_items | save_plan | \
add_thread_item | emit tool_call-message1-3
        user: writes at A
        message2: load_thread | add_thread_item | emit message-message2-1 | emit stream_options | load_plan | \
load_thread_items | save_plan
        CRASH of A
        """,
    ),
    Regression(
        "a final state changed",
        "a message gives up the pending call: its item is deleted outside the lock, after an answer has completed it",
        Scenario(calls=CALLS[2], messages=1),
        """
        message1: add_thread_item | load_plan | load_thread_items | add_thread_item | load_plan | load_thread_items | \
save_plan | add_thread_item | emit tool_call-message1-3
        user: writes at A
        message2: add_thread_item | load_plan | load_thread_items | save_plan
        browser: answers message1.0 to A
        answer message1.0: load_plan | load_thread_items | save_plan | save_item
        message2: delete_thread_item
        """,
    ),
    Regression(
        "a broken stream",
        "a call is claimed and on its way into the store while a message drops its plan and releases a required one: "
        "two are pending, or the store refuses the second",
        Scenario(calls=CALLS[3], messages=1),
        """
        message1: add_thread_item | load_plan | load_thread_items | add_thread_item | load_plan | load_thread_items | \
save_plan
        user: writes at A
        message2: add_thread_item | load_plan | load_thread_items | save_plan | add_thread_item | load_plan | \
load_thread_items
        message1: add_thread_item
        message2: save_plan | add_thread_item
        """,
    ),
    Regression(
        "a model run too many",
        "a call that an action asks for is answered while the model runs for the last answer: the claim of that run "
        "goes by the last call of the plan, which is another one now",
        Scenario(calls=CALLS[1], later=("shows",), actions=1),
        """
        message1: add_thread_item | load_plan | load_thread_items | add_thread_item | load_plan | load_thread_items | \
save_plan | add_thread_item | emit tool_call-message1-3
        browser: answers message1.0 to A
        answer message1.0: load_plan | load_thread_items | save_item | load_plan | load_thread_items | save_plan
        user: presses at A
        action1: load_plan | load_thread_items | add_thread_item | load_plan | load_thread_items | save_plan | \
add_thread_item | emit tool_call-action1-2
        browser: answers action1.0 to A
        answer action1.0: load_plan | load_thread_items | save_item | load_plan | load_thread_items | save_plan
        """,
    ),
    Regression(
        "a final state changed",
        "a resume deletes the pending item before it has compared and set the plan, and another worker completes it",
        TWO.but(calls=CALLS[1], resumes=1),
        """
        browser: answers message1.0 to A
        answer message1.0: load_plan | load_thread_items
        user: resumes at B
        resume1: load_plan | load_thread_items
        answer message1.0: save_item
        resume1: delete_thread_item
        """,
    ),
    Regression(
        "recorded twice",
        "an answer is saved to an item that a resume at another worker has deleted, and the call is released again",
        TWO.but(calls=CALLS[1], resumes=1),
        """
        browser: answers message1.0 to A
        answer message1.0: load_plan | load_thread_items
        user: resumes at B
        resume1: load_plan | load_thread_items | delete_thread_item
        answer message1.0: save_item | load_plan | load_thread_items
        resume1: save_plan
        """,
    ),
    Regression(
        "emitted twice",
        "between a resume's deletion and its plan another worker finds the call without an item, and releases it",
        TWO.but(calls=CALLS[1], resumes=1),
        """
        browser: answers message1.0 to A
        answer message1.0: load_plan
        user: resumes at B
        resume1: load_plan | load_thread_items | delete_thread_item
        answer message1.0: load_thread_items | load_plan | load_thread_items | add_thread_item
        resume1: save_plan
        """,
    ),
    Regression(
        "a broken stream",
        "the same: the call goes out under the old id and under the new one, and the store refuses the second",
        TWO.but(calls=CALLS[1], resumes=1),
        """
        browser: answers message1.0 to A
        answer message1.0: load_plan
        user: resumes at B
        resume1: load_plan | load_thread_items | delete_thread_item
        answer message1.0: load_thread_items | load_plan | load_thread_items
        resume1: save_plan | load_plan | load_thread_items | save_plan | add_thread_item
        answer message1.0: add_thread_item
        """,
    ),
    Regression(
        "a foreign write lost",
        "a plan in the thread's metadata is written by reading and saving the whole thread, and a rename in between is "
        "lost",
        Scenario(calls=CALLS[1], store=METADATA, around="validating", renames=1),
        """
        message1: load_thread | load_item | add_thread_item | load_thread | load_thread_items | load_item | \
add_thread_item | load_thread
        user: renames at A
        rename1: load_thread
        message1: load_thread_items
        rename1: load_thread | save_thread
        message1: load_thread | save_thread | load_item | load_thread_items | add_thread_item | \
emit tool_call-message1-3
        """,
    ),
    Regression(
        "a model run too many",
        "a rename at one worker saves the thread with a plan that another worker has replaced meanwhile: the lock that "
        "the workers share was held for steps only, and not for saving a thread",
        TWO.but(calls=("gets", "stops"), store="tied timestamps", locked=True, renames=1),
        """
        browser: answers message1.0 to A
        answer message1.0: lock | load_thread | load_thread_items | save_item | add_thread_item | save_thread | \
emit tool_call-message1-7
        browser: answers message1.1 to B
        answer message1.1: lock | load_thread | load_thread_items
        user: renames at A
        answer message1.1: save_item | save_thread | add_thread_item | lock | load_thread
        rename1: load_thread | load_thread
        answer message1.1: load_thread_items | save_thread
        rename1: save_thread
        """,
    ),
    Regression(
        "emitted twice",
        "a store that orders by the second gives the oldest of many items first, and the pending call was looked for "
        "among the newest five only",
        TWO.but(
            workers=1,
            calls=("gets", "stops"),
            store="tied timestamps",
            locked=True,
            then=("gets",),
            actions=1,
            repeats=1,
        ),
        """
        browser: answers message1.0 to A
        answer message1.0: lock | load_thread | load_thread_items | save_item | add_thread_item | save_thread | \
emit tool_call-message1-7
        browser: answers message1.1 to A
        answer message1.1: lock | load_thread | load_thread_items | save_item | save_thread | add_thread_item | lock | \
load_thread | load_thread_items | save_thread | add_thread_item | emit tool_call-answer message1.1-4
        browser: answers answer message1.1.0 to A
        answer answer message1.1.0: lock
        browser: answers message1.1 to A again
        answer answer message1.1.0: load_thread | load_thread_items
        answer message1.1 again1: lock | load_thread | load_thread_items | add_thread_item
        """,
    ),
    Regression(
        "a wrong output",
        "the store fails while a step of a waiting tool is recorded: its error was raised inside the body, and became "
        "what the model reads of the tool",
        awaited.SWEEP.but(tools=("picks step",), opened=True, errors=1, resumes=1),
        """
        browser: answers message1.t0.0 to A
        answer message1.t0.0: load_thread | load_plan | load_thread_items | save_plan | save_item | save_plan | \
emit stream_options | step message1.t0 0 | save_plan FAILS
        """,
    ),
    Regression(
        "executed twice",
        "a process dies when the plan has what a waiting tool has queued, and its output is no item yet: the tool was "
        "woken again, and queued it once more",
        awaited.SWEEP.but(tools=("queues picks step",), opened=True, crashes=1),
        """
        browser: answers message1.t0.0 to A
        answer message1.t0.0: load_thread | load_plan | load_thread_items | save_plan | save_item | save_plan | \
emit stream_options | step message1.t0 0 | save_plan | save_plan
        CRASH of A
        """,
    ),
    Regression(
        "a body woken by another call's answer",
        "a retry deletes the pending call while its answer is recorded. The claim of the waiting tool, written before "
        "the item, stayed: the tool ran without the answer",
        awaited.OPEN.but(tools=("picks step",), retries=1),
        """
        browser: answers message1.t0.0 to A
        answer message1.t0.0: load_plan | load_thread_items | save_plan
        user: retries at A
        retry1: load_thread_items | delete_thread_item
        answer message1.t0.0: save_item | save_plan | load_plan | load_thread_items | save_plan | add_thread_item | \
save_plan
        """,
    ),
]
