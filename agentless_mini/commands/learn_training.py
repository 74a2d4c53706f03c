"""`amini learn sft`, `rl`, `reward-model` and `export`. The trainers' libraries are imported last: that takes long."""

import asyncio
import dataclasses
import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from agentless_mini.chain.session import Boxes, NoBoxes, Refused, run_cases, together
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.config import Machine
from agentless_mini.commands.learn_data import RECORD, Lines, made_folder, recorded_model, write_parts
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.domain import Case, FileChange, Issue, Note, Origin, Outcome, Patch, canonical_json
from agentless_mini.edits import Forms, changed_files, make_patch
from agentless_mini.environment.work import Opened
from agentless_mini.errors import EnvironmentFailed, GradingFailed, UsageError, boundary, printable
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.ports import Grade, Testbeds
from agentless_mini.installing import install_command
from agentless_mini.learning.asking import with_parents
from agentless_mini.learning.checkpoints import ADAPTER_FILE, PARENTS_FILE, claim, data_digest, find_checkpoint
from agentless_mini.learning.rewarding import InImage, open_plain, running_checks
from agentless_mini.learning.rows import SPLITS, Row, as_bytes, check_kinds, read_rows, require_apart, require_rows
from agentless_mini.model.embedded.weights import find_weights, require_model
from agentless_mini.ports import Sampler, Watch
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.repository.gitcommand import REGULAR
from agentless_mini.settings import Config
from agentless_mini.settings.learning import GgufWeights, RlSettings, SftKind, Tracker, TrainingSettings
from agentless_mini.settings.model import WeightsSettings

if TYPE_CHECKING:
    from agentless_mini.commands.learn import ExportOptions, SftOptions, TrainingOptions
    from agentless_mini.learning.training import Outcome as Ended
    from agentless_mini.learning.training import Task

PARENTS = "parents"
_TRAINING = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def run_sft(training: "TrainingOptions", options: "SftOptions", config: Config, machine: Machine) -> None:
    """Train, and print one JSON document: where the model is, steps, loss, and what became of the rows.

    For the kind mutation, parents are sampled first where wanted.
    """
    begun, lines = _begin(training, config.sft)
    if _planned(training, config.sft):
        return
    data = training.data
    if options.parents_from is not None:
        if config.sft.kind is not SftKind.MUTATION:
            raise UsageError("Parents are used only with --kind mutation: add it.")
        if int(machine.environment.get("WORLD_SIZE", "1")) > 1:
            parents = printable(str(training.out / PARENTS))
            raise UsageError(
                "Parents are sampled by one process: run this once with --steps 1 and without accelerate launch, then "
                f"without --parents-from on {parents}."
            )
        data = asyncio.run(_bred(training, options.parents_from, config, machine, lines))
    from agentless_mini.learning.sft import train_sft

    task = dataclasses.replace(_task("sft", training, config, lines), data=data, begun=begun)
    with stdout_kept():
        outcome = train_sft(task, config.sft)
    _tell(outcome)


def run_rl(training: "TrainingOptions", config: Config, machine: Machine) -> None:
    """Train, and print a document as `run_sft` does. Tests that are the reward, or its potential, run in boxes."""
    _, lines = _begin(training, config.rl)
    kinds = check_kinds(training.data, SPLITS[0]) if config.rl.runs_checks else set()
    if _planned(training, config.rl):
        return

    async def opening(stack: AsyncExitStack) -> Opened:
        return await open_plain(config.sandbox, machine.cache, machine.environment, lines, stack)

    async def imaging(stack: AsyncExitStack) -> InImage:
        from agentless_mini.commands.benchmark import host_of
        from agentless_mini.evaluation.testbeds import open_testbeds

        testbeds = await stack.enter_async_context(open_testbeds(host_of(config, machine), {}, NoGrader()))
        return lambda row, patches: check_in_image(row, patches, testbeds, lines)

    with stdout_kept(), ExitStack() as stack:
        places = (opening if False in kinds else None, imaging if True in kinds else None)
        checking = stack.enter_context(running_checks(*places)) if kinds else None
        from agentless_mini.learning.rl import train_rl

        outcome = train_rl(_task("rl", training, config, lines), config.rl, checking)
    _tell(outcome)


def run_reward_model(training: "TrainingOptions", config: Config) -> None:
    """Train, and print a document as `run_sft` does."""
    _, lines = _begin(training, config.reward_model)
    if _planned(training, config.reward_model):
        return
    from agentless_mini.learning.reward_model import train_reward_model

    with stdout_kept():
        outcome = train_reward_model(_task("reward-model", training, config, lines), config.reward_model)
    _tell(outcome)


def run_export(options: "ExportOptions", machine: Machine) -> None:
    """Write what is asked for, and print one JSON document of it."""
    require_stdout()
    require_training()
    if options.merge is None and options.gguf is None:
        raise UsageError("There is nothing to write: give --merge DIR or --gguf FILE.")
    if options.weights not in tuple(GgufWeights):
        raise UsageError(f"There are no weights of the kind {options.weights!r}: use {', '.join(GgufWeights)}.")
    checkpoint = find_checkpoint(options.checkpoint)
    if options.base is not None and not options.base.is_file():
        raise UsageError(f"There is no file {printable(str(options.base))}: name the GGUF file of the base model.")
    from agentless_mini.learning import export

    if options.model is not None:
        checkpoint = dataclasses.replace(checkpoint, model=options.model)
    made: dict[str, object] = {}
    if options.merge is not None:
        made["merged"] = export.merge(checkpoint, options.merge).document()
    if options.gguf is not None:
        # The carried model's tokenizer is the one of what is trained from it.
        say = Lines(quiet=False).say
        base = options.base or find_weights(WeightsSettings(), machine.weights, say).path
        weights = GgufWeights(options.weights)
        made["gguf"] = export.export_gguf(checkpoint, base, options.gguf, weights).document()
    sys.stdout.write(canonical_json(made) + "\n")


# --- what trainers share ---------------------------------------------------------------------------------------------


def _begin(training: "TrainingOptions", settings: TrainingSettings) -> tuple[float, Lines]:
    """Refuse what cannot be used; return when it began, and what tells people."""
    require_stdout()
    require_training(settings)
    require_rows(training.data, SPLITS[0])
    require_apart(training.data, training.out)
    if training.out.exists() and not training.out.is_dir():
        raise UsageError(f"{printable(str(training.out))} is no folder: name another --out.")
    if settings.adapter is not None and not (settings.adapter / ADAPTER_FILE).is_file():
        raise UsageError(f"There is no LoRA adapter in {printable(str(settings.adapter))}: name its folder.")
    # The settings decide the precision, and not accelerate's configuration, which speaks by a variable.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"
    return monotonic(), Lines(quiet=training.quiet)


def _planned(training: "TrainingOptions", settings: TrainingSettings) -> bool:
    """Return whether nothing is to be trained: then what it would take is printed. A model that is none is refused."""
    require_model(training.model)
    if training.dry_run is None:
        return False
    from agentless_mini.learning.planning import plan, whole_groups

    if isinstance(settings, RlSettings):
        settings = whole_groups(settings, training.dry_run)
    rows = require_rows(training.data, SPLITS[0])
    with stdout_kept():
        said = plan(str(Path(training.model).expanduser()), settings, rows, training.dry_run)
    sys.stdout.write(said + "\n")
    return True


def require_training(settings: TrainingSettings | None = None) -> None:
    """Raise `EnvironmentFailed` where a library of training, or what the settings want beside it, is not installed."""
    missing = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentFailed(f"Training needs {missing[0]}: {install_command('train')}.")
    wanted = settings.tracker if settings is not None else Tracker.NONE
    if wanted in {Tracker.TRACKIO, Tracker.WANDB} and importlib.util.find_spec(wanted) is None:
        raise EnvironmentFailed(f"Metrics go to {wanted}, which is not here: pip install {wanted}, or use tensorboard.")


def _task(name: str, training: "TrainingOptions", config: Config, lines: Lines) -> "Task":
    from agentless_mini.learning.training import Task

    folder = Path(training.model).expanduser()
    model = str(folder.resolve()) if folder.is_dir() else training.model  # adapters keep the path
    return Task(name, model, training.data, training.out, load_prompts(config.prompts), lines.say)


def _tell(outcome: "Ended") -> None:
    from agentless_mini.learning.training import is_first

    if is_first():
        sys.stdout.write(outcome.document() + "\n")


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Send what libraries, and what they start, print on stdout to stderr: stdout is for the result."""
    sys.stdout.flush()
    stdout, stderr = 1, 2
    kept = os.dup(stdout)
    os.dup2(stderr, stdout)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, stdout)
        os.close(kept)


# --- checks in images ------------------------------------------------------------------------------------------------


class NoGrader:
    """Who is not asked: a check is not the official harness."""

    async def grade(self, row: str, diff: bytes) -> Grade:
        """Raise `GradingFailed`."""
        raise GradingFailed("Nothing is graded while a model learns: this is a fault in amini, please report it.")


async def check_in_image(row: Row, patches: Sequence[Patch], testbeds: Testbeds, watch: Watch) -> list[float | None]:
    """Return for each patch of a row whether all tests of its check pass with it, in boxes of the check's image.

    None where the machine does not do its part, which people are told.
    """
    foreign = f"The check of {printable(row.id)} names no tests of an image: correct it, or leave the row out."
    with boundary(dict.fromkeys((ValueError, KeyError, TypeError), lambda error: UsageError(foreign))):
        check = json.loads(row.check)
        instance = Instance(row.id, row.repo, row.base, Issue(row.issue, row.id), check["image"], row.merged_at)
        tests = [(str(name), str(name).partition("::")[0]) for name in check["tests"]]
        files = {path: as_bytes(text) for path, text in check["files"].items()}
    try:
        async with testbeds.open(instance, watch) as testbed:
            snapshot = await testbed.tree()
            opening = testbed.opening(snapshot)
            boxes = opening if isinstance(opening, NoBoxes) else await opening.open(watch)
            if isinstance(boxes, NoBoxes):
                raise EnvironmentFailed(boxes.reason)
            cases = [Case(name, Origin.REGRESSION, path, files.get(path)) for name, path in tests]
            beside = {path: data for path, data in files.items() if path not in dict(tests).values()}
            return await together([_passes(row, patch, beside, cases, boxes) for patch in patches])
    except EnvironmentFailed as error:
        watch(Note(f"The check of {printable(row.id)} could not be run: {error}"))
        return [None] * len(patches)


async def _passes(
    row: Row, patch: Patch, beside: Mapping[str, bytes | None], cases: Sequence[Case], boxes: Boxes
) -> float | None:
    made = {one.path: one.after for one in changed_files(patch, row.tree().entries)}
    wanted = {**{file.path: as_bytes(file.before) for file in row.files}, **made, **beside}
    changes = []
    for path, data in wanted.items():
        there = boxes.snapshot.by_path().get(path)  # the image may have the tree before a made-up bug
        if data != (before := there.data if there else None):
            changes.append(FileChange(path, before, data, there.mode if there else REGULAR))
    results = await run_cases(boxes, make_patch(changes, Forms()) if changes else None, cases)
    return float(not isinstance(results, Refused) and all(one.outcome is Outcome.PASS for one in results))


# --- parents ---------------------------------------------------------------------------------------------------------


async def _bred(training: "TrainingOptions", place: str, config: Config, machine: Machine, lines: Lines) -> Path:
    """Write the rows with parents sampled from a checkpoint or an endpoint, and return their folder."""
    out, settings, prompts = made_folder(training.out / PARENTS), config.sft, load_prompts(config.prompts)
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store.open(training.out / RECORD, lines.note))
        if place.startswith(("http://", "https://")):
            endpoint = config.endpoint.model_copy(update={"base_url": place})
            asked = config.model_copy(update={"endpoint": endpoint})
            sampler = await recorded_model(asked, machine, store, lines, stack)
        else:
            sampler = recorded_checkpoint(place, settings, store, stack)
        how = (settings.parent_samples, settings.parent_tokens, settings.seed)
        # Others are not put in the place of parents under a trained model.
        source = {"model": (await sampler.card()).name, "data": data_digest(training.data)}
        claim(training.out, canonical_json({**source, "prompts": prompts.digest, "asked": list(how)}), PARENTS_FILE)
        learned = (row for row in read_rows(training.data) if row.split == SPLITS[0])
        await write_parts(out, with_parents(learned, sampler, prompts, counts, *how), counts, lines)
    return out


def recorded_checkpoint(place: str, settings: TrainingSettings, store: Store, stack: AsyncExitStack) -> Sampler:
    """Return the checkpoint in a folder, with the store before it; it is loaded when an answer is owed.

    The settings say on what it computes, and in which precision.
    """
    checkpoint = find_checkpoint(place)
    from agentless_mini.learning.rollouts import TransformersSampler

    async def start() -> Sampler:
        sampler = TransformersSampler(checkpoint, precision=settings.precision, device=settings.device)
        return await stack.enter_async_context(sampler)

    return RecordedSampler(start, store, checkpoint.name())
