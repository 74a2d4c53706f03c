"""How many of what was found became tasks, and where the others were lost."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agentless_mini.learning.bugs.faults import Kind


@dataclass(slots=True)
class Funnel:
    """Counts by step, in the order of the steps; `reasons` are those for which functions were not harvested."""

    steps: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    packages: dict[str, Counter[str]] = field(default_factory=dict)

    def note(self, step: str, kinds: Iterable[Kind]) -> None:
        """Count a faulty file at a step, by its kinds as well."""
        self.steps[step] += 1
        for kind in kinds:
            self.kinds.setdefault(kind.value, Counter())[step] += 1

    def of(self, package: str) -> Counter[str]:
        """Return the counts of one package."""
        return self.packages.setdefault(package, Counter())

    def document(self) -> dict[str, Any]:
        """Return all counts as a JSON document."""
        return {
            "steps": {step: self.steps[step] for step in STEPS},
            "kinds": {kind.value: dict(sorted(self.kinds.get(kind.value, Counter()).items())) for kind in Kind},
            "packages": {name: dict(counts) for name, counts in sorted(self.packages.items())},
            "not_harvested": dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
        }


STEPS = (
    "modules", "modules that cannot be read", "functions", "harvested", "harvested whole", "duplicate functions",
    "lost", "callable", "observed", "mutated", "duplicate faults", "faults lost", "unloadable", "equivalent",
    "cannot be shown", "total", "total dropped", "found", "surplus", "not proven", "kept",
)  # fmt: skip
