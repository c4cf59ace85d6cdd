"""Every crash and every interleaving, explored on the real code.

A real server runs on a loop that stops whenever every request waits: before a store operation, for a lock that workers
share, or with an event that has not been sent (`loop`, `gates`). At such a quiet state the controller chooses what
happens next (`choices`): a request goes on; the browser answers, repeats or loses an answer; the user writes, retries,
presses, resumes, renames; a process dies, the store fails, a client goes, time passes. `search` goes through all
choices, depth first: an execution is its schedule, and is played again from its beginning to take another turn at its
end. A state that was seen before is not looked at again, and of two steps that commute one order is enough.

After every step `properties` checks what must not happen. At every distinct state of the store everything stops, a new
process and the user go on, and all that was promised has to come true (`recovery`). A crash is not a cancellation: what
a dead process was doing is kept, never resumed, and cleans up nothing.

Tools that await the browser are in it too (`awaited`). What their bodies do is a script (`asking`), each of its steps
waits for the controller, and `waiting` watches them. Most scenarios do with the tools what the Agents SDK does, which
is faster; some have a real agent.

The lock inside a process is no point of its own: who gets it is decided by the step before, and dying with it changes
nothing that is stored.

`make explore` explores all `scenarios`; the small ones are part of the suite. What an exploration finds it prints as a
schedule, which `search.replay` plays again: see `regressions`. `ablations` take one safeguard away at a time.
"""
