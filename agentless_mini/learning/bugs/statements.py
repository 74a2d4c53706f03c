"""Faults in statements: conditions, exceptions, returns, defaults, and guards that are missing."""

import ast
import re
from collections.abc import Iterator

from agentless_mini.learning.bugs.expressions import negated
from agentless_mini.learning.bugs.faults import Fault, Kind, Page, is_in_one_row

_ENDING = ast.Return | ast.Raise | ast.Continue | ast.Break
_EXCEPTIONS = {
    "ValueError": "TypeError", "TypeError": "ValueError", "KeyError": "IndexError", "IndexError": "KeyError",
    "AttributeError": "KeyError", "StopIteration": "IndexError", "OverflowError": "ValueError",
    "LookupError": "ValueError",
    "UnicodeDecodeError": "UnicodeEncodeError", "UnicodeEncodeError": "UnicodeDecodeError", "UnicodeError": "KeyError",
    "NotImplementedError": "ValueError", "ZeroDivisionError": "ValueError", "RuntimeError": "ValueError",
    "AssertionError": "ValueError", "Exception": "KeyError",
}  # fmt: skip
_AUGMENTED = {
    "+=": ("-=", "="),
    "-=": ("+=",),
    "*=": ("+=",),
    "//=": ("/=",),
    "|=": ("&=", "="),
    "&=": ("|=",),
    "<<=": (">>=",),
}
_AUGMENT = re.compile(r"(?:\*\*|//|<<|>>|[-+*/%&|^])=")


def statement_faults(page: Page) -> Iterator[Fault]:
    """Yield the faults in the statements of a function."""
    yield from _defaults(page)
    for node in page.body():
        match node:
            case ast.If():
                yield from (*negated(page, node.test), *_guards(page, node))
            case ast.While():
                yield from negated(page, node.test)
            case ast.Return():
                yield from _returns(page, node)
            case ast.Raise() | ast.ExceptHandler():
                yield from _exceptions(page, node)
            case ast.AugAssign():
                yield from _augmented(page, node)
            case ast.Break() | ast.Continue():
                other = "continue" if isinstance(node, ast.Break) else "break"
                yield page.between(Kind.CONDITION, node.lineno - 1, (node.col_offset, node.end_col_offset or 0), other)


def _exceptions(page: Page, node: ast.Raise | ast.ExceptHandler) -> Iterator[Fault]:
    return _raises(page, node) if isinstance(node, ast.Raise) else _handlers(page, node)


def _guards(page: Page, node: ast.If) -> Iterator[Fault]:
    """Yield the function without an early end, or without what makes up for a missing value."""
    is_alone = len(node.body) == 1 and not node.orelse and node.lineno < (node.end_lineno or 0)
    is_elif = page.rows[node.lineno - 1].lstrip().startswith(b"elif")
    makes_up = is_alone and isinstance(node.body[0], ast.Assign) and isinstance(node.test, ast.Compare | ast.UnaryOp)
    if is_alone and not is_elif and (isinstance(node.body[0], _ENDING) or makes_up):
        yield page.without(Kind.GUARD, node)


def _returns(page: Page, node: ast.Return) -> Iterator[Fault]:
    """Yield another value returned, or none."""
    value = node.value
    if value is None or not is_in_one_row(value) or node.lineno != value.lineno:
        return
    columns = (node.col_offset, node.end_col_offset or 0)
    row, words = node.lineno - 1, page.of(value)
    match value:
        case ast.Constant(value=bool(said)):
            yield page.between(Kind.RETURN, row, columns, f"return {not said}")
        case ast.Constant(value=None):
            yield page.between(Kind.RETURN, row, columns, "return False")
        case ast.Constant(value=str()):
            yield page.between(Kind.RETURN, row, columns, "return None")
        case ast.Constant():
            yield page.between(Kind.RETURN, row, columns, "return None")
        case ast.Tuple(elts=[first, second]) if is_in_one_row(first) and is_in_one_row(second):
            yield page.between(Kind.RETURN, row, columns, f"return {page.of(second)}, {page.of(first)}")
            yield page.between(Kind.RETURN, row, columns, f"return {page.of(first)}")
        case ast.Name():
            others = [name for name in page.names() if name != value.id][-2:]
            yield from (page.between(Kind.RETURN, row, columns, f"return {name}") for name in others)
            yield page.between(Kind.RETURN, row, columns, "return None")
        case _:
            yield page.between(Kind.RETURN, row, columns, words if isinstance(value, ast.Call) else "return None")
            inner = [
                page.of(part)
                for part in ast.iter_child_nodes(value)
                if isinstance(part, ast.expr) and is_in_one_row(part)
            ]
            yield from (page.between(Kind.RETURN, row, columns, f"return {text}") for text in inner[-1:])


def _raises(page: Page, node: ast.Raise) -> Iterator[Fault]:
    """Yield an exception of another type, or none at all."""
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    if isinstance(raised, ast.Name):
        other = _EXCEPTIONS.get(raised.id, "ValueError")
        yield from page.instead(Kind.EXCEPTION, raised, other)
    indent = page.rows[node.lineno - 1][: node.col_offset].decode()
    if not indent.strip():
        said = "return None" if node.exc is not None else "pass"
        yield Fault(Kind.EXCEPTION, node.lineno - 1, node.end_lineno or 0, (indent + said,))


def _handlers(page: Page, node: ast.ExceptHandler) -> Iterator[Fault]:
    """Yield a handler of another exception, or of one less."""
    caught = node.type
    if isinstance(caught, ast.Name) and caught.id in _EXCEPTIONS:
        yield from page.instead(Kind.EXCEPTION, caught, _EXCEPTIONS[caught.id])
    if isinstance(caught, ast.Tuple) and is_in_one_row(caught) and len(caught.elts) > 1:
        for kept in caught.elts:
            yield from page.instead(Kind.EXCEPTION, caught, page.of(kept))


def _augmented(page: Page, node: ast.AugAssign) -> Iterator[Fault]:
    if node.target.end_lineno != node.value.lineno:
        return
    gap = page.gap(node.target, node.value)
    found = _AUGMENT.search(gap)
    columns = (node.target.end_col_offset or 0, node.value.col_offset)
    for other in _AUGMENTED.get(found[0], ()) if found else ():
        yield page.between(Kind.OPERATOR, node.value.lineno - 1, columns, gap.replace(found[0] if found else "", other))


def _defaults(page: Page) -> Iterator[Fault]:
    """Yield other defaults of the function's parameters."""
    arguments = page.function.args
    for default in [*arguments.defaults, *filter(None, arguments.kw_defaults)]:
        if isinstance(default, ast.Constant) and is_in_one_row(default):
            match default.value:
                case bool(said):
                    others = [str(not said)]
                case int(said):
                    others = [str(said + 1), str(said - 1)] if said > 0 else [str(said + 1)]
                case str(said):
                    others = ["None"] if not said else ['""', "None"]
                case None:
                    others = ["0", "()", '""']
                case _:
                    others = []
            for other in others:
                yield from page.instead(Kind.DEFAULT, default, other)
