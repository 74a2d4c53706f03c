from pathlib import Path

import pytest

from agentless_mini.errors import AminiError, EnvironmentFailed, ModelUnknown, UsageError
from agentless_mini.model.process import QUOTED, LogReading, tail
from agentless_mini.model.vllm import READING

WORKER = "(Worker pid=14392) ERROR 11-21 07:05:39 [multiproc_executor.py:1063] "
CAUSES: list[tuple[str, type[AminiError], str]] = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", EnvironmentFailed, "--max-model-len"),
    ("ValueError: Free memory on device cuda:0 (3/80 GiB) on startup is less than desired GPU memory utilization "
     "(0.92, 73 GiB).", EnvironmentFailed, "or free memory"),
    ("OSError: [Errno 98] Address already in use", UsageError, "another port"),
    ("OSError: nobody/none is not a local folder and is not a valid model identifier listed on "
     "'https://huggingface.co/models'", ModelUnknown, "check the model's name"),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", EnvironmentFailed, "reach the hub"),
    ("/usr/bin/python: Error while finding module specification for 'vllm.entrypoints.openai.api_server' "
     "(ModuleNotFoundError: No module named 'vllm')", EnvironmentFailed, "pip install vllm"),
    ("api_server.py: error: unrecognized arguments: --no-such-flag", UsageError, "flags after --"),
    ("RuntimeError: Failed to infer device type", EnvironmentFailed, "make the GPU visible"),
    ("ValueError: Total number of attention heads (9) must be divisible by tensor parallel size (4).", UsageError,
     "tensor_parallel"),
]  # fmt: skip


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("line", "kind", "advice"), CAUSES)
def test_a_known_cause_is_quoted_with_what_to_try(
    tmp_path: Path, line: str, kind: type[AminiError], advice: str
) -> None:
    end = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    log = written(tmp_path / "log", "INFO ok", WORKER + line, end)
    error = READING.failure("vLLM", log)
    assert type(error) is kind
    assert line in str(error)
    assert str(log) in str(error)
    assert advice in str(error)
    assert "pid=" not in str(error)


def test_an_unknown_cause_is_the_last_error_that_does_not_refer_to_another(tmp_path: Path) -> None:
    log = written(
        tmp_path / "log",
        WORKER + "Traceback (most recent call last):",
        WORKER + "ValueError: No common block size for 16 (CPU_ATTN: [MultipleOf(32)]).",
        "(EngineCore pid=1) ERROR 11-21 07:05:39 [core.py:1510] RuntimeError: Worker failed with error 'No common', "
        " please check the stack trace above for the root cause",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
        "/usr/lib/resource_tracker.py:254: UserWarning: There appear to be 1 leaked objects",
    )
    assert '("ValueError: No common block size for 16 (CPU_ATTN: [MultipleOf(32)]).", log: ' in str(
        READING.failure("vLLM", log)
    )


def test_what_is_said_in_passing_is_no_cause(tmp_path: Path) -> None:
    config = "Initializing a V1 LLM engine with config: trust_remote_code=False, executor=OutOfMemoryError"
    log = written(tmp_path / "log", f"(EngineCore pid=1) INFO 11-21 07:07:43 [core.py:133] {config}", "the end")
    assert '("the end"' in str(READING.failure("vLLM", log))


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_log_with_nothing_in_it_is_said_to_be_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert "it wrote nothing" in str(LogReading((), ()).failure("vLLM", tmp_path / name))


def test_what_a_log_says_reaches_no_terminal_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \xff\xfe\r 50%\r100%\n" + b"x" * 10_000)
    lines = tail(tmp_path / "log")
    assert lines[0].startswith("red ")
    assert lines[1:3] == ("50%", "100%")
    assert lines[3] == "x" * 10_000
    said = str(READING.failure("vLLM", tmp_path / "log"))
    assert "x" * QUOTED in said
    assert "x" * (QUOTED + 1) not in said
    assert all(line.isprintable() or "\ufffd" in line for line in lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("INFO 11-21 07:07:43 [core.py:133] Initializing a V1 LLM engine (v0.32.0)", "starting the engine"),
        ("Fetching 4 files:  25%|##5       | 1/4 [00:01<00:03]", "downloading the model"),
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2", "loading the weights"),
        ("INFO [backends.py:1] Compiling a graph for dynamic shape", "compiling the model"),
        ("INFO [kv_cache_utils.py:2327] CPU KV cache size: 46,592 tokens", "warming up"),
        ("Capturing CUDA graphs (mixed prefill-decode):  10%", "capturing CUDA graphs"),
        ("INFO 11-21 07:08:06 [entry.py:140] Starting vLLM server on http://127.0.0.1:1", "opening the server"),
        ("WARNING [vllm.py:1703] Enforce eager set, disabling torch.compile, CUDAGraphs, and JIT warmup", "starting"),
        ("something else", "starting"),
    ],
)  # fmt: skip
def test_a_phase_is_read_off_the_last_line_that_shows_one(tmp_path: Path, line: str, phase: str) -> None:
    assert READING.phase(written(tmp_path / "log", "INFO nothing", line, "a line about nothing")) == phase
