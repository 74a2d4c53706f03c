import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.model.process import Limits, ServerPlan, is_healthy, running
from agentless_mini.model.vllm import find_gpus, plan_vllm, tensor_parallel
from agentless_mini.settings.model import VllmSettings
from tests.model import fake_engine

TWO = ("GPU 0: NVIDIA H200 (UUID: GPU-aaaa-1)", "GPU 1: NVIDIA H200 (UUID: GPU-bbbb-2)")
PYTHON = Path("/opt/vllm/bin/python")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def flags(plan: ServerPlan) -> dict[str, str]:
    return dict(flag.partition("=")[::2] for flag in plan.command if flag.startswith("--"))


def adapter(folder: Path, rank: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "peft_type": "LORA"}))
    return folder


def test_a_model_of_the_hub_is_served_under_its_name_by_the_interpreter_that_is_named() -> None:
    plan = plan_vllm("Qwen/Qwen2.5-Coder-7B-Instruct", VllmSettings(python=PYTHON), TWO)
    assert plan.command[:4] == (
        str(PYTHON),
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model=Qwen/Qwen2.5-Coder-7B-Instruct",
    )
    given = flags(plan)
    assert given["--served-model-name"] == plan.model == "Qwen/Qwen2.5-Coder-7B-Instruct"
    assert given["--host"] == "127.0.0.1"
    assert given["--port"] == str(plan.port)
    assert given["--tensor-parallel-size"] == "2"
    assert given["--dtype"] == "auto"
    assert given["--generation-config"] == "vllm"
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= given.keys()
    assert not {"--enforce-eager", "--block-size", "--trust-remote-code", "--max-model-len"} & given.keys()


def test_a_commit_of_the_hub_is_what_is_loaded_and_part_of_the_name() -> None:
    commit = "0123456789abcdef" * 2 + "0" * 8
    plan = plan_vllm(f"owner/name@{commit.upper()}", VllmSettings(python=PYTHON), TWO)
    given = flags(plan)
    assert given["--model"] == "owner/name"
    assert given["--revision"] == given["--tokenizer-revision"] == given["--code-revision"] == commit
    assert given["--served-model-name"] == plan.model == f"owner/name@{commit}"
    with pytest.raises(UsageError, match="names no commit"):
        plan_vllm("owner/name@main", VllmSettings(python=PYTHON), TWO)


@pytest.mark.parametrize(("kind", "scores"), [("ForCausalLM", False), ("ForSequenceClassification", True)])
def test_a_reward_model_is_served_as_one(tmp_path: Path, kind: str, scores: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [f"Llama{kind}"], "num_attention_heads": 4}))
    given = flags(plan_vllm(str(tmp_path), VllmSettings(python=PYTHON), ()))
    assert ("--stream-interval" in given, given.get("--runner")) == ((False, "pooling") if scores else (True, None))


def test_without_a_gpu_the_prompt_cache_is_made_finer_and_prompts_are_not_cut_in_chunks() -> None:
    given = flags(plan_vllm("a/b", VllmSettings(python=PYTHON), ()))
    assert given["--dtype"] == "float32"
    assert given["--block-size"] == "32"
    assert {"--enforce-eager", "--no-enable-chunked-prefill"} <= given.keys()
    assert "--tensor-parallel-size" not in given


def test_settings_become_flags_and_extra_flags_come_last() -> None:
    settings = VllmSettings(
        python=PYTHON,
        max_model_len=16384,
        tensor_parallel=1,
        dtype="bfloat16",
        served_name="mine",
        trust_remote_code=True,
        extra=("--dtype=half", "--quantization", "fp8"),
    )
    plan = plan_vllm("a/b", settings, TWO)
    assert plan.command[-3:] == ("--dtype=half", "--quantization", "fp8")
    assert "--dtype=bfloat16" in plan.command
    given = flags(plan)
    assert plan.model == given["--served-model-name"] == "mine"
    assert (given["--max-model-len"], given["--tensor-parallel-size"]) == ("16384", "1")
    assert "--trust-remote-code" in given


def test_a_local_folder_is_given_whole_and_served_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smol").mkdir()
    (tmp_path / "smol" / "config.json").write_text('{"num_attention_heads": 9, "model_type": "llama"}')
    monkeypatch.chdir(tmp_path)
    plan = plan_vllm("smol", VllmSettings(python=PYTHON), TWO)
    assert plan.command[3] == f"--model={tmp_path / 'smol'}"
    assert plan.model == "smol"
    assert flags(plan)["--tensor-parallel-size"] == "1"


@pytest.mark.parametrize(
    ("gpus", "heads", "count"),
    [(1, None, 1), (2, None, 2), (3, None, 2), (7, 32, 4), (8, 40, 8), (8, 28, 4), (8, 9, 1), (16, 14, 2)],
)
def test_gpus_share_a_model_in_a_power_of_two_that_divides_its_heads(gpus: int, heads: int | None, count: int) -> None:
    assert tensor_parallel(gpus, heads) == count


def test_adapters_are_served_under_their_folders_names_with_room_for_the_highest_rank(tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "evolve=1", 24), adapter(tmp_path / "classic", 8)
    plan = plan_vllm("a/b", VllmSettings(python=PYTHON, adapters=(first, second)), TWO)
    assert plan.model == "evolve=1"
    start = plan.command.index("--lora-modules")
    assert [json.loads(module) for module in plan.command[start + 1 : start + 3]] == [
        {"name": "evolve=1", "path": str(first)},
        {"name": "classic", "path": str(second)},
    ]
    assert {"--enable-lora": "", "--max-loras": "2", "--max-lora-rank": "32"}.items() <= flags(plan).items()


def test_a_folder_without_an_adapter_and_adapters_of_one_name_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text("{}")
    for folder in (tmp_path, broken):
        with pytest.raises(UsageError, match=f"There is no LoRA adapter in {folder} "):
            plan_vllm("a/b", VllmSettings(python=PYTHON, adapters=(folder,)), TWO)
    same = (adapter(tmp_path / "x" / "lora", 8), adapter(tmp_path / "y" / "lora", 8))
    for model, adapters in (("a/b", same), ("lora", same[:1])):
        with pytest.raises(UsageError, match="the same name"):
            plan_vllm(model, VllmSettings(python=PYTHON, adapters=adapters), TWO)


def test_the_command_on_the_path_is_used_where_this_interpreter_has_no_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(EnvironmentFailed, match=r"vLLM is not installed: .* install .*\[vllm\]"):
        plan_vllm("a/b", VllmSettings(), ())
    found = program(tmp_path / "bin" / "vllm", "exit 0")
    assert plan_vllm("a/b", VllmSettings(), ()).command[:3] == (str(found), "serve", "a/b")


def test_the_planned_command_starts_a_server_and_its_failure_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stand_in = program(tmp_path / "python", f'exec "{sys.executable}" "{fake_engine.__file__}" "$@"')

    async def healthy(*extra: str) -> bool:
        plan = plan_vllm("a/b", VllmSettings(python=stand_in, extra=extra), ())
        async with running(plan, log, Limits(start=20, grace=5), lambda *_: None) as server:
            return await is_healthy(server)

    assert asyncio.run(healthy())
    said = "OSError: a/b is not a local folder and is not a valid model identifier"
    with pytest.raises(Exception, match=f'ended while it was starting \\("{said}", log: {log}\\): check the model'):
        asyncio.run(healthy(f"--say={said}", "--crash"))


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(text: str) -> None:
        program(tmp_path / "bin" / "nvidia-smi", text)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")

    return install


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, TWO),
        ("0,1", TWO),
        ("1", TWO[1:]),
        ("1, 0", TWO[::-1]),
        ("GPU-bbbb", TWO[1:]),
        ("0,7,1", TWO[:1]),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("MIG-cccc", TWO[:1]),
    ],
)
def test_the_gpus_that_may_be_used_are_those_made_visible(
    smi: Callable[[str], None], visible: str | None, found: tuple[str, ...]
) -> None:
    smi("\n".join(f"echo '{line}'" for line in (TWO[0], "  MIG 1g.18gb Device 0: (UUID: MIG-cccc)", TWO[1])))
    assert find_gpus(visible) == found


def test_a_driver_that_fails_or_is_not_there_means_no_gpu(
    smi: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi("echo 'GPU 0: none'; exit 9")
    assert find_gpus(None) == ()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert find_gpus("0") == ()
