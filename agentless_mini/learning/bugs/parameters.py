"""What the parameters of a function take, guessed from annotations, defaults, the body's ways with them, and names."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentless_mini.learning.bugs.harvest import Function
from agentless_mini.learning.bugs.values import KINDS

# The last part of a name, after an underscore or by itself, and the kinds of values that it speaks for.
_LAST_WORDS = (
    ("flag verbose reverse strict force enabled", ("bool",)),
    ("n i j k x y z num count size width height length index idx depth limit", ("int",)),
    ("start end stop step pos position offset", ("int",)),
    ("ratio scale rate amount seconds weight alpha fraction factor", ("float", "int")),
    ("pairs edges", ("pairs",)),
    ("names lines words parts tokens keys tags texts strings paths args argv", ("strings",)),
    ("numbers sizes widths indices ints weights counts data xs ys", ("ints",)),
    ("items values seq sequence iterable lst list elements rows array it iterator", ("ints", "strings", "string")),
    ("d dict mapping map kwargs options params attrs config headers env context meta kw", ("dict",)),
    ("matrix grid table", ("table",)),
    ("bytes buf buffer raw blob payload", ("bytes",)),
    ("func function callback fn predicate f g", ("function", "string")),
    ("date day time dt when", ("string", "int")),
    (
        "text str string s c name line path url uri title label prefix suffix sep separator delimiter word code "
        "message msg pattern value version char ch key tag host spec",
        ("string",),
    ),
)  # fmt: skip
_FLAGS = re.compile(r"(?:is|has|use|with|allow|ignore|strict|keep|include|skip|no)_.+")
_METHODS = {
    "string": (
        "strip lstrip rstrip split rsplit splitlines lower upper startswith endswith replace title capitalize "
        "partition rpartition encode isdigit isalpha isidentifier zfill ljust rjust center format casefold find rfind "
        "isspace"
    ),
    "dict": "items keys values setdefault get update",
    "ints": "append extend sort",
    "bytes": "decode hex",
    "set": "union intersection difference issubset issuperset",
}
_TYPING = r"(?:typing\.|t\.|collections\.abc\.)?"
_TYPES = (
    (r"dict|Dict|Mapping|MutableMapping", "dict"), (r"set|Set|frozenset|FrozenSet|AbstractSet", "set"),
    (r"bool", "bool"), (r"int|SupportsInt|SupportsIndex", "int"), (r"float|Number|complex", "float"),
    (r"bytes|bytearray|ReadableBuffer", "bytes"), (r"str|AnyStr|Text|LiteralString|StrPath|PathLike|Literal", "string"),
    (r"None", "none"), (r"Any|object|T", "any"), (r"Callable", "function"),
)  # fmt: skip
_MANY = re.compile(
    rf"{_TYPING}(?:list|List|Sequence|Iterable|Iterator|Collection|tuple|Tuple|MutableSequence)(?:\[(.*)\])?"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: the kinds of values that suit it, likelier ones more often, and how it is passed."""

    name: str
    kinds: tuple[str, ...]
    is_optional: bool
    by_keyword: bool


def style_of(function: Function) -> str:
    """Return how a method is bound: "staticmethod", "classmethod", "property", or "" for a plain one."""
    named = [ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list]
    known = {"staticmethod": "staticmethod", "classmethod": "classmethod"}
    properties = dict.fromkeys(("property", "cached_property"), "property")
    return next(({**known, **properties}[name] for name in named if name in {**known, **properties}), "")


def constructor_parameters(owner: ast.ClassDef | None) -> tuple[Parameter, ...]:
    """Return what a class is made with: by its `__init__`, or by the fields of a dataclass."""
    body = owner.body if owner else []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return parameters_of(node, owner)
    fields = [(node.target, node) for node in body if isinstance(node, ast.AnnAssign)]
    return tuple(
        Parameter(target.id, _of_annotation(field.annotation) or KINDS, field.value is not None, by_keyword=True)
        for target, field in fields
        if isinstance(target, ast.Name)
    )


def parameters_of(function: Function, owner: ast.ClassDef | None) -> tuple[Parameter, ...]:
    """Return the parameters of a function, without the one that a method is bound to, `*args` and `**kwargs`."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    first = 1 if owner is not None and style_of(function) != "staticmethod" else 0
    placed = list(zip(positional, defaults, strict=True))[first:]
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return (
        *(Parameter(one.arg, _kinds(function, one, value), value is not None, False) for one, value in placed),
        *(Parameter(one.arg, _kinds(function, one, value), value is not None, True) for one, value in named),
    )


def _kinds(function: Function, argument: ast.arg, default: ast.expr | None) -> tuple[str, ...]:
    found = list(_of_annotation(argument.annotation)) if argument.annotation is not None else []
    if isinstance(default, ast.Constant) and default.value is not None:
        found.append(_of_value(default.value))
    if not found:
        used = list(_of_uses(function, argument.arg))
        found = [*used, *used, *_of_name(argument.arg)]
    return tuple(kind for kind in found if kind in KINDS) or KINDS


def _of_value(value: object) -> str:
    return "string" if isinstance(value, str) else type(value).__name__


def _of_name(name: str) -> tuple[str, ...]:
    if _FLAGS.fullmatch(name):
        return ("bool",)
    last = name.rpartition("_")[2].rstrip("0123456789") or name
    return next((kinds for words, kinds in _LAST_WORDS if last in words.split()), ())


def _of_annotation(annotation: ast.expr) -> tuple[str, ...]:
    text = ast.unparse(annotation).strip("'\"")
    if union := re.fullmatch(rf"{_TYPING}(?:Optional|Union)\[(.*)\]", text):
        text = union[1].replace(", ", " | ") + (" | None" if "Optional" in text else "")
    return tuple(kind for part in _members(text) for kind in _of_type(part.strip()))


def _members(text: str) -> Iterator[str]:
    """Yield the members of a union, those inside brackets left alone."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "|" and not depth:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _of_type(text: str) -> tuple[str, ...]:
    if many := _MANY.fullmatch(text):
        inner = many[1] or ""
        if inner.lower().startswith(("tuple[", "typing.tuple[")):
            return ("pairs",)
        is_number = "int" in inner or "float" in inner
        return ("strings",) if "str" in inner else ("ints",) if is_number else ("ints", "strings")
    return tuple(kind for pattern, kind in _TYPES if re.fullmatch(rf"{_TYPING}(?:{pattern})(?:\[.*)?", text))[:1]


def _of_uses(function: Function, name: str) -> Iterator[str]:
    """Yield the kinds that the body's ways with a parameter speak for."""
    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=ast.Name(id=base), attr=attribute) if base == name:
                yield from (kind for kind, methods in _METHODS.items() if attribute in methods.split())
            case ast.BinOp(left=ast.Name(id=base), op=ast.Sub() | ast.Div() | ast.FloorDiv() | ast.Mult()) if (
                base == name
            ):
                yield "int"
            case ast.Compare(left=ast.Name(id=base), comparators=[ast.Constant(value=value)]) if base == name:
                yield _of_value(value)
            case ast.For(iter=ast.Name(id=base)) | ast.comprehension(iter=ast.Name(id=base)) if base == name:
                yield from ("ints", "strings")
            case ast.Call(func=ast.Name(id=called), args=[*given]) if any(_is_name(one, name) for one in given):
                yield from {"range": ("int",), "len": ("ints", "strings"), "sorted": ("ints", "strings")}.get(
                    called, ()
                )


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
