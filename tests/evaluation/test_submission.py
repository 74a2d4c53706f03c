"""The layout of a submission, what it says of itself, and what it keeps when it is written again."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it comes with pre-commit

from agentless_mini.errors import GradingFailed
from agentless_mini.evaluation.submission import BEGIN, END, LOGS, SubmissionFacts, Submitted, write_submission
from tests.evaluation.bugs import read_predictions

IDS = {"django__django-1": "django/django", "django__django-2": "django/django", "psf__requests-3": "psf/requests"}
FACTS = SubmissionFacts("org/model", "verified", 10, IDS, {"swebench": "5.0.2", "agentless-mini": "0.1.0"})


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Submitted]:
    for name in ("django__django-1", "psf__requests-3"):
        logs = tmp_path / "logs" / name
        logs.mkdir(parents=True)
        for file in LOGS:
            (logs / file).write_text(f"{name} {file}")
    return {
        "django__django-1": Submitted(b"diff 1", True, tmp_path / "logs" / "django__django-1"),
        "django__django-2": Submitted(b"", False, tmp_path / "logs" / "django__django-2"),
        "psf__requests-3": Submitted(b"diff 3", False, tmp_path / "logs" / "psf__requests-3"),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "submission"


def test_the_layout(folder: Path, parts: dict[str, Submitted]) -> None:
    written = write_submission(folder, FACTS, parts, ((name, f"# {name} é\n") for name in parts))
    assert not written["a prediction"] + written["complete logs"]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == sorted([
        "README.md", "all_preds.jsonl", "metadata.yaml", *(f"trajs/{name}.md" for name in parts),
        *(f"logs/{name}/{file}" for name in ("django__django-1", "psf__requests-3") for file in LOGS),
    ])  # fmt: skip
    assert read_predictions(folder / "all_preds.jsonl") == {name: part.diff for name, part in parts.items()}
    assert (folder / "logs/psf__requests-3/eval.sh").read_text() == "psf__requests-3 eval.sh"
    assert (folder / "trajs/django__django-2.md").read_text(encoding="utf-8") == "# django__django-2 é\n"


@pytest.mark.parametrize(("samples", "attempts"), [(1, "1"), (500, "2+")])
def test_the_metadata_have_what_is_known_and_say_what_is_not(
    folder: Path, parts: dict[str, Submitted], samples: int, attempts: str
) -> None:
    facts = replace(FACTS, attempts=samples, model='a "strange": name')
    write_submission(folder, facts, parts, ())
    told = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert told["info"]["name"] == 'agentless-mini + a "strange": name'
    assert {told["info"][key] for key in ("logo", "report", "site", "authors")} == {"TO FILL IN"}
    assert told["tags"]["model"] == ['a "strange": name']
    assert told["tags"]["checked"] is False
    assert told["tags"]["system"]["attempts"] == attempts


def test_the_readme_has_the_results_and_the_checklist(folder: Path, parts: dict[str, Submitted]) -> None:
    write_submission(folder, FACTS, parts, ())
    told = (folder / "README.md").read_text()
    assert "Resolved 1 of 3 instances (33.33%); 3 predictions, 1 of them an empty one." in told
    assert "* django/django: 1/2 (50.00%)" in told
    assert "agentless-mini 0.1.0, swebench 5.0.2" in told
    assert told.count("- [x]") == 4
    assert "Not eligible" not in told
    assert "Not complete" not in told


def test_what_the_rules_do_not_allow_is_said(folder: Path, parts: dict[str, Submitted]) -> None:
    del parts["psf__requests-3"]
    written = write_submission(folder, replace(FACTS, oracle_files=True), parts, ())
    told = (folder / "README.md").read_text()
    assert "Not eligible: the model was told which files" in told
    assert "Not complete: 1 instance without a prediction." in told
    assert written["a prediction"] == ["psf__requests-3"]


def test_a_prediction_whose_logs_are_incomplete_is_named(folder: Path, parts: dict[str, Submitted]) -> None:
    (parts["psf__requests-3"].logs / "report.json").unlink()
    assert write_submission(folder, FACTS, parts, ())["complete logs"] == ["psf__requests-3"]
    assert not (folder / "logs/psf__requests-3/report.json").exists()


def test_what_a_person_wrote_stays_and_the_results_are_renewed(folder: Path, parts: dict[str, Submitted]) -> None:
    write_submission(folder, FACTS, parts, ())
    (folder / "metadata.yaml").write_text("mine")
    readme = folder / "README.md"
    readme.write_text("By Ada.\n" + readme.read_text() + "Thanks.\n")
    parts["django__django-2"] = replace(parts["psf__requests-3"], resolved=True)
    write_submission(folder, FACTS, parts, ())
    assert (folder / "metadata.yaml").read_text() == "mine"
    told = readme.read_text()
    assert told.startswith("By Ada.\n")
    assert told.endswith("Thanks.\n")
    assert "Resolved 2 of 3" in told
    assert "Resolved 1 of 3" not in told


def test_what_is_no_longer_part_of_a_submission_goes_and_other_files_stay(
    folder: Path, parts: dict[str, Submitted]
) -> None:
    write_submission(folder, FACTS, parts, [(name, "# It\n") for name in parts])
    for mine in ("logs/notes", "trajs/notes.md"):
        (folder / mine).write_text("mine")
    del parts["psf__requests-3"]
    write_submission(folder, FACTS, parts, [(name, "# It\n") for name in parts])
    kept = sorted(str(path.relative_to(folder)) for part in ("logs", "trajs") for path in (folder / part).iterdir())
    assert kept == ["logs/django__django-1", "logs/notes", *(f"trajs/{name}.md" for name in parts), "trajs/notes.md"]


def test_results_whose_place_is_gone_are_put_at_the_end(folder: Path, parts: dict[str, Submitted]) -> None:
    folder.mkdir()
    (folder / "README.md").write_text("By Ada.\n")
    for _ in range(2):
        write_submission(folder, FACTS, parts, ())
    told = (folder / "README.md").read_text()
    assert told.startswith("By Ada.\n\n<!--")
    assert told.count("Resolved 1 of 3") == 1


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, parts: dict[str, Submitted]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GradingFailed, match="submission cannot be written"):
        write_submission(tmp_path / "file", FACTS, parts, ())


def test_what_is_not_graded_is_said_and_not_called_resolved(folder: Path, parts: dict[str, Submitted]) -> None:
    parts["django__django-1"] = replace(parts["django__django-1"], resolved=None)
    assert write_submission(folder, FACTS, parts, ())["a grade"] == ["django__django-1"]
    told = (folder / "README.md").read_text()
    assert "Resolved 0 of 3" in told
    assert "Not complete: 1 prediction not graded" in told


def test_what_a_person_wrote_stays_where_the_second_comment_is_gone(folder: Path, parts: dict[str, Submitted]) -> None:
    write_submission(folder, FACTS, parts, ())
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace(END, "") + "Thanks.\n")
    for _ in range(2):
        write_submission(folder, FACTS, parts, ())
    told = readme.read_text()
    assert "## Checklist" in told
    assert told.endswith("Thanks.\n")
    assert (told.count(BEGIN), told.count(END)) == (1, 1)


def test_bytes_that_are_no_text_are_kept_and_what_cannot_be_text_is_written_as_its_escape(
    folder: Path, parts: dict[str, Submitted]
) -> None:
    folder.mkdir()
    (folder / "README.md").write_bytes(b"By Ad\xe9l.\r\n")
    facts = replace(FACTS, repos={**IDS, "django__django-1": "django/\ud800"})
    write_submission(folder, facts, parts, [("django__django-1", "lone \ud800")])
    told = (folder / "README.md").read_bytes()
    assert told.startswith(b"By Ad\xe9l.\r\n")
    assert b"Resolved 1 of 3" in told
    assert (folder / "trajs/django__django-1.md").read_text() == "lone \\ud800"
