"""What client-tools.js promises, tried under node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper  # noqa: TC002  the SDK looks at the annotations
from chatkit.agents import AgentContext  # noqa: TC002  the SDK looks at the annotations

from chatkit_clienttools import ClientToolSequencer, frontend
from chatkit_clienttools.answers import DENIED, EXPIRED
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, SequencedServer, calls, selection, speaks

if TYPE_CHECKING:
    from tests.frontend.conftest import Node


async def delivered_with_call_id(call_id: str) -> Any:
    """A call of a new thread, as the browser gets it, whose model's provider has chosen this id."""
    sequencer = ClientToolSequencer(TOOLS, receipts=True)

    @sequencer.function_tool
    async def look(ctx: RunContextWrapper[AgentContext[Any]]) -> str:
        """Ask for the selection."""
        sequencer.enqueue(ctx, selection())
        return "Asked."

    server = SequencedServer(
        MemoryStore(), [[calls("look", call_id=call_id)], speaks("Wait.")], [look], sequencer=sequencer
    )
    [item] = (await Conversation(server).say("Look at this.")).call_items
    return item


class TestPath:
    def test_the_module_is_in_the_package(self) -> None:
        """`path()` is the file to serve, and its types are next to it."""
        assert frontend.path().is_file()
        assert frontend.path().with_suffix(".d.ts").is_file()

    def test_the_module_has_no_dependencies(self) -> None:
        """The client module imports nothing, so that any page can load it from anywhere."""
        assert "import " not in frontend.path().read_text("utf-8")

    def test_the_types_name_every_export(self, node: Node) -> None:
        """What the module exports is what its types declare."""
        exported = node('return Object.keys(await import("./client-tools.mjs"))')
        types = frontend.path().with_suffix(".d.ts").read_text("utf-8")

        functions = ["cancelRunning", "clientFile", "clientImage", "resumeOnLoad", "withReceipts"]
        assert ["Denied", "RESUME", *functions] == exported
        forms = ("export function {}", "export class {} ", "export const {}:")
        assert [] == [name for name in exported if not any(form.format(name) in types for form in forms)]


class TestTime:
    """A call whose params say how much time it has, as `_expires_in`."""

    def test_a_handler_does_not_see_the_stamps(self, node: Node) -> None:
        """The receipt and the time are taken out of a handler's params, and stay in the call that was delivered."""
        assert [{"at": 1}, True] == node("""
            const call = delivered("call_1", "pick", { at: 1, _expires_at: Date.now() + 9000, _expires_in: 9000 });
            const { result } = await withReceipts({ pick: (params) => params })(call);
            return [result, call.params._expires_in === 9000];
        """)

    def test_an_answer_in_time(self, node: Node) -> None:
        """A handler that answers in time is not aborted, and its timer does not keep the page awake."""
        assert [{"_receipt": "call_1", "result": 7}, False] == node("""
            let seen;
            const handler = (call, { signal }) => { seen = signal; return 7; };
            const answer = await withReceipts(handler)(delivered("call_1", "pick", { _expires_in: 3_600_000 }));
            return [answer, seen.aborted];
        """)

    def test_when_it_is_over(self, node: Node) -> None:
        """The signal aborts, and the call is answered as expired, though the handler never returns."""
        assert [{"_receipt": "call_1", "error": EXPIRED}, [True, "TimeoutError"]] == node("""
            let seen;
            const handler = (call, { signal }) => { seen = signal; return new Promise(() => {}); };
            const answer = await withReceipts(handler, { onError })(delivered("call_1", "pick", { _expires_in: 1 }));
            return [answer, [seen.aborted, seen.reason.name]];
        """)

    def test_a_handler_of_an_object_gets_the_signal(self, node: Node) -> None:
        """A function for one tool gets the signal after the params."""
        assert {"_receipt": "call_1", "error": EXPIRED} == node("""
            const until = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve));
            const handlers = { pick: (params, { signal }) => until(signal) };
            return await withReceipts(handlers, { onError })(delivered("call_1", "pick", { _expires_in: 1 }));
        """)

    def test_by_a_clock_that_is_wrong(self, node: Node) -> None:
        """The page counts by how much time is left, and not by its own clock, which may be hours ahead."""
        assert {"_receipt": "call_1", "result": 7} == node("""
            const call = delivered("call_1", "pick", { _expires_at: Date.now() - 3_600_000, _expires_in: 60_000 });
            return await withReceipts(async () => 7)(call);
        """)

    @pytest.mark.parametrize("left", ["2 ** 31", "NaN", "'soon'", "null"])
    def test_a_time_that_no_timer_can_keep(self, node: Node, left: str) -> None:
        """With more than 24 days, or with what is no number, the page has no timer: the server ends the call."""
        assert {"_receipt": "call_1", "result": 7} == node(f"""
            const later = () => new Promise((resolve) => setTimeout(resolve, 5, 7));
            return await withReceipts(later)(delivered("call_1", "pick", {{ _expires_in: {left} }}));
        """)

    def test_without_a_receipt(self, node: Node) -> None:
        """Without a receipt a param of that name is the application's own."""
        assert {"_expires_in": 1} == node("""
            const later = (call) => new Promise((resolve) => setTimeout(resolve, 5, call.params));
            return await withReceipts(later)({ name: "pick", params: { _expires_in: 1 } });
        """)

    def test_it_is_not_executed_again(self, node: Node) -> None:
        """A call that has expired here is answered from memory, also after a reload: its handler may have begun."""
        assert [EXPIRED, EXPIRED, 1] == node("""
            const storage = new FakeStorage();
            const handler = (call) => { calls.push(call); return new Promise(() => {}); };
            const call = delivered("call_1", "pick", { _expires_in: 1 });
            const first = await withReceipts(handler, { storage, onError })(call);
            const again = await (await reloaded()).withReceipts(handler, { storage, onError })(call);
            return [first.error, again.error, calls.length];
        """)

    def test_the_text_is_the_servers(self) -> None:
        """Page and server say the same of a call that has expired."""
        assert f'"{EXPIRED}"' in frontend.path().read_text("utf-8")


class TestDenied:
    def test_the_user_declines(self, node: Node) -> None:
        """A handler that throws Denied has no error: it is answered as denied, also after a reload, with no report."""
        assert [DENIED, DENIED, 0] == node("""
            const storage = new FakeStorage();
            const { Denied } = await import("./client-tools.mjs");
            const told = [];
            const options = { storage, onError: (error) => told.push(error) };
            const call = delivered("call_1", "pick");
            const first = await withReceipts(() => { throw new Denied(); }, options)(call);
            const again = await (await reloaded()).withReceipts(() => 1, options)(call);
            return [first.error, again.error, told.length];
        """)

    def test_the_text_is_the_servers(self) -> None:
        """Page and server say the same of a call that was denied."""
        assert f'"{DENIED}"' in frontend.path().read_text("utf-8")


class TestCancelRunning:
    def test_what_runs_is_aborted(self, node: Node) -> None:
        """Each handler's signal aborts, and each call is answered at once, with or without a receipt."""
        answer = {"error": "cancelled on this page"}
        assert [{"_receipt": "call_1", **answer}, answer] == node("""
            const { cancelRunning } = await import("./client-tools.mjs");
            const seen = [];
            const onClientTool = withReceipts((call, { signal }) => {
              seen.push(signal);
              return new Promise(() => {});
            }, { onError });
            const answers = [onClientTool(delivered("call_1")), onClientTool({ name: "pick", params: {} })];
            cancelRunning();
            if (!seen.every((signal) => signal.aborted)) throw new Error("not aborted");
            return await Promise.all(answers);
        """)

    def test_it_is_executed_again(self, node: Node) -> None:
        """A call that was cancelled here is executed again if the server sends it again."""
        assert ["cancelled on this page", 7] == node("""
            const { cancelRunning } = await import("./client-tools.mjs");
            const answers = [new Promise(() => {}), 7];
            const onClientTool = withReceipts(() => answers.shift(), { onError });
            const first = onClientTool(delivered("call_1"));
            cancelRunning();
            return [(await first).error, (await onClientTool(delivered("call_1"))).result];
        """)

    def test_what_the_handler_does_later(self, node: Node) -> None:
        """What a handler returns or throws after it was aborted is ignored, and breaks nothing."""
        assert ["cancelled on this page", 1] == node("""
            const { cancelRunning } = await import("./client-tools.mjs");
            let fail;
            const onClientTool = withReceipts(() => new Promise((_, reject) => { fail = reject; }), { onError });
            const first = onClientTool(delivered("call_1"));
            cancelRunning();
            const { error } = await first;
            fail(new Error("too late"));
            await new Promise((resolve) => setTimeout(resolve, 5));
            return [error, errors.length];
        """)

    def test_a_handler_may_call_it_itself(self, node: Node) -> None:
        """A handler that cancels what runs is aborted as well."""
        assert "cancelled on this page" == node("""
            const { cancelRunning } = await import("./client-tools.mjs");
            const handler = () => { cancelRunning(); return 7; };
            return (await withReceipts(handler, { onError })(delivered("call_1"))).error;
        """)

    def test_what_has_ended_is_left_alone(self, node: Node) -> None:
        """A call that was answered is answered from memory, whatever was cancelled since."""
        assert [7, 7, False] == node("""
            const { cancelRunning } = await import("./client-tools.mjs");
            let seen;
            const onClientTool = withReceipts((call, { signal }) => { seen = signal; return 7; });
            const first = await onClientTool(delivered("call_1"));
            cancelRunning();
            return [first.result, (await onClientTool(delivered("call_1"))).result, seen.aborted];
        """)


class TestHandler:
    def test_a_function_takes_every_call(self, node: Node) -> None:
        """A function gets the name and the params, without the receipt."""
        assert {"_receipt": "call_1", "result": {"name": "pick", "params": {"at": 1}}} == node("""
            return await withReceipts((call) => call)(delivered("call_1", "pick", { at: 1 }));
        """)

    def test_an_object_has_a_function_for_each_tool(self, node: Node) -> None:
        """A function of an object gets the params, without the receipt, and the object as `this`."""
        assert {"_receipt": "call_1", "result": {"at": 1, "step": 2}} == node("""
            const handlers = { step: 2, pick(params) { return { ...params, step: this.step }; } };
            return await withReceipts(handlers)(delivered("call_1", "pick", { at: 1 }));
        """)

    def test_what_it_is_given_is_not_changed(self, node: Node) -> None:
        """The call keeps its receipt: whoever delivered it may still need it."""
        assert {"name": "pick", "params": {"_receipt": "call_1"}} == node("""
            const call = delivered("call_1");
            await withReceipts(() => 1)(call);
            return call;
        """)

    def test_it_may_be_async(self, node: Node) -> None:
        """A handler may return a promise, which is awaited."""
        assert {"_receipt": "call_1", "result": 42} == node("""
            return await withReceipts(async () => 42)(delivered("call_1"));
        """)

    def test_no_answer_is_null(self, node: Node) -> None:
        """A handler that returns nothing has answered: null."""
        assert {"_receipt": "call_1", "result": None} == node("""
            return await withReceipts(() => {})(delivered("call_1"));
        """)

    @pytest.mark.parametrize("name", ["other", "__proto__", "constructor", "toString", "no_function"])
    def test_an_unknown_tool_is_an_error(self, node: Node, name: str) -> None:
        """Only the object's own functions are tools; the answer names the one that is not there."""
        assert {"_receipt": "call_1", "error": f'this page has no client tool "{name}"'} == node(f"""
            const pick = withReceipts({{ pick: () => 1, no_function: 1 }}, {{ onError }});
            return await pick(delivered("call_1", "{name}"));
        """)

    @pytest.mark.parametrize("handler", ["undefined", "null", '"pick"', "1"])
    def test_neither_function_nor_object_is_refused(self, node: Node, handler: str) -> None:
        """The developer's mistake is said when the page is written, not when a call comes."""
        assert "TypeError: withReceipts needs a function, or an object of functions by tool name" == node(f"""
            try {{ withReceipts({handler}); }} catch (error) {{ return String(error); }}
        """)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("{ remember: 0 }", "remember must be a whole number from 1 on"),
            ('{ remember: "3" }', "remember must be a whole number from 1 on"),
            ("{ onError: 1 }", "onError must be a function"),
            ('{ storage: "local" }', "storage must be like sessionStorage, or null"),
        ],
    )
    def test_wrong_options_are_refused(self, node: Node, options: str, message: str) -> None:
        """Wrong options of `withReceipts` are refused at once with a TypeError."""
        assert f"TypeError: {message}" == node(f"""
            try {{ withReceipts(() => 1, {options}); }} catch (error) {{ return String(error); }}
        """)


class TestWithoutReceipt:
    def test_the_answer_is_the_bare_value(self, node: Node) -> None:
        """Without a receipt nothing is added: the page can be deployed before the server."""
        assert [42, {"ids": [1]}, None] == node("""
            const answers = [42, { ids: [1] }, undefined];
            const pick = withReceipts(() => answers.shift());
            const call = { name: "pick", params: {} };
            return [await pick(call), await pick(call), await pick(call)];
        """)

    def test_an_error_is_an_error_answer(self, node: Node) -> None:
        """What is thrown is an answer, as the server understands it."""
        assert {"error": "no canvas"} == node("""
            const pick = withReceipts(() => { throw new Error("no canvas"); }, { onError });
            return await pick({ name: "pick", params: {} });
        """)

    def test_every_delivery_is_executed(self, node: Node) -> None:
        """Nothing can be told apart without a receipt."""
        assert [1, 2] == node("""
            const pick = withReceipts(() => calls.push(1));
            return [await pick({ name: "pick", params: {} }), await pick({ name: "pick", params: {} })];
        """)

    def test_a_receipt_is_a_string(self, node: Node) -> None:
        """A param of the tool's own that happens to have that name is left alone."""
        assert {"_receipt": 7} == node("""
            return await withReceipts(({ params }) => params)({ name: "pick", params: { _receipt: 7 } });
        """)


class TestErrors:
    @pytest.mark.parametrize(
        ("thrown", "message"),
        [
            ('new TypeError("no canvas")', "no canvas"),
            ('"no canvas"', "no canvas"),
            ('{ message: "no canvas" }', "no canvas"),
            ("new Error()", "Error"),
            ("new Error('')", "Error"),
            ("{ message: 7, toString: () => 'seven' }", "seven"),
            ("undefined", "undefined"),
            ("null", "null"),
            ('Symbol("no canvas")', "Symbol(no canvas)"),
            ("Object.create(null)", "the client tool failed"),
            ("{ toString() { throw new Error('again'); } }", "the client tool failed"),
            ("{ get message() { throw new Error('again'); } }", "the client tool failed"),
        ],
    )
    def test_whatever_is_thrown_is_an_answer(self, node: Node, thrown: str, message: str) -> None:
        """Whatever a handler throws or rejects with is answered as an error with a sentence, and never thrown."""
        assert [{"_receipt": "call_1", "error": message}] * 2 == node(f"""
            const thrown = {thrown};
            const throws = withReceipts(() => {{ throw thrown; }}, {{ onError, storage: null }});
            const rejects = withReceipts(() => Promise.reject(thrown), {{ onError, storage: new FakeStorage() }});
            return [await throws(delivered("call_1")), await rejects(delivered("call_1"))];
        """)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ("(() => { const it = {}; it.it = it; return it; })()", "circular"),
            ('{ ["\\ud800"]: 1 }', "cut through a character"),
            ("{ toJSON() { throw new Error('never') } }", "never"),
        ],
    )
    def test_what_is_not_json_is_an_error(self, node: Node, answer: str, reason: str) -> None:
        """An answer that cannot be sent is an error answer that says why, not an empty object."""
        error = node(f"""
            return await withReceipts(() => ({answer}), {{ onError }})(delivered("call_1"));
        """)["error"]

        assert error.startswith("the answer is not JSON: ")
        assert reason in error

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            ("10n", "result is a bigint"),
            ("{ ids: [10n] }", "result.ids[0] is a bigint"),
            ("() => 1", "result is a function"),
            ("{ then_some: () => 1 }", "result.then_some is a function"),
            ('Symbol("s")', "result is a symbol"),
            ("{ price: NaN }", "result.price is NaN: JSON has finite numbers only"),
            ("[1, -Infinity]", "result[1] is -Infinity: JSON has finite numbers only"),
            ("{ day: new Date(NaN) }", "result.day is an invalid Date"),
            ("{ toJSON: () => NaN }", "result is NaN: JSON has finite numbers only"),
            ("new Blob(['x'])", "result is a Blob: use clientFile or clientImage"),
            (
                "{ items: [0, 1, { file: new File([], 'a') }] }",
                "result.items[2].file is a File: use clientFile or clientImage",
            ),
            ("{ later: Promise.resolve(1) }", "result.later is a Promise: await it"),
        ],
    )
    def test_the_error_names_the_place(self, node: Node, answer: str, problem: str) -> None:
        """A developer finds what is not JSON by the error alone."""
        assert {"_receipt": "call_1", "error": f"the answer is not JSON: {problem}"} == node(f"""
            return await withReceipts(() => ({answer}), {{ onError }})(delivered("call_1"));
        """)

    @pytest.mark.parametrize(
        ("answer", "what"),
        [
            ("new Map([[1, 2]])", "a Map"),
            ("new Set([1])", "a Set"),
            ("new Error('no canvas')", "an Error"),
            ("new TypeError('no canvas')", "an Error"),
            ("new Response('x')", "a Response"),
            ("new ArrayBuffer(1)", "an ArrayBuffer"),
            ("new Uint8Array([1])", "a Uint8Array"),
            ("new URLSearchParams('a=1')", "a URLSearchParams"),
            ("/x/", "a RegExp"),
            ("[1].values()", "an Array Iterator"),
            ("new (class extends Map {})()", "a Map"),
            ("(await import('node:vm')).runInNewContext('new Map()')", "a Map"),
        ],
    )
    def test_an_object_that_would_be_emptied_is_an_error(self, node: Node, answer: str, what: str) -> None:
        """JSON would have made an empty object of it, or one that nobody expects."""
        expected = f"the answer is not JSON: result.it is {what}: make a plain object or an array of it"
        assert expected == node(f"""
            return (await withReceipts(async () => ({{ it: {answer} }}), {{ onError }})(delivered("call_1"))).error;
        """)

    @pytest.mark.parametrize(
        ("key", "place"),
        [("größe_1", ".größe_1"), ("$id", ".$id"), ("two words", '["two words"]'), ("1st", '["1st"]'), ("", '[""]')],
    )
    def test_the_place_is_written_as_in_the_source(self, node: Node, key: str, place: str) -> None:
        """What is no name in JavaScript is quoted."""
        assert f"the answer is not JSON: result{place} is a function" == node(f"""
            const answer = {{ {json.dumps(key)}: () => 1 }};
            return (await withReceipts(() => answer, {{ onError }})(delivered("call_1"))).error;
        """)

    def test_the_place_of_an_object_that_is_there_twice(self, node: Node) -> None:
        """An object may be at several places; an error in one that follows names its own."""
        assert "the answer is not JSON: result.second[1] is NaN: JSON has finite numbers only" == node("""
            const answer = { first: [{ x: 1 }], second: [{ x: 1 }, NaN] };
            answer.first[0] = answer.second[0];
            return (await withReceipts(() => answer, { onError })(delivered("call_1"))).error;
        """)

    @pytest.mark.parametrize(
        ("answer", "sent"),
        [
            ("{ gone: undefined, list: [undefined] }", {"list": [None]}),
            ("Object.assign(Object.create(null), { x: 1 })", {"x": 1}),
            ("(await import('node:vm')).runInNewContext('({ list: [{ x: 1 }] })')", {"list": [{"x": 1}]}),
            ("new Proxy({ x: [1] }, {})", {"x": [1]}),
            ("new Date(0)", "1970-01-01T00:00:00.000Z"),
            ("(await import('node:vm')).runInNewContext('new Date(0)')", "1970-01-01T00:00:00.000Z"),
            ("new URL('data:,x')", "data:,x"),
            ("new (class { x = 1 })()", {"x": 1}),
            ("new (class { x = 1; toJSON() { return { y: 2 }; } })()", {"y": 2}),
            ("new (class { x = 1; toJSON() { return this; } })()", {"x": 1}),
            ("{ none: null, toJSON: 7 }", {"none": None, "toJSON": 7}),
        ],
    )
    def test_what_is_json_is_sent(self, node: Node, answer: str, sent: object) -> None:
        """Objects with fields and arrays, also those of an iframe, and whatever has a `toJSON` of its own."""
        assert {"_receipt": "call_1", "result": sent} == node(f"""
            return await withReceipts(async () => ({answer}), {{ onError }})(delivered("call_1"));
        """)

    def test_an_answer_without_json_is_null(self, node: Node) -> None:
        """An object that says it has no JSON has answered null, as `undefined` has."""
        assert {"_receipt": "call_1", "result": None} == node("""
            return await withReceipts(() => ({ toJSON: () => undefined }))(delivered("call_1"));
        """)

    def test_text_cut_through_a_character_is_mended(self, node: Node) -> None:
        """Half an emoji is no Unicode: ChatKit would refuse the request, and the call would stay open for ever."""
        assert [["cut \ufffd"], "cut \ufffd"] == node("""
            const half = "cut \\u{1F600}".slice(0, 5);
            const answers = withReceipts(() => [half]), fails = withReceipts(() => { throw half; }, { onError });
            return [(await answers(delivered("call_1"))).result, (await fails(delivered("call_2"))).error];
        """)

    @pytest.mark.parametrize(
        ("call", "answer"),
        [
            ("undefined", {}),
            ("null", {}),
            ('"pick"', {}),
            ('{ name: "pick" }', {}),
            ('{ name: "pick", params: null }', {}),
            ('{ name: "pick", params: "at 1" }', "at 1"),
            ('{ name: "pick", get params() { throw new Error("gone"); } }', {"error": "gone"}),
            (
                '{ name: "pick", params: { _receipt: "call_1", get at() { throw new Error("gone"); } } }',
                {"_receipt": "call_1", "error": "gone"},
            ),
        ],
    )
    def test_whatever_is_delivered_is_answered(self, node: Node, call: str, answer: object) -> None:
        """A function made by `withReceipts` never throws or rejects, whatever it is called with."""
        assert answer == node(f"""
            return await withReceipts((call) => call.params, {{ onError }})({call});
        """)

    def test_no_call_at_all_names_no_tool(self, node: Node) -> None:
        """An object of handlers answers even a call without a name."""
        assert {"error": 'this page has no client tool "undefined"'} == node("""
            return await withReceipts({}, { onError })(null);
        """)

    def test_the_page_is_told(self, node: Node) -> None:
        """`onError` gets what was thrown, and the call as it was delivered."""
        assert [[True, {"name": "pick", "params": {"_receipt": "call_1"}}]] == node("""
            const thrown = new Error("no canvas");
            await withReceipts(() => { throw thrown; }, { onError })(delivered("call_1"));
            return errors.map(([error, call]) => [error === thrown, call]);
        """)

    @pytest.mark.parametrize("listener", ["() => { throw thrown; }", "async () => { throw thrown; }"])
    def test_a_listener_that_fails_does_no_harm(self, node: Node, listener: str) -> None:
        """An `onError` that throws or rejects is named in the console, and the answer is the same."""
        assert [{"_receipt": "call_1", "error": "no canvas"}, "chatkit_clienttools: onError failed:"] == node(f"""
            const told = new Promise((resolve) => {{ console.error = resolve; }});
            const thrown = new Error("no canvas");
            const pick = withReceipts(() => {{ throw thrown; }}, {{ onError: {listener} }});
            return [await pick(delivered("call_1")), await told];
        """)

    def test_a_listener_is_not_waited_for(self, node: Node) -> None:
        """An `onError` that never ends does not hold the answer back."""
        assert {"_receipt": "call_1", "error": "no canvas"} == node("""
            const onError = () => new Promise(() => {});
            return await withReceipts(() => { throw "no canvas"; }, { onError })(delivered("call_1"));
        """)

    def test_the_console_is_told_by_default(self, node: Node) -> None:
        """Without `onError` a failure is in the console, with the tool's name and never with params."""
        assert ["chatkit_clienttools: client tool pick failed:", "no canvas"] == node("""
            console.error = (...said) => errors.push(...said);
            await withReceipts(() => { throw "no canvas"; })(delivered("call_1"));
            return errors;
        """)


class TestOnce:
    def test_a_second_delivery_is_answered_from_memory(self, node: Node) -> None:
        """A receipt is executed once, and each further delivery of it is answered from memory."""
        assert [[{"_receipt": "call_1", "result": 1}] * 3, 1] == node("""
            const pick = withReceipts(() => calls.push(1));
            const answers = [];
            for (const _ of [1, 2, 3]) answers.push(await pick(delivered("call_1")));
            return [answers, calls.length];
        """)

    async def test_a_call_id_that_comes_again_in_another_thread_is_another_call(self, node: Node) -> None:
        """A gateway that caches gives one id to calls of two threads: the receipts differ, and both are executed."""
        first, second = [await delivered_with_call_id("call_cached") for _ in range(2)]

        assert [first["call_id"], second["call_id"]] == ["call_cached"] * 2
        assert [[1, 2], 2] == node(f"""
            const pick = withReceipts(() => calls.push(1));
            const ask = async (call) => (await pick({{ name: call.name, params: call.arguments }})).result;
            return [[await ask({json.dumps(first)}), await ask({json.dumps(second)})], calls.length];
        """)

    def test_an_error_is_remembered_too(self, node: Node) -> None:
        """A handler that failed is not tried again: half of its work may be done."""
        assert [[{"_receipt": "call_1", "error": "try 1"}] * 2, 1] == node("""
            const pick = withReceipts(() => { throw `try ${calls.push(1)}`; }, { onError });
            return [[await pick(delivered("call_1")), await pick(delivered("call_1"))], errors.length];
        """)

    def test_a_delivery_meanwhile_shares_the_execution(self, node: Node) -> None:
        """While it is executed, other deliveries of the receipt wait for the same answer."""
        assert [[{"_receipt": "call_1", "result": "done"}] * 3, 1] == node("""
            let finish;
            const pick = withReceipts(() => { calls.push(1); return new Promise((resolve) => { finish = resolve; }); });
            const answers = [pick(delivered("call_1")), pick(delivered("call_1")), pick(delivered("call_1"))];
            finish("done");
            return [await Promise.all(answers), calls.length];
        """)

    def test_different_receipts_do_not_wait_for_one_another(self, node: Node) -> None:
        """A handler that never returns holds up its own call only."""
        assert {"_receipt": "call_2", "result": "call_2"} == node("""
            const pick = withReceipts(({ params }) => params.slow ? new Promise(() => {}) : "call_2");
            pick(delivered("call_1", "pick", { slow: true }));
            return await pick(delivered("call_2"));
        """)

    def test_a_handler_that_is_wrapped_again_shares_the_memory(self, node: Node) -> None:
        """A page may wrap its handler whenever it is rendered, even while a call is being executed."""
        assert [[{"_receipt": "call_1", "result": "first"}] * 2, {"_receipt": "call_1", "result": "first"}] == node("""
            let finish;
            const first = withReceipts(() => new Promise((resolve) => { finish = resolve; }))(delivered("call_1"));
            const second = withReceipts(() => "second")(delivered("call_1"));
            finish("first");
            return [await Promise.all([first, second]), await withReceipts(() => "third")(delivered("call_1"))];
        """)

    def test_a_remembered_answer_cannot_be_changed(self, node: Node) -> None:
        """What is answered again is what was answered first, whatever became of that object."""
        assert {"_receipt": "call_1", "result": {"ids": []}} == node("""
            const ids = [];
            const pick = withReceipts(() => ({ ids }));
            (await pick(delivered("call_1"))).result.ids.push(1);
            ids.push(2);
            return await pick(delivered("call_1"));
        """)

    def test_the_newest_receipts_are_remembered(self, node: Node) -> None:
        """No more than `remember` receipts, on the page and in the storage; the oldest go."""
        assert [["call_2", "call_3"], [2, 3, 4]] == node("""
            const storage = new FakeStorage();
            const pick = withReceipts(() => calls.push(1), { storage, remember: 2 });
            for (const n of [1, 2, 3]) await pick(delivered(`call_${n}`));
            const kept = [storage.key(0), storage.key(1)].map((key) => key.split(":")[1]).sort();
            const answers = [];
            for (const n of [2, 3, 1]) answers.push((await pick(delivered(`call_${n}`))).result);
            return [kept, answers];
        """)

    def test_256_are_remembered_by_default(self, node: Node) -> None:
        """The memory of a page that is open for weeks does not grow."""
        assert [256, False, True] == node("""
            const storage = new FakeStorage();
            const pick = withReceipts(() => 1, { storage });
            for (let n = 0; n < 300; n++) await pick(delivered(`call_${n}`));
            const has = (receipt) => storage.getItem(`chatkit_clienttools:${receipt}`) !== null;
            return [storage.length, has("call_43"), has("call_44")];
        """)

    def test_a_call_being_executed_is_never_forgotten(self, node: Node) -> None:
        """A call being executed is never forgotten, however many receipts are answered meanwhile."""
        assert [{"_receipt": "slow", "result": "once"}] * 2 == node("""
            let finish;
            const slow = new Promise((resolve) => { finish = resolve; });
            const pick = withReceipts({ wait: () => slow, pick: () => 1 }, { remember: 1 });
            const first = pick(delivered("slow", "wait"));
            for (const n of [1, 2, 3]) await pick(delivered(`call_${n}`));
            const second = pick(delivered("slow", "pick"));
            finish("once");
            return await Promise.all([first, second]);
        """)


class TestStorage:
    def test_an_answer_survives_a_reload(self, node: Node) -> None:
        """What is in the storage is answered, and not executed, by a page that remembers nothing itself."""
        assert [{"_receipt": "call_1", "result": [1]}, {"_receipt": "call_2", "error": "no canvas"}] == node("""
            const storage = new FakeStorage();
            const handlers = { pick: () => [1], fail: () => { throw "no canvas"; } };
            const before = withReceipts(handlers, { storage, onError });
            await before(delivered("call_1"));
            await before(delivered("call_2", "fail"));
            const after = (await reloaded()).withReceipts(() => "executed", { storage });
            return [await after(delivered("call_1")), await after(delivered("call_2"))];
        """)

    def test_a_call_that_was_not_answered_is_executed_again(self, node: Node) -> None:
        """A reload while the handler runs: nothing was answered, so the call is executed by the new page."""
        assert [{"_receipt": "call_1", "result": "again"}, 1] == node("""
            const storage = new FakeStorage();
            withReceipts(() => { calls.push(1); return new Promise(() => {}); }, { storage })(delivered("call_1"));
            const after = (await reloaded()).withReceipts(() => "again", { storage });
            return [await after(delivered("call_1")), calls.length];
        """)

    def test_what_is_somebody_elses_is_left_alone(self, node: Node) -> None:
        """Only keys of the storage that begin with our prefix are ever removed."""
        assert ["theirs", None] == node("""
            const storage = new FakeStorage();
            storage.setItem("theirs", "theirs");
            const pick = withReceipts(() => 1, { storage, remember: 1 });
            await pick(delivered("call_1"));
            await pick(delivered("call_2"));
            return [storage.getItem("theirs"), storage.getItem("chatkit_clienttools:call_1")];
        """)

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "{",
            "null",
            "7",
            "[]",
            "{}",
            '[1,"{"]',
            '[1,"null"]',
            '[1,"[]"]',
            '[1,"{}"]',
            "[1,7]",
            "[1,{}]",
            '[1,"{\\\\"error\\\\":7}"]',
            '[1,"{\\\\"result\\\\":1,\\\\"error\\\\":\\\\"both\\\\"}"]',
            '[1,"{\\\\"other\\\\":1}"]',
        ],
    )
    def test_a_damaged_entry_counts_as_none(self, node: Node, entry: str) -> None:
        """What is not an outcome of ours is not answered: the call is executed, and the entry mended."""
        assert [{"_receipt": "call_1", "result": 42}, '[1,"{\\"result\\":42}"]'] == node(f"""
            const storage = new FakeStorage();
            storage.setItem("chatkit_clienttools:call_1", '{entry}');
            return [
                await withReceipts(() => 42, {{ storage }})(delivered("call_1")),
                storage.getItem("chatkit_clienttools:call_1"),
            ];
        """)

    @pytest.mark.parametrize(
        "storage",
        [
            "null",
            "undefined",
            "{}",
            "{ getItem: 1, setItem: 2, length: 3 }",
            "new Proxy({}, { get() { throw new Error('SecurityError'); } })",
            "{ length: 0, key: () => null, getItem: () => null, setItem() { throw 'full'; }, removeItem() {} }",
            "{ length: 1, key: () => 'chatkit_clienttools:a', getItem: () => '[1]', removeItem() { throw 'broken'; } }",
        ],
    )
    def test_a_storage_that_fails_leaves_the_page_its_memory(self, node: Node, storage: str) -> None:
        """Absent, forbidden, full or broken: nothing is thrown, and on this page a receipt is still executed once."""
        assert [[{"_receipt": "call_1", "result": 1}] * 2, 1] == node(f"""
            const pick = withReceipts(() => calls.push(1), {{ storage: {storage}, remember: 1 }});
            return [[await pick(delivered("call_1")), await pick(delivered("call_1"))], calls.length];
        """)

    @pytest.mark.parametrize("removed", ["null", '"chatkit_clienttools:gone"'])
    def test_a_key_that_another_tab_removes_does_no_harm(self, node: Node, removed: str) -> None:
        """In a storage that tabs share, a key may be gone when it is looked at."""
        assert '[1,"{\\"result\\":42}"]' == node(f"""
            class Shared extends FakeStorage {{
                get length() {{ return super.length + 1; }}
                key(index) {{ return index ? super.key(index - 1) : {removed}; }}
            }}
            const storage = new Shared();
            await withReceipts(() => 42, {{ storage }})(delivered("call_1"));
            return storage.getItem("chatkit_clienttools:call_1");
        """)

    def test_a_forbidden_session_storage_is_none(self, node: Node) -> None:
        """Where the page may not even look at `sessionStorage`, it remembers by itself."""
        assert [{"_receipt": "call_1", "result": 1}] * 2 == node("""
            const get = () => { throw new Error("SecurityError"); };
            Object.defineProperty(globalThis, "sessionStorage", { get, configurable: true });
            const pick = withReceipts(() => calls.push(1));
            return [await pick(delivered("call_1")), await pick(delivered("call_1"))];
        """)

    def test_the_newest_answer_takes_the_place_of_the_oldest(self, node: Node) -> None:
        """In a storage that is full of ours the oldest answer makes room: it is the newest call that comes again."""
        assert [False, True, True] == node("""
            const storage = new FakeStorage(400);
            const pick = withReceipts(() => "x".repeat(80), { storage });
            for (const n of [1, 2, 3, 4]) await pick(delivered(`call_${n}`));
            const has = (receipt) => storage.getItem(`chatkit_clienttools:${receipt}`) !== null;
            return [has("call_1"), has("call_3"), has("call_4")];
        """)

    def test_an_answer_too_big_is_remembered_by_the_page_alone(self, node: Node) -> None:
        """An answer too big for the storage is remembered by the page alone, and removes no other answer."""
        assert [True, False, {"_receipt": "call_2", "result": 500}] == node("""
            const storage = new FakeStorage(400);
            const pick = withReceipts(() => calls.push(1) === 1 ? "small" : "x".repeat(500), { storage });
            await pick(delivered("call_1"));
            await pick(delivered("call_2"));
            const has = (receipt) => storage.getItem(`chatkit_clienttools:${receipt}`) !== null;
            const again = await pick(delivered("call_2"));
            return [has("call_1"), has("call_2"), { ...again, result: again.result.length }];
        """)


class TestResume:
    def test_the_action_is_the_one_the_server_knows(self, node: Node) -> None:
        """RESUME is an action without a payload, and nobody can change it."""
        assert [{"type": "chatkit_clienttools.resume", "payload": {}}, True, True] == node("""
            return [RESUME, Object.isFrozen(RESUME), Object.isFrozen(RESUME.payload)];
        """)

    def test_it_is_sent_for_every_thread_that_was_loaded(self, node: Node) -> None:
        """`resumeOnLoad` sends the action each time, until it is stopped."""
        assert [RESUME, RESUME] == node("""
            const sendCustomAction = async (action) => { calls.push(action); };
            const chatkit = Object.assign(new EventTarget(), { sendCustomAction });
            const stop = resumeOnLoad(chatkit);
            for (const _ of [1, 2]) chatkit.dispatchEvent(new Event("chatkit.thread.load.end"));
            stop();
            chatkit.dispatchEvent(new Event("chatkit.thread.load.end"));
            return calls;
        """)

    @pytest.mark.parametrize("send", ["async () => { throw 'offline'; }", "() => { throw 'offline'; }"])
    def test_a_failure_is_told_and_not_thrown(self, node: Node, send: str) -> None:
        """An action that cannot be sent is never an unhandled rejection: `onError` is told."""
        assert "offline" == node(f"""
            return await new Promise((resolve) => {{
                const chatkit = Object.assign(new EventTarget(), {{ sendCustomAction: {send} }});
                resumeOnLoad(chatkit, {{ onError: resolve }});
                chatkit.dispatchEvent(new Event("chatkit.thread.load.end"));
            }});
        """)

    def test_the_console_is_told_by_default(self, node: Node) -> None:
        """Without `onError` it is in the console."""
        assert ["chatkit_clienttools: resume failed:", "offline"] == node("""
            return await new Promise((resolve) => {
                console.error = (...said) => resolve(said);
                const chatkit = Object.assign(new EventTarget(), { sendCustomAction: () => Promise.reject("offline") });
                resumeOnLoad(chatkit);
                chatkit.dispatchEvent(new Event("chatkit.thread.load.end"));
            });
        """)


RESUME = {"type": "chatkit_clienttools.resume", "payload": {}}
