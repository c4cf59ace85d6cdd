"""The oracle of `LifecycleMachine`: what it holds possible, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit_clienttools import ClientTool
from chatkit_clienttools.testing.machine._oracle import ImpossibleError, Oracle


class TestOracle:
    @staticmethod
    def oracle(**policy: Any) -> Oracle:
        tools = [ClientTool("shows", result=None), ClientTool("gets")]
        return Oracle(tools, policy.get("on_user_message", "cancel"), policy.get("on_failure", "continue"))

    def test_the_model_is_to_be_told(self) -> None:
        """An answer that was wanted, and that no run has seen, is not settled."""
        oracle = self.oracle()
        oracle.became(oracle.message(["gets"]))
        oracle.given("gets", "k")
        oracle.became(oracle.recorded("k", fails=False))

        with pytest.raises(ImpossibleError, match="the model was never told"):
            oracle.all_settled(counts_runs=True)
        oracle.all_settled(counts_runs=False)

    def test_every_call_is_to_be_settled(self) -> None:
        """A call that never comes is named."""
        oracle = self.oracle()
        oracle.became(oracle.message(["shows"]))

        with pytest.raises(ImpossibleError, match="the page never settled shows"):
            oracle.all_settled(counts_runs=True)

    def test_what_was_not_given_is_named_with_all_that_is_open(self) -> None:
        """The call whose turn it is, and those behind it, in order."""
        oracle = self.oracle()
        oracle.became(oracle.message(["shows", "gets", "shows"]))

        with pytest.raises(ImpossibleError, match=r"was not given shows; open, in order: shows, gets, shows\. Your"):
            oracle.nothing_is_due()

    def test_only_the_call_that_is_out_is_pending(self) -> None:
        """A call that was answered is not pending any more."""
        oracle = self.oracle()

        with pytest.raises(ImpossibleError, match=r"the calls that are pending are \['k'\], and expected was nothing$"):
            oracle.pending(["k"])

    def test_where_a_request_was_cut_off_everything_is_possible(self) -> None:
        """A request that was cut off may have done nothing, a part of its work, or all of it."""
        oracle = self.oracle()

        oracle.became(oracle.message(["shows"]), cut_off=oracle.cut_message)

        assert {(0, 0), (1, 0), (1, 1)} == {(world.runs, len(world.waiting)) for world in oracle.worlds}

    def test_a_run_that_was_cut_off_may_have_told_the_model_nothing(self) -> None:
        """After a run for a message was cut off, the model may run once more for an answer that was wanted."""
        oracle = self.oracle(on_user_message="keep")
        oracle.became(oracle.message(["gets", "shows"]))
        oracle.given("gets", "first")
        oracle.became(oracle.recorded("first", fails=False))
        oracle.given("shows", "second")

        oracle.became(oracle.message([]), cut_off=oracle.cut_message)
        oracle.became(oracle.answer("second", fails=False))

        assert {1, 2, 3} == {world.runs for world in oracle.worlds}

    def test_a_message_that_was_cut_off_before_its_run_has_told_the_model_nothing(self) -> None:
        """What it has cancelled is gone; the model is to be told the answers by another run."""
        oracle = self.oracle()
        oracle.became(oracle.message(["gets", "shows"]))
        oracle.given("gets", "first")
        oracle.became(oracle.recorded("first", fails=False))
        oracle.given("shows", "second")

        oracle.became(oracle.message([]), cut_off=oracle.cut_message)
        oracle.ran(1)
        oracle.pending([])

        assert {(0, False), (1, False)} == {(len(world.waiting), world.model_knows) for world in oracle.worlds}
        with pytest.raises(ImpossibleError, match="the model was never told"):
            oracle.all_settled(counts_runs=True)

    def test_a_run_that_was_cut_off_may_hold_back_the_next(self) -> None:
        """While it may still be about to tell the model, the next answer may not."""
        oracle = self.oracle()
        oracle.became(oracle.message(["gets"]))
        oracle.given("gets", "first")
        oracle.became(oracle.answer("first", fails=False), cut_off=oracle.cut_answer("first", fails=False))
        oracle.worlds = {world for world in oracle.worlds if not world.waiting}
        oracle.became(oracle.action(["shows"]))
        oracle.given("shows", "second")

        oracle.became(oracle.answer("second", fails=False, may_still_run=True))

        assert {2, 3, 4} == {world.runs for world in oracle.worlds}

    def test_what_makes_no_difference_is_one_state(self) -> None:
        """However often a message is cut off: how many there were does not matter to what is open now."""
        oracle = self.oracle()
        for _ in range(50):
            oracle.became(oracle.message(["gets", "shows"]), cut_off=oracle.cut_message)
            oracle.ran(max(world.runs for world in oracle.worlds))

        assert 3 >= len(oracle.worlds)

    def test_a_retry_removes_what_came_after_the_message(self) -> None:
        """Whoever wrote while a call was out had it before the message: its answer stays, and those after it go."""
        oracle = Oracle([ClientTool("stops", result=None, required=True)], "cancel", "continue")
        oracle.became(oracle.message(["stops", "stops"]))
        oracle.given("stops", "first")
        oracle.became(oracle.begins())
        for key in ("first", "second"):
            oracle.given("stops", key)
            oracle.became(oracle.recorded(key, fails=False))

        oracle.became(oracle.message([], retried=True))

        assert {(), ("second",), ("first", "second")} == {
            tuple(call.key for call in world.waiting) for world in oracle.worlds
        }

    def test_an_answer_that_was_cut_off_may_have_told_the_model(self) -> None:
        """An answer that was cut off may be recorded or not, and the model may have run for it, not run, or know it."""
        oracle = self.oracle()
        oracle.became(oracle.message(["gets"]))
        oracle.given("gets", "k")

        oracle.became(oracle.answer("k", fails=False), cut_off=oracle.cut_answer("k", fails=False))

        assert {(1, False, 1), (0, False, 1), (0, False, 2), (0, True, 2)} == {
            (len(world.waiting), world.model_knows and not world.waiting, world.runs) for world in oracle.worlds
        }

    def test_what_is_seen_rules_out(self) -> None:
        """What does not fit what was seen is dropped."""
        oracle = self.oracle()
        oracle.became(oracle.message(["shows"]), cut_off=oracle.cut_message)

        oracle.given("shows", "k")
        oracle.ran(1)
        oracle.pending(["k"])

        assert 1 == len(oracle.worlds)
