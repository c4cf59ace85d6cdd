"""The protocol on a real store: one step per event, under exclusion.

`step.Steps.take` reads a thread, lets `_protocol` decide, writes the difference, and announces it. `exclusion` keeps
other steps out, `plans` knows where a plan is kept, and `run` is one request with the bodies that it runs (`body`).
Tools that wait are `gated` and `replay`; how a tool finds its request is `lookup`.
"""
