"""Calls of a function, as text: those that its package holds, and made-up ones that suit its parameters.

What suits is a guess: a call that comes to nothing is not used. The same seed makes the same calls.
"""

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass

from agentless_mini.learning.bugs.harvest import Function, Subject, find_function
from agentless_mini.learning.bugs.parameters import Parameter, constructor_parameters, parameters_of, style_of
from agentless_mini.learning.bugs.values import KINDS, Values

_TRIES = 6  # times the calls that are wanted, since equal ones come up
_OPTIONAL = 0.45  # how often a parameter with a default is given
_SURPRISE = 0.12  # how often a guess is left aside
_LONGEST_TEXT = 20
_LARGEST_NUMBER = 10_000


def make_calls(subject: Subject, wanted: int, seed: int) -> tuple[str, ...]:
    """Return distinct calls, those that the package holds first, at most `wanted`."""
    function, owner = find_function(ast.parse(subject.text), subject)
    rng = random.Random(f"{seed} {subject.id}")  # noqa: S311 - it draws inputs, not secrets
    own = parameters_of(function, owner)
    maker = _Maker(subject, Values(rng, *_constants(function)), constructor_parameters(owner), style_of(function))
    found: dict[str, None] = dict.fromkeys(maker.around(held) for held in subject.calls)
    for _ in range(wanted * _TRIES):
        if len(found) >= wanted:
            break
        found[maker.around(maker.arguments(own))] = None
    return tuple(found)[:wanted]


@dataclass(frozen=True, slots=True)
class _Maker:
    subject: Subject
    values: Values
    constructed: tuple[Parameter, ...]
    style: str

    def around(self, arguments: str) -> str:
        """Return the call with these arguments, on a new object where the function is a method."""
        subject = self.subject
        if not subject.owner:
            return f"{subject.name}({arguments})"
        if self.style in {"staticmethod", "classmethod"}:
            return f"{subject.owner}.{subject.name}({arguments})"
        made = f"{subject.owner}({self.arguments(self.constructed)})"
        return f"{made}.{subject.name}" if self.style else f"{made}.{subject.name}({arguments})"

    def arguments(self, parameters: Sequence[Parameter]) -> str:
        """Return arguments for the parameters. What follows an optional one that is left out is named."""
        said: list[str] = []
        is_skipped = False
        for parameter in parameters:
            if parameter.is_optional and self.values.rng.random() > _OPTIONAL:
                is_skipped = True
                continue
            value = self.values.draw(self._kind(parameter))
            said.append(f"{parameter.name}={value}" if parameter.by_keyword or is_skipped else value)
        return ", ".join(said)

    def _kind(self, parameter: Parameter) -> str:
        rng = self.values.rng
        return rng.choice(KINDS) if rng.random() < _SURPRISE else rng.choice(parameter.kinds)


def _constants(function: Function) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the short texts and the numbers that a function speaks of, its docstring left out."""
    said = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Expr)}
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant) and id(node) not in said]
    texts = sorted({value for value in values if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT})
    numbers = sorted({value for value in values if type(value) is int and abs(value) < _LARGEST_NUMBER})
    return tuple(texts), tuple(numbers)
