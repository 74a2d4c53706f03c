"""Where clones are found, what is read of them, and the files that matter to an issue."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Issue, Snapshot
from agentless_mini.errors import RepositoryError, Unreachable
from agentless_mini.learning.curation.filters import LeftOut, Step
from agentless_mini.learning.curation.history import History, Mirrors
from agentless_mini.learning.curation.pulls import sampled, without_model
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.repository.opening import open_repository
from agentless_mini.settings.run import LocalizeSettings
from tests.fakes.model import Script, ScriptedSampler, ready
from tests.gitrepo import commit_all, git, make_repository, write_files

FILES = {
    "half.py": b"def half(n):\n    return n / 2\n",
    "double.py": b"def double(n):\n    return n * 2\n",
    "other.py": b"x = 1\n",
}


@pytest.mark.parametrize("place", ["ada+engine", "ada/engine.git", "ada__engine", "ada+engine/repo"])
def test_bare_mirrors_are_found(tmp_path: Path, place: str) -> None:
    source = make_repository(tmp_path / "source", FILES)
    (tmp_path / "mirrors" / place).parent.mkdir(parents=True)
    git(tmp_path, "clone", "--quiet", "--bare", str(source), str(tmp_path / "mirrors" / place))
    mirrors = Mirrors(tmp_path / "mirrors", tmp_path / "cache")
    assert mirrors.find("Ada/Engine") == tmp_path / "mirrors" / place
    assert mirrors.find("ada/other") is None


def test_what_is_missing_is_cloned_on_demand(tmp_path: Path) -> None:
    make_repository(tmp_path / "there" / "ada" / "engine", FILES)
    mirrors = Mirrors(tmp_path, tmp_path / "cache", f"file://{tmp_path}/there")
    found = mirrors.find("ada/engine")
    assert found is not None
    assert found.parent == tmp_path / "cache"
    assert len(History(found).roots()) == 1
    assert mirrors.find("ada/gone") is None


def test_a_clone_is_used_as_it_is_where_nothing_answers_and_what_is_not_known_is_owed(tmp_path: Path) -> None:
    make_repository(tmp_path / "there" / "ada" / "engine", FILES)
    mirrors = Mirrors(tmp_path, tmp_path / "cache", f"file://{tmp_path}/there")
    found = mirrors.find("ada/engine")
    (tmp_path / "there").rename(tmp_path / "away")
    assert mirrors.find("ada/engine") == found
    with pytest.raises(Unreachable, match="check the network"):
        Mirrors(tmp_path, tmp_path / "cache", "http://127.0.0.1:9").find("ada/engine")


def test_changes_between_commits_are_read(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "a", {**FILES, "b.bin": b"\0", "odd\t name.py": b"1\n"})
    first = git(path, "rev-parse", "HEAD").decode().strip()
    write_files(path, {"half.py": b"1\n2\n", "b.bin": b"\0\1", "odd\t name.py": b"2\n", "new.py": b"1\n"})
    (path / "other.py").unlink()
    (path / "double.py").chmod(0o755)
    second = commit_all(path)
    history = History(path / ".git")
    changes, none, back = history.changes([(first, second), (second, second), (second, first)]).values()
    told = {one.path: (bool(one.before), bool(one.after), one.lines) for one in changes}
    assert told == {
        b"b.bin": (True, True, -1),
        b"double.py": (True, True, 0),
        b"half.py": (True, True, 4),
        b"new.py": (False, True, 1),
        b"odd\t name.py": (True, True, 2),
        b"other.py": (True, False, 1),
    }
    assert none == ()
    assert {one.path for one in back} == set(told)
    assert history.changes([]) == {}
    with pytest.raises(RepositoryError):
        history.changes([(first, "e" * 40)])


def test_objects_are_read_many_at_once(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "a", {**FILES, "empty.py": b"", "late\n": b""})
    head = git(path, "rev-parse", "HEAD").decode().strip()
    history = History(path / ".git")
    found = history.found([f"{head}:half.py", f"{head}:no such blob 5", f"{head}:empty.py", "e" * 40, head])
    assert {spec.partition(":")[2]: size for spec, (_, size) in found.items()} == {"half.py": 30, "empty.py": 0}
    ids = [name for name, _ in found.values()]
    assert history.blobs(ids) == dict(zip(ids, (FILES["half.py"], b""), strict=True))
    commit = history.commits([head, ids[0]])[head]
    assert (commit.parents, commit.at, commit.message) == ((), "2024-01-02T03:04:05Z", "a commit\n")
    assert history.ancestor(head, 3) == ""
    assert history.commits([]) == {}


def test_what_commits_say_is_read_in_their_encoding_and_dates_beyond_calendars_are_none(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "a", FILES)
    git(path, "config", "i18n.logOutputEncoding", "UTF-16")
    said = ("-c", "i18n.commitEncoding=ISO-8859-1", "commit", "--quiet", "--allow-empty", "--file=-")
    git(path, *said, stdin=b"caf\xe9 (#3)\n")
    head = git(path, "rev-parse", "HEAD").decode().strip()
    late = git(path, "cat-file", "commit", head)
    late = re.sub(rb"(?m)^(committer .* )\d+ ", rb"\g<1>253402300800 ", late)
    far = git(path, "hash-object", "-w", "-t", "commit", "--stdin", stdin=late).decode().strip()
    found = History(path / ".git").commits([head, far])
    assert found[head].message == "café (#3)\n"
    assert (found[head].is_squash, found[far].at) == (True, "")


def test_nothing_that_a_mirror_configures_is_run(tmp_path: Path) -> None:
    path = make_repository(tmp_path / "a", FILES)
    write_files(path, {"half.py": b"1\n"})
    head = commit_all(path, "signed (#3)")
    trap = f"touch {tmp_path}/sprung"
    for key in ("core.fsmonitor", "diff.evil.textconv", "diff.evil.command", "gpg.program", "core.pager"):
        git(path, "config", key, trap)
    git(path, "config", "log.showSignature", "true")
    git(path, "config", "diff.external", trap)
    (path / ".git" / "info" / "attributes").write_text("* diff=evil\n")
    history = History(path / ".git")
    assert [len(found) for found in history.changes([(history.ancestor(head, 1), head)]).values()] == [1]
    assert history.merged[3] == head
    assert history.messages(history.ancestor(head, 1), head, 9) == ("signed (#3)\n",)
    assert not os.path.lexists(tmp_path / "sprung")


def told(folder: Path) -> tuple[Issue, Snapshot]:
    path = make_repository(folder / "engine", FILES)
    return Issue("half and double are wrong"), open_repository(str(path), "HEAD", folder).snapshot()


def test_the_lexical_ranking_names_the_likeliest_files_first(tmp_path: Path) -> None:
    with without_model(tmp_path) as lexical:
        assert sorted([*lexical(*told(tmp_path))][:2]) == ["double.py", "half.py"]


def test_a_model_is_asked_once_and_recorded(tmp_path: Path) -> None:
    asked, sampler = told(tmp_path), ScriptedSampler(Script.of("```\nhalf.py\nother.py\ndouble.py\n```"))
    for _ in range(2):
        with Store.open(tmp_path / "store.sqlite") as store, asyncio.Runner() as runner:
            recorded = RecordedSampler(ready(sampler), store, "scripted")
            found = sampled(recorded, load_prompts(None), LocalizeSettings(samples=1), runner)
            assert [*found(*asked)] == ["half.py", "other.py", "double.py"]
    assert len(sampler.requests) == 2  # whether a change is asked for, and of which files


@pytest.mark.parametrize("said", ["It is a question.\n\n**No.**", "no"])
def test_an_issue_that_asks_for_no_change_is_left_out(tmp_path: Path, said: str) -> None:
    with Store.open(tmp_path / "store.sqlite") as store, asyncio.Runner() as runner:
        recorded = RecordedSampler(ready(ScriptedSampler(Script.of(said))), store, "scripted")
        found = sampled(recorded, load_prompts(None), LocalizeSettings(samples=1), runner)
        with pytest.raises(LeftOut) as left_out:
            found(*told(tmp_path))
    assert left_out.value.step is Step.NO_CHANGE_ASKED
