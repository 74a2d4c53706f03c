"""A place for foreign code: real boxes of bubblewrap, where this machine has it; a reason to skip where not."""

import sys
from pathlib import Path

import pytest

from agentless_mini.domain import MIB, BoxLimits, Environment, PackedTree, Place, Snapshot
from agentless_mini.environments import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandboxes.bubblewrap import VirtualEnvironment, find_bubblewrap
from agentless_mini.sandboxes.local import LocalSandbox
from agentless_mini.sandboxes.packs import pack_snapshot

LIMITS = BoxLimits(memory=1024 * MIB, pids=64, disk=32 * MIB, seconds=60.0)


@pytest.fixture
def boxes(tmp_path: Path) -> Opened:
    try:
        bubblewrap = find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    pack = pack_snapshot(Snapshot("python", "", "", ()), lambda held: iter(()), tmp_path / "empty-tree")
    here = VirtualEnvironment("here", Path(sys.prefix))
    sandbox = LocalSandbox(bubblewrap, {"here": here}, {pack.digest: pack}, 2)
    return Opened(sandbox, Place(Environment("here"), PackedTree(pack.digest)), LIMITS)
