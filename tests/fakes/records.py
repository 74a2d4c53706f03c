"""Records of tests as the driver of a box writes them."""

import json
from collections.abc import Mapping, Sequence

from agentless_mini.domain import Step
from agentless_mini.testing.plans import KEY
from agentless_mini.testing.records import seal


def sealed(key: str, lines: Sequence[str]) -> bytes:
    """Return these lines with the seals of a key."""
    data, before = "", ""
    for line in lines:
        before = seal(key, before, line)
        data += f"{before} {line}\n"
    return data.encode("utf-8", "surrogateescape")


OURS = ({"event": "canary", "id": "ours", "expected": "fail"}, {"event": "start", "id": "ours"})
RAN = (*OURS, {"event": "end", "id": "ours", "outcome": "fail", "seconds": 0})
"""What a record says of a test of ours that was put beside the others."""


def record_for(step: Step, events: Sequence[Mapping[str, object]]) -> bytes:
    """Return the record that a step leaves where the driver took these events; each may have an id."""
    return sealed(dict(step.variables)[KEY], [json.dumps({"id": "", **event}) for event in events])
