"""The programs for seccomp, run here as the kernel runs them, for both kinds of machine."""

import base64
import struct

import pytest

from agentless_mini.sandbox import filter as kernel
from agentless_mini.sandbox.landlock import Landlock, fence_of

BOXED = base64.b64decode(kernel.filter_of_namespaces())
READ = {"x86_64": 0, "aarch64": 63}
OTHERS = {"i386": 0x40000003, "arm": 0x40000028, "riscv64": 0xC00000F3}


def decided(program: bytes, machine: str, number: int, *arguments: int) -> int:
    """Return what a program decides on a call."""
    kind = {**kernel.MACHINES, **OTHERS}[machine]
    words = struct.pack("=IIQ6Q", number, kind, 0, *arguments, *[0] * (6 - len(arguments)))
    code = [struct.unpack("=HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    held, at = 0, 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (held,) = struct.unpack_from("=I", words, value)
            case 0x54:
                held &= value
            case 0x05:
                at += value
            case 0x15:
                at += yes if held == value else no
            case 0x35:
                at += yes if held >= value else no
            case 0x06:
                return int(value)
            case _:
                raise ValueError(operation)


@pytest.mark.parametrize("machine", kernel.MACHINES)
@pytest.mark.parametrize("program", [BOXED, fence_of(Landlock(7, "x86_64"), root=True)])
def test_what_is_refused_is_absent_and_the_rest_is_there(program: bytes, machine: str) -> None:
    column = [*kernel.MACHINES].index(machine)
    refused = {found[column]: name for name, found in kernel._REFUSED.items() if found[column] >= 0}
    assert {name: decided(program, machine, number) for number, name in refused.items()} == dict.fromkeys(
        refused.values(), kernel.ABSENT
    )
    assert decided(program, machine, READ[machine]) == kernel.ALLOW
    for newer in (470, 999, 0x40000000, 0x40000000 + READ[machine], 0xFFFFFFFF):
        assert decided(program, machine, newer) == kernel.ABSENT
    absent = {number for number in range(470) if decided(program, machine, number) == kernel.ABSENT}
    assert refused.keys() <= absent
    assert len(absent) < len(refused) + 13


@pytest.mark.parametrize("other", OTHERS)
def test_calls_of_another_kind_of_machine_are_absent(other: str) -> None:
    assert {decided(BOXED, other, number) for number in range(512)} == {kernel.ABSENT}


@pytest.mark.parametrize("machine", kernel.MACHINES)
def test_arguments_decide_where_a_call_is_needed_too(machine: str) -> None:
    clone, sockets, personality = (
        found[[*kernel.MACHINES].index(machine)]
        for found in kernel.numbers("clone 56 220, socket 41 198, personality 135 92").values()
    )
    thread, fork = 0x3D0F00, 17
    assert {decided(BOXED, machine, clone, flags) for flags in (thread, fork, 0)} == {kernel.ALLOW}
    namespaces = (0x20000, *(1 << bit for bit in range(25, 31)))
    assert {decided(BOXED, machine, clone, fork | flag) for flag in namespaces} == {kernel.REFUSE}
    allowed = {family for family in range(64) if decided(BOXED, machine, sockets, family) == kernel.ALLOW}
    assert allowed == {1, 2, 10, 16}
    assert decided(BOXED, machine, sockets, 40) == kernel.NO_FAMILY
    assert decided(BOXED, machine, sockets, 2 | 1 << 40) == kernel.ALLOW, "the kernel reads the lower half alone"
    given = (0, 8, 0x20000, 0xFFFFFFFF, 0x400000, 4)
    found = [decided(BOXED, machine, personality, value) == kernel.ALLOW for value in given]
    assert found == [True, True, True, True, False, False]
