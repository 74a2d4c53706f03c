import ctypes
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.model.embedded.llama import (
    CONTEXT_DEFAULTS,
    MODEL_DEFAULTS,
    Aborted,
    Context,
    ContextParams,
    Model,
    ModelParams,
    Row,
    check_defaults,
    load_library,
)
from tests.embedded_model import needed_weights

pytestmark = pytest.mark.model

TEXT = "def add(a, b):\n    return a + b\n\n# café 😀 <|im_end|>\n"


ON_THE_WHEELS_OPENMP = """
from pathlib import Path
from agentless_mini.model.embedded.llama import load_library, load_openmp_wheel
load_openmp_wheel()
print(load_library().version)
print(*{line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "gomp" in line})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the wheels of other systems link to no libgomp")
def test_where_the_system_has_no_openmp_that_of_the_wheel_stands_in() -> None:
    done = subprocess.run([sys.executable, "-c", ON_THE_WHEELS_OPENMP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    version, libraries = done.stdout.splitlines()
    assert version == load_library().version
    assert libraries.endswith("/cmeel.prefix/lib/libgomp.so.1")
    assert len(libraries.split()) == 1


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model(needed_weights().path)
    yield model
    model.close()


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    context = Context(model, tokens=512, sequences=4, batch=256, threads=1)
    yield context
    context.close()


def plain(tokens: list[int], sequence: int = 0, start: int = 0) -> list[Row]:
    return [(token, start + at, (sequence,), True) for at, token in enumerate(tokens)]


def test_the_layouts_have_the_sizes_of_the_pinned_header() -> None:
    assert ctypes.sizeof(ModelParams) == 80
    assert ctypes.sizeof(ContextParams) == 168


def test_a_layout_that_does_not_fit_is_an_error_that_names_the_field() -> None:
    call = load_library().call
    check_defaults(call.llama_model_default_params(), MODEL_DEFAULTS)
    check_defaults(call.llama_context_default_params(), CONTEXT_DEFAULTS)
    with pytest.raises(EnvironmentFailed, match=r"memory layout \(n_batch of ContextParams is 2048, not 512\)"):
        check_defaults(call.llama_context_default_params(), {"n_ctx": 512, "n_batch": 512})


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model" * 100])
def test_a_file_that_is_no_model_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(EnvironmentFailed, match=r"cannot load .*bad\.gguf \(.*give another file"):
        Model(path)


def test_the_pieces_of_plain_text_add_up_to_it(model: Model) -> None:
    tokens = model.tokenize(TEXT)
    assert b"".join(model.piece(token) for token in tokens) == TEXT.encode()


def test_sequences_share_a_prefix_and_score_as_if_they_were_alone(model: Model, context: Context) -> None:
    tokens = model.tokenize(TEXT)
    alone = context.decode(plain(tokens)).copy()
    context.clear()
    context.decode(plain(tokens[:10]))
    for sequence in (1, 2):
        context.share(0, sequence, 10)
    rest = tokens[10:]
    both: list[Row] = [(token, 10 + at, (sequence,), True) for sequence in (1, 2) for at, token in enumerate(rest)]
    forked = context.decode(both)
    assert forked.shape == (2 * len(rest), model.vocabulary_size)
    assert np.abs(forked[: len(rest)] - alone[10:]).max() < 0.35
    assert (forked[: len(rest)].argmax(axis=1) == alone[10:].argmax(axis=1)).mean() > 0.9
    context.forget(1)
    context.share(0, 1, 5)
    again = context.decode(plain(tokens[5:10], sequence=1, start=5))
    assert np.abs(again - alone[5:10]).max() < 0.35


def test_a_token_may_belong_to_several_sequences_that_part_after_it(model: Model, context: Context) -> None:
    tokens = model.tokenize(TEXT)
    context.decode(plain(tokens[:10]))
    for sequence in (1, 2):
        context.share(0, sequence, 10)
    other = model.tokenize(" x")[0]
    said: list[Row] = [(tokens[10], 10, (1, 2), True), (tokens[11], 11, (1,), True), (other, 11, (2,), True)]
    together = context.decode(said).copy()
    for rows, found in (([tokens[10], tokens[11]], together[:2]), ([tokens[10], other], together[[0, 2]])):
        context.forget(3)
        context.share(0, 3, 10)
        assert np.abs(context.decode(plain(rows, sequence=3, start=10)) - found).max() < 0.35


def test_only_wanted_logits_come_back_in_the_order_of_the_batch(model: Model, context: Context) -> None:
    tokens = model.tokenize(TEXT)[:8]
    every = context.decode(plain(tokens)).copy()
    context.clear()
    some = context.decode([(token, at, (0,), at in (2, 5)) for at, token in enumerate(tokens)])
    assert np.abs(some - every[[2, 5]]).max() < 0.35
    context.clear()
    assert context.decode([(token, at, (0,), False) for at, token in enumerate(tokens)]).shape[0] == 0


def test_a_full_cache_is_an_error(model: Model, context: Context) -> None:
    token = model.tokenize("x")[0]
    context.decode([(token, at, (0,), False) for at in range(256)])
    context.decode([(token, at, (0,), False) for at in range(256, 512)])
    with pytest.raises(EnvironmentFailed, match="failed on a batch"):
        context.decode([(token, 512, (0,), False)])


def test_a_decode_can_be_stopped_from_another_thread_and_the_context_used_again(model: Model, context: Context) -> None:
    token = model.tokenize("x")[0]
    long: list[Row] = [(token, at, (0,), True) for at in range(256)]
    timer = threading.Timer(0.05, context.stop.set)
    timer.start()
    with pytest.raises(Aborted):
        decode_for_ever(context, long)
    timer.join()
    with pytest.raises(Aborted):
        context.decode(long)
    context.stop = threading.Event()
    context.clear()
    assert len(context.decode(plain(model.tokenize("fine"))))


def decode_for_ever(context: Context, rows: list[Row]) -> None:
    while True:
        context.clear()
        context.decode(rows)


def test_a_context_that_does_not_fit_is_an_error(model: Model) -> None:
    with pytest.raises(EnvironmentFailed, match="--context"):
        Context(model, tokens=512, sequences=100_000, batch=64, threads=1)
