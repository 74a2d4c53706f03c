"""The recipes hold: each fix fixes, no wrong patch does, and every generated test is worth what its recipe says."""

from collections import Counter
from pathlib import Path

import pytest

from agentless_mini.domain import Completion, Finish, Method, Patch, PlacedFile, placed_files
from agentless_mini.edits import Tree, read_answer
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.repository.opening import open_repository
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from agentless_mini.sandbox.host import VirtualEnvironment
from tests.benchmarks.real_bugs import try_bug
from tests.real_bugs.checkout import GOLD, Answer, Checkout, fetch
from tests.real_bugs.index import IndexUnreachable
from tests.real_bugs.recipe import Bug, Quality, WrongKind, load_bugs
from tests.real_bugs.surroundings import environment
from tests.real_bugs.trials import Outcome, Place, Trial, outcomes

BUGS = load_bugs()
WORTH = {
    Quality.REPRODUCES: ({Outcome.FAILED}, {Outcome.PASSED}),
    Quality.BROKEN: ({Outcome.NOT_COLLECTED}, {Outcome.NOT_COLLECTED}),
    Quality.PASSES: ({Outcome.PASSED}, {Outcome.PASSED}),
    Quality.MISTAKEN: ({Outcome.FAILED}, {Outcome.FAILED}),
}
each_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    try:
        return Place(environment(BUGS), find_bubblewrap("bwrap"), tmp_path_factory.mktemp("packs"))
    except (IndexUnreachable, EnvironmentFailed) as error:
        pytest.skip(str(error))


@pytest.fixture
def checkout(bug: Bug, tmp_path: Path) -> Checkout:
    try:
        return fetch(bug, tmp_path / bug.name)
    except IndexUnreachable as error:
        pytest.skip(str(error))


def test_there_are_enough_bugs_of_enough_projects() -> None:
    assert len(BUGS) >= 10
    assert len({bug.project for bug in BUGS}) >= 5


@each_bug
def test_a_recipe_has_nine_wrong_patches_and_tests_of_mixed_quality(bug: Bug) -> None:
    assert len(bug.wrongs) == 9
    assert sum(wrong.kind is not WrongKind.MUTANT for wrong in bug.wrongs) >= 5
    worth = Counter(test.quality for test in bug.generated)
    assert 5 <= worth.total() <= 8
    assert worth[Quality.REPRODUCES] >= 2
    assert set(worth) == set(Quality)


def test_twelve_more_wrong_patches_break_no_more_than_the_fix() -> None:
    assert sum(len(bug.spoilt) for bug in BUGS) == 12


@each_bug
def test_no_recipe_gives_its_fix_away(bug: Bug) -> None:
    assert not [path for path in bug.fix if Path(path).name in bug.issue]
    assert bug.after not in bug.issue


@pytest.mark.thorough
@each_bug
def test_every_answer_is_a_patch_of_its_own(bug: Bug, checkout: Checkout) -> None:
    tree = Tree.of(open_repository(str(checkout.folder), None, checkout.cache).snapshot())
    answers = checkout.answers(7)
    patches = [read_answer(Completion(n, answer.text, Finish.STOP), tree) for n, answer in enumerate(answers)]
    assert [patch.normal if isinstance(patch, Patch) else patch for patch in patches] == [
        answer.patch.normal for answer in answers
    ]
    assert len({answer.patch.normal for answer in answers}) == 10
    assert [answer.kind for answer in answers].count(GOLD) == 1


@pytest.mark.thorough
@each_bug
def test_the_fix_alone_fixes_and_the_tests_are_worth_what_they_should(
    bug: Bug, checkout: Checkout, place: Place
) -> None:
    generated = tuple(
        PlacedFile(f"{bug.test_folder}/test_generated_{number}.py", test.code.encode())
        for number, test in enumerate(bug.generated)
    )
    runs = (bug.tests, *((file.path,) for file in generated))
    written = (*checkout.judges(), *generated)
    trials = [Trial(written, runs), Trial((*placed_files(checkout.gold().changes), *written), runs)]
    wrongs = (*checkout.wrongs(), *checkout.spoilt())
    trials += [Trial((*placed_files(wrong.changes), *checkout.judges()), (bug.tests,)) for wrong in wrongs]
    (faulty, *faulty_generated), (fixed, *fixed_generated), *others = outcomes(checkout, trials, place)
    assert (faulty, fixed) == (Outcome.FAILED, Outcome.PASSED)
    assert _unlike_their_quality(bug, faulty_generated, fixed_generated) == []
    assert _not_wrong(wrongs, [outcome for (outcome,) in others]) == []


def _unlike_their_quality(bug: Bug, faulty: list[Outcome], fixed: list[Outcome]) -> list[str]:
    return [
        f"{number}, {test.quality}: {before.name}, then {after.name}"
        for number, (test, before, after) in enumerate(zip(bug.generated, faulty, fixed, strict=True))
        if before not in WORTH[test.quality][0] or after not in WORTH[test.quality][1]
    ]


def _not_wrong(wrongs: tuple[Answer, ...], ended: list[Outcome]) -> list[str]:
    numbered = enumerate(zip(wrongs, ended, strict=True))
    return [
        f"{number}, {wrong.kind}: {outcome.name}"
        for number, (wrong, outcome) in numbered
        if outcome is not Outcome.FAILED
    ]


@pytest.mark.thorough
def test_the_chain_chooses_a_fix_that_breaks_the_one_test_which_pins_the_fault(place: Place, tmp_path: Path) -> None:
    (bug,) = (bug for bug in BUGS if bug.name == "xmltodict-none-text")
    trial = try_bug(bug, VirtualEnvironment("real-bugs", place.environment), tmp_path)
    assert trial.found(Method.PROBABILITY)
    assert trial.found(Method.AGREEMENT)
    assert trial.found(Method.SCORES)
    assert "breaks 1 of" in trial.reason
