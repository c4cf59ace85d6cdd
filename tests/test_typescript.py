"""The types for the frontend: what is written for each kind of Python type, and what the real compiler says to it."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, Union, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    computed_field,
    create_model,
)
from typing_extensions import NotRequired, TypedDict

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools._typescript import TAIL, declarations
from chatkit_clienttools.errors import UsageError
from tests.helpers.typescript import compiled

FOLDER = Path(__file__).parent / "typescript"
CANVAS = (FOLDER / "canvas.d.ts").read_text("utf-8")

KEYWORDS = """
any as asserts assert async await abstract accessor bigint boolean break case catch class const constructor
continue debugger declare default defer delete do else enum export extends false finally for from function get
global if implements import in infer instanceof interface intrinsic is keyof let module namespace never new
null number object of out override package private protected public readonly require return satisfies set
static string super switch symbol this throw true try type typeof undefined unique unknown using var void
while with yield Array Awaited Date Map Object Partial Pick Record Set String
"""
"""The words of TypeScript, and some of the names that every file knows."""

T = TypeVar("T")
LIST, DICT, TUPLE = cast("tuple[Any, Any, Any]", (list, dict, tuple))  # for types that are made at run time


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Cell(Enum):
    ORIGIN = (0, 0)
    UNIT = (1, 1)


class Point(NamedTuple):
    x: int
    y: int = 0


class Size(TypedDict):
    width: int
    height: NotRequired[int]


@dataclass
class Area:
    size: Size
    name: str = "all"


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Shape(RootModel[Annotated[Circle | Square, Field(discriminator="kind")]]):
    pass


class Page(BaseModel, Generic[T]):
    items: list[T]


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Nested(RootModel[int | list["Nested"]]):
    pass


class Table(RootModel[dict[str, Union[int, "Table"]]]):  # 3.10
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Numbers(Open):
    __pydantic_extra__: dict[str, int]  # pyright: ignore[reportIncompatibleVariableOverride]


class Empty(BaseModel):
    pass


class Named(BaseModel):
    model_config = ConfigDict(title="a name of its own", populate_by_name=True)

    starts: datetime = Field(alias="startsAt")
    valid: int = Field(1, validation_alias="is-valid", serialization_alias="isValid")


class Documented(BaseModel):
    """Two lines, and the end of a comment: */.

    export const hacked = true; /*
    """

    first: int = Field(description="one line */")
    second: Circle = Field(description="of a model", deprecated=True)
    third: int = Field(description="two\nlines", deprecated=True)


class Box(BaseModel):
    width: int

    @computed_field(description="from the width")  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width**2


class Custom:
    pass


def tools_for(annotation: Any) -> list[ClientTool[..., Any]]:
    """A tool that takes it, and one that answers with it."""
    return [
        ClientTool("takes", create_model("Takes", it=(annotation, ...)), result=None),
        ClientTool("gives", result=annotation),
    ]


def written(*tools: ClientTool[..., Any]) -> str:
    """What is written for tools, without what is the same for all."""
    text = declarations(tools, "make types")
    return text[text.index("\n") + 1 : text.index("/** Every client tool")].strip()


def taken(annotation: Any) -> str:
    """How a field of that type is written in the params."""
    found: list[str] = re.findall(
        r"^export type Takes = \{\n  it\??: (.*?);\n\};$", written(*tools_for(annotation)), re.MULTILINE | re.DOTALL
    )
    return found[0]


def given_back(annotation: Any) -> str:
    """How an answer of that type is written."""
    found: list[str] = re.findall(
        r'name: "gives"; params: .*?; result: (.*) \}', declarations(tools_for(annotation), "x")
    )
    return found[0]


SIMPLE = {
    "str": (str, "string"),
    "int": (int, "number"),
    "float": (float, "number"),
    "bool": (bool, "boolean"),
    "None": (None, "null"),
    "Any": (list[Any], "unknown[]"),
    "object": (list[object], "unknown[]"),
    "nullable": (str | None, "string | null"),
    "union": (str | int | None, "string | number | null"),
    "union of the same": (int | float, "number"),
    "Literal": (Literal["a", 'b"c', 1, True], r'"a" | "b\"c" | 1 | true'),
    "const": (Literal["only"], '"only"'),
    "date": (date, "string /* date */"),
    "datetime": (datetime, "string /* date-time */"),
    "time": (time, "string /* time */"),
    "UUID": (UUID, "string /* uuid */"),
    "bytes": (bytes, "string /* binary */"),
    "URL": (AnyUrl, "string /* uri */"),
    "list": (list[int], "number[]"),
    "list of lists": (list[list[int]], "number[][]"),
    "list of a union": (list[int | str], "(number | string)[]"),
    "list of dates": (list[date], "(string /* date */)[]"),
    "list with a length": (Annotated[list[int], Field(min_length=2, max_length=2)], "number[]"),
    "set": (set[str], "string[]"),
    "tuple": (tuple[int, str], "[number, string]"),
    "tuple of one type": (tuple[int, ...], "number[]"),
    "empty tuple": (tuple[()], "[]"),
    "dict": (dict[str, int], "{ [key: string]: number }"),
    "dict of anything": (dict[str, Any], "{ [key: string]: unknown }"),
    "dict with other keys": (dict[int, str], "{ [key: string]: string }"),
    "dict with known keys": (dict[Literal["a", "b"], int], '{ [key in "a" | "b"]?: number }'),
    "dict with keys of an enum": (dict[Colour, int], "{ [key in Colour]?: number }"),
    "dict with keys of a pattern": (
        dict[Annotated[str, StringConstraints(pattern="^a")], int],
        "{ [key: string]: number }",
    ),
    "model": (Circle, "Circle"),
    "list of models": (list[Circle], "Circle[]"),
    "JSON": (list[JsonValue], "JsonValue[]"),
    "schema of one's own: false": (Annotated[int, WithJsonSchema({"type": "array", "items": False})], "never[]"),
    "schema of one's own: several types": (
        Annotated[int, WithJsonSchema({"type": ["string", "null"]})],
        "string | null",
    ),
    "schema of one's own: all of": (
        Annotated[int, WithJsonSchema({"allOf": [{"type": "number"}, {"enum": [1, 2]}]})],
        "number & (1 | 2)",
    ),
    "schema of one's own: nothing": (Annotated[int, WithJsonSchema({})], "unknown"),
    "schema of one's own: elsewhere": (Annotated[int, WithJsonSchema({"$ref": "https://example.com/a"})], "unknown"),
    "schema of one's own: a tuple and more": (
        Annotated[int, WithJsonSchema({"type": "array", "prefixItems": [{"type": "null"}], "items": {"enum": [1, 2]}})],
        "[null?, ...(1 | 2)[]]",
    ),
    "schema of one's own: a tuple with an end": (
        Annotated[
            int, WithJsonSchema({"type": "array", "prefixItems": [True], "items": True, "minItems": 1, "maxItems": 1})
        ],
        "[unknown]",
    ),
    "schema of one's own: a closed object": (
        Annotated[int, WithJsonSchema({"type": "object", "additionalProperties": False})],
        "{ [key: string]: never }",
    ),
    "schema of one's own: an object": (
        Annotated[int, WithJsonSchema({"type": "object"})],
        "{ [key: string]: unknown }",
    ),
}
"""Types that are written in the same way in params and in results."""

NAMED: dict[str, tuple[Any, str]] = {
    "enum": (Colour, 'Colour = "red" | "blue"'),
    "enum of numbers": (Level, "Level = 1 | 2"),
    "enum of tuples": (Cell, "Cell = [0, 0] | [1, 1]"),
    "TypedDict": (Size, "Size = {\n  width: number;\n  height?: number;\n}"),
    "NamedTuple": (Point, "Point = [number, number?]"),
    "discriminated union": (Shape, "Shape = Circle | Square"),
    "generic": (Page[dict[str, int]], "PageDictStrInt = {\n  items: { [key: string]: number }[];\n}"),
    "root model of itself": (Nested, "Nested = number | Nested[]"),
    "root model of itself by name": (Table, "Table = { [key: string]: number | Table }"),
    "extra fields": (Open, "Open = {\n  name: string;\n  [key: string]: unknown;\n}"),
    "extra fields of a type": (Numbers, "Numbers = {\n  name: string;\n  [key: string]: unknown;\n}"),
    "no fields": (Empty, "Empty = { [key: string]: never }"),
}


class TestTypes:
    @pytest.mark.parametrize("kind", SIMPLE)
    def test_without_a_name(self, kind: str) -> None:
        """A type without a name is written where it is used."""
        annotation, typescript = SIMPLE[kind]

        assert typescript == taken(annotation)
        assert kind == "None" or typescript == given_back(annotation)

    @pytest.mark.parametrize("kind", NAMED)
    def test_with_a_name(self, kind: str) -> None:
        """A type with a name is exported under it, once, and used by it."""
        annotation, typescript = NAMED[kind]
        name = typescript.partition(" ")[0]

        assert (f"{name}[]", f"{name}[]") == (taken(LIST[annotation]), given_back(LIST[annotation]))
        assert 1 == written(*tools_for(annotation)).count(f"export type {typescript};")

    def test_json(self) -> None:
        """TypeScript has no type for JSON that would be of use: what may be any of it is unknown."""
        assert "export type JsonValue = unknown;" in written(*tools_for(JsonValue))

    def test_durations_and_decimals(self) -> None:
        """What pydantic writes in one way and reads in several is one type in params, and all of them in results."""
        assert ("string /* duration */", "string /* duration */") == (taken(timedelta), given_back(timedelta))
        assert ("string", "number | string") == (taken(Decimal), given_back(Decimal))

    def test_a_serializer(self) -> None:
        """What has a serializer is in params what that returns."""
        length = Annotated[str, PlainSerializer(len, return_type=int)]

        assert ("number", "string") == (taken(length), given_back(length))

    def test_defaults(self) -> None:
        """A field with a default is always there in params, and may be left out of a result."""
        assert (
            "export type Area = {\n  size: Size;\n  name: string;\n};\n\n"
            "export type Size = {\n  width: number;\n  height?: number;\n};\n\n"
            "export type AreaResult = {\n  size: Size;\n  name?: string;\n};"
        ) == written(*tools_for(Area)).partition("\n\n")[2]

    def test_recursion(self) -> None:
        """A model that holds itself does so in TypeScript."""
        assert (
            "export type Tree = {\n  value: number;\n  children: Tree[];\n};\n\n"
            "export type TreeResult = {\n  value: number;\n  children?: TreeResult[];\n};"
        ) == written(ClientTool("grow", Tree, result=Tree))

    def test_aliases(self) -> None:
        """A field has the name it has in JSON, in quotes where it has to; a model has its title's."""
        written_by_us, read_by_us = written(ClientTool("meet", Named, result=Named)).split("\n\n")

        assert (
            "export type aNameOfItsOwn = {\n  startsAt: string /* date-time */;\n  isValid: number;\n};"
            == written_by_us
        )
        assert '  startsAt: string /* date-time */;\n  "is-valid"?: number;' in read_by_us

    def test_computed_fields(self) -> None:
        """A computed field is written by the server, and not asked for."""
        assert (
            "export type Box = {\n  width: number;\n  /** from the width */\n  area: number;\n};\n\n"
            "export type BoxResult = {\n  width: number;\n};"
        ) == written(ClientTool("pack", Box, result=Box))

    def test_descriptions(self) -> None:
        """What models and fields say of themselves are comments, which nothing in them can end."""
        assert (
            "/**\n * Two lines, and the end of a comment: *\\/.\n *\n * export const hacked = true; /*\n */\n"
            "export type Documented = {\n"
            "  /** one line *\\/ */\n  first: number;\n"
            "  /**\n   * of a model\n   * @deprecated\n   */\n  second: Circle;\n"
            "  /**\n   * two\n   * lines\n   * @deprecated\n   */\n  third: number;\n};"
        ) == written(ClientTool("tell", Documented)).partition("\n\nexport type Circle")[0]

    def test_fields_that_may_be_left_out(self) -> None:
        """A field that is left out under a condition may not be there."""
        model = create_model("Takes", it=(int, Field(0, exclude_if=lambda value: not value)))

        assert "export type Takes = {\n  it?: number;\n};" == written(ClientTool("takes", model))


class TestNames:
    def test_one_model_in_several_tools(self) -> None:
        """A model is written once, however many tools use it."""
        text = written(ClientTool("a", Circle, result=None), ClientTool("b", create_model("B", it=(Circle, ...))))

        assert ["Circle", "B"] == re.findall(r"export type (\w+)", text)

    def test_two_models_of_one_name(self) -> None:
        """Two models of one name have two; what refers to them refers to the right one."""
        one, two, three = (
            create_model("Model", inner=(create_model("Inner", **cast("Any", {name: (int, ...)})), ...))
            for name in "abc"
        )

        assert {"Model": "Inner", "ModelParams": "InnerParams", "Model2": "Inner2"} == dict(
            re.findall(r"export type (\w+) = \{\n  inner: (\w+);", written(*map(ClientTool, "abc", (one, two, three))))
        )

    @pytest.mark.parametrize(
        ("title", "name"),
        [
            ("Page[int, str]", "PageIntStr"),
            ("3D", "_3D"),
            ("Größe", "Größe"),
            ("[]", "Unnamed"),
            ("string", "stringParams"),
        ],
    )
    def test_titles(self, title: str, name: str) -> None:
        """What is no name in TypeScript is made one."""
        model = create_model("Model", __config__=ConfigDict(title=title))

        assert f"export type {name} = " in written(ClientTool("a", model))

    @pytest.mark.parametrize("name", ['say "hi"', "größe \U0001f600", "{0}", "%s/$ref", "\ud800"])
    def test_tools(self, name: str) -> None:
        """A tool's name may be anything."""
        (found,) = re.findall(r'\| \{ name: (".*?"); params: Circle; ', declarations([ClientTool(name, Circle)], "x"))

        assert name == json.loads(found)

    def test_order(self) -> None:
        """The types come in the order in which the tools were declared, and the same each time."""
        tools = [ClientTool(name, result=set[Literal["b", "a"]]) for name in "cab"]

        assert ["c", "a", "b"] == re.findall(r'name: "(\w)"', declarations(tools, "x"))
        assert declarations(tools, "x") == declarations(tools, "x")

    def test_no_tools(self) -> None:
        """Without tools there is nothing to be called."""
        assert "export type ClientTool = never;" in declarations([], "x")

    def test_a_sequencer_lists_its_tools(self) -> None:
        """What a sequencer was given it gives back, in that order."""
        tools = [ClientTool("b"), ClientTool("a")]

        assert tuple(tools) == ClientToolSequencer(tools).tools


class TestErrors:
    @pytest.mark.parametrize("annotation", [Callable[[], int], int | Callable[[], int], list[Custom]])
    def test_no_schema(self, annotation: Any) -> None:
        """A type that has no JSON schema is one error, which names the tool; half a union is no type."""
        model = create_model("Takes", __config__=ConfigDict(arbitrary_types_allowed=True), it=(annotation, ...))

        with pytest.raises(UsageError, match=r"^The params of client tool 'takes' cannot be typed: .+$"):
            declarations([ClientTool("takes", model)], "x")
        with pytest.raises(UsageError, match=r"^The result of client tool 'gives' cannot be typed: .+$"):
            declarations([ClientTool("gives", result=model)], "x")

    def test_a_default_that_is_not_json(self) -> None:
        """A default is not part of the type, so it does not have to be JSON."""
        model = create_model("Takes", it=(Any, Custom()))

        assert "export type Takes = {\n  it: unknown;\n};" == written(ClientTool("takes", model))


class TestCompiler:
    def test_usage_and_mistakes(self, tmp_path: Path) -> None:
        """What is right compiles, with ChatKit.js's own types; what is wrong has the error that its line tells of."""
        files = {name: (FOLDER / name).read_text("utf-8") for name in ("canvas.d.ts", "usage.ts", "mistakes.ts")}
        expected = {
            ("mistakes.ts", number, code)
            for number, line in enumerate(files["mistakes.ts"].splitlines(), 1)
            for code in re.findall(r"// (TS\d+)$", line)
        }

        errors = {(file, line, code) for file, line, code, _ in compiled(tmp_path, files)}

        assert len(expected) > 15
        assert expected == errors

    def test_every_type(self, tmp_path: Path) -> None:
        """Whatever is written is TypeScript: each kind of type, a model named by each of its words, any tool's name."""
        kinds = {**SIMPLE, **NAMED}
        files = {f"kind{n}.d.ts": declarations(tools_for(kinds[kind][0]), kind) for n, kind in enumerate(kinds)}
        models = [
            create_model(word, it=(int, ...))
            for word in sorted({*KEYWORDS.split(), *re.findall(r"[a-z]\w+", TAIL, re.IGNORECASE)})
        ]
        files["words.d.ts"] = declarations([ClientTool(model.__name__, model, result=model) for model in models], "x")
        names = ['say "hi"', "größe \U0001f600", "\ud800", "__proto__", "\u2028"]
        files["names.d.ts"] = declarations([ClientTool(name, Documented, result=Named) for name in names], "x")
        files["none.d.ts"] = declarations([], "x")

        assert [] == compiled(tmp_path, files)


Typed = tuple[Any, st.SearchStrategy[Any]]
"""A type, and what makes values of it."""

NAMES = st.text(string.ascii_letters + 'é"-. ', min_size=1, max_size=5)
LEAVES: st.SearchStrategy[Typed] = st.one_of(
    *(
        st.just((annotation, st.from_type(annotation)))
        for annotation in cast("Any", [str, int, bool, date, datetime, UUID, Colour, Level, Size, Literal["a", 1]])
    ),
    st.just((float, st.floats(allow_nan=False, allow_infinity=False))),
    st.just((Decimal, st.decimals(allow_nan=False, allow_infinity=False))),
    st.just((bytes, st.text(max_size=3).map(str.encode))),
)


def branches(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        inner.map(lambda one: (LIST[one[0]], st.lists(one[1], max_size=2))),
        inner.map(lambda one: (DICT[str, one[0]], st.dictionaries(NAMES, one[1], max_size=2))),
        inner.map(lambda one: (one[0] | None, st.none() | one[1])),
        st.tuples(inner, inner).map(lambda two: (TUPLE[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))),
        st.lists(inner, min_size=1, max_size=3).map(model_of),
    )


def model_of(fields: list[Typed]) -> Typed:
    """A model with a field for each type, and what makes instances of it."""
    model = create_model("Model", **cast("Any", {f"f{n}": (each[0], ...) for n, each in enumerate(fields)}))
    return model, st.builds(model, **{f"f{n}": each[1] for n, each in enumerate(fields)})


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[Any, Any]:
    annotation, values = draw(st.recursive(LEAVES, branches, max_leaves=6))
    return annotation, draw(values)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(examples=st.lists(typed_values(), min_size=20, max_size=40))
def test_the_compiler_takes_what_pydantic_writes(
    tmp_path_factory: pytest.TempPathFactory, examples: list[tuple[Any, Any]]
) -> None:
    """Whatever params the server can send are of their type, and as an answer of the result's."""
    tools, lines = [], ['import type { ClientToolParams, ClientToolResult } from "./tools";']
    for n, (annotation, value) in enumerate(examples):
        tool: Any = ClientTool(f"t{n}", create_model("Takes", it=(annotation, ...)), result=annotation)
        params = tool(it=value).arguments
        tools.append(tool)
        lines.append(f'export const p{n}: ClientToolParams<"t{n}"> = {json.dumps(params)};')
        assert tool.problem_with(params["it"]) is None
        lines.append(f'export const r{n}: ClientToolResult<"t{n}"> = {json.dumps(params["it"])};')

    files = {"tools.d.ts": declarations(tools, "x"), "values.ts": "\n".join(lines)}

    assert [] == compiled(tmp_path_factory.mktemp("values"), files)
