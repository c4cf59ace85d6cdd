"""The protocol as values and functions: no event loop, no clock, no store, no log.

Theory of operation
===================

ChatKit gives an agent run one slot for a client tool call. What is in it when the run has ended is stored as a
`pending` item and streamed; the browser runs it and posts the answer; ChatKit completes the item and calls `respond()`
again. A thread never has more than one pending call, and an answer does not say which call it belongs to. So several
calls have to wait somewhere, and each has to look like the only one.

**The thread's items are the journal; the plan is only a list of intentions.** The plan (`plan.Plan`) is one small
document per thread: the calls that are not finished, in order, each with the ids it will have. Progress is not in it.
It is read from the items:

    no item          the call still waits                    QUEUED
    pending item     it was released, nobody answered yet    PENDING
    completed item   it was answered                         COMPLETED or FAILED

Calls are released in order and one at a time, so every call before the latest one that has an item is finished. Ids are
chosen when the plan is written, so releasing a call twice never creates a second item. And a repeated, late or stale
write of the plan cannot undo progress, because progress is nowhere but in the items.

**Deciding is a pure function.** `thread.Thread` is what the store shows of a thread. `decide.Policy.decide(thread,
event)` returns the thread as it should be. Everything else is the difference between these two values, and each part of
it is computed in one place: which items are written and deleted (`Thread.writes_after`), what is announced
(`transitions`). The table in `states` names each change of a call's state. A difference that is not in it raises.

**The plan is written first, then the items.** Whatever a process that dies leaves behind, the next step finds the
intention in the plan and carries it out. An item that has to go is named in `Plan.removed` before it is deleted, and
stays there for a while: if it appears again, because a write was late, it is deleted again.

**A run is a transaction.** What a run asks for is written when its body has ended well, and not at all if it fails.
`Plan.body` says which body is at work: a repeated answer does not start it twice, and calls that have to wait for the
answer to a message are not released before it.

What does not fit the table: a call that is adopted, because it was pending before anybody planned it, appears as
pending. And the plan forgets finished calls; `Plan.finished` only counts them.
"""
