"""Localization: distinct lists, the issue's own names, trees that do not fit, models that are not asked."""

from dataclasses import replace

import pytest

from agentless_mini.chain.localize import given, localize
from agentless_mini.domain import (
    Decoding,
    FileKind,
    Issue,
    Localization,
    ModelCard,
    Note,
    SampleDone,
    Snapshot,
    SourceFile,
    Stage,
    StageStarted,
)
from agentless_mini.errors import ContextTooSmall, UsageError
from agentless_mini.settings.run import LocalizeSettings
from tests.chain.workbench import ISSUE, Bench, run, shop, subject, text_file
from tests.fakes.model import Script, ScriptedSampler

CARD = ModelCard("scripted", 8192)


def ask(
    *answers: str, snapshot: Snapshot | None = None, issue: Issue = ISSUE, card: ModelCard = CARD, samples: int = 4
) -> tuple[Localization, ScriptedSampler, Bench]:
    sampler = ScriptedSampler(Script.of(*answers), card)
    bench = Bench(sampler)
    found = run(localize(subject(snapshot or shop(), issue), bench.session, LocalizeSettings(samples=samples)))
    return found, sampler, bench


def test_distinct_lists_are_counted_and_the_most_wanted_comes_first() -> None:
    both, cart = "```\nshop/cart.py\nshop/tax.py\n```", "```\nshop/cart.py\n```"
    found, _, _ = ask(both, cart, cart, "no idea")
    assert found.lists == (("shop/cart.py",), ("shop/cart.py", "shop/tax.py"))
    assert found.votes == (2, 1)
    assert (found.tree_shown, found.tree_total) == (2, 2)


def test_lists_of_the_same_files_are_one_list_in_the_order_of_the_first() -> None:
    found, _, _ = ask("```\nshop/tax.py\nshop/cart.py\n```", "```\nshop/cart.py\nshop/tax.py\n```")
    assert found.lists == (("shop/tax.py", "shop/cart.py"),)
    assert found.votes == (4,)


def test_all_samples_share_one_prompt_and_one_request() -> None:
    _, sampler, bench = ask("```\nshop/cart.py\n```")
    (request,) = sampler.requests
    assert (request.indices, request.stage, request.instance) == ((0, 1, 2, 3), Stage.LOCALIZE, "shop@c")
    assert bench.events[0] == StageStarted(Stage.LOCALIZE, 4)
    assert sum(isinstance(event, SampleDone) for event in bench.events) == 4


def test_files_that_the_issue_names_join_every_list_where_they_are_likely() -> None:
    found, _, _ = ask("```\nshop/cart.py\n```", issue=Issue("Wrong total, see shop/tax.py"))
    assert found.lists == (("shop/cart.py", "shop/tax.py"),)
    assert found.named == ("shop/tax.py",)


def test_files_that_are_named_in_passing_take_no_places() -> None:
    others = [text_file(f"lib/{name}.py", "y = 1\n") for name in "abcd"]
    issue = Issue("The total of the prices is wrong\nI have lib/a.py, lib/b.py, lib/c.py and lib/d.py open.")
    found, _, _ = ask("```\nshop/cart.py\n```", issue=issue, snapshot=shop(*others))
    assert len(found.named) == 4
    assert len(found.lists[0]) <= 2


def test_without_a_usable_answer_the_lexical_ranking_stands_in() -> None:
    found, _, bench = ask("I cannot tell.")
    assert found.lists == (("shop/cart.py", "shop/tax.py"),)
    assert found.votes == (0,)
    rejected = [event.rejected for event in bench.events if isinstance(event, SampleDone)]
    assert all(rejected)


def test_a_tree_larger_than_the_context_is_cut_to_the_likeliest_files_and_says_so() -> None:
    many = [text_file(f"pkg/part{n:04}/module_with_a_long_name.py", f"x{n} = {n}\n") for n in range(3000)]
    found, sampler, bench = ask("```\nshop/cart.py\n```", snapshot=shop(*many), card=ModelCard("scripted", 4096))
    assert found.lists == (("shop/cart.py",),)
    assert found.tree_total == 3002
    assert 100 < found.tree_shown < 3002
    (request,) = sampler.requests
    assert run(sampler.count_tokens(request.messages)) + request.params.max_tokens <= 4096
    assert "shop/cart.py" in request.messages[1].content
    assert any(isinstance(event, Note) and "cut to the likeliest" in event.text for event in bench.events)


def test_a_context_without_room_for_any_path_is_an_error() -> None:
    with pytest.raises(ContextTooSmall, match="--files"):
        ask("x", card=ModelCard("scripted", 200))


@pytest.mark.parametrize(("card", "samples"), [(ModelCard("tiny", 8192, Decoding.LINES), 4), (CARD, 0)])
def test_a_model_that_rewrites_lines_is_not_asked_and_gets_the_likeliest_file(card: ModelCard, samples: int) -> None:
    found, sampler, _ = ask("x", card=card, samples=samples)
    assert sampler.requests == []
    assert found.lists == (("shop/cart.py",),)


def test_given_files_replace_localization() -> None:
    found = given(["shop/cart.py", "./shop/tax.py", "shop/cart.py"], shop())
    assert found.lists == (("shop/cart.py", "shop/tax.py"),)
    assert found.votes == (0,)


@pytest.mark.parametrize(
    "said", ["shop\\cart.py", ".\\shop\\cart.py", "./shop/cart.py", "shop/./cart.py", "shop//cart.py"]
)
def test_a_given_path_is_read_in_every_spelling(said: str) -> None:
    assert given([said, "shop/cart.py"], shop()).lists == (("shop/cart.py",),)


@pytest.mark.parametrize(
    "said", ["shop/card.py", "shop\\card.py", "../shop/cart.py", "/shop/cart.py", "", "C:\\shop\\cart.py"]
)
def test_a_given_path_that_no_spelling_finds_is_a_usage_error(said: str) -> None:
    with pytest.raises(UsageError, match="as `git ls-files` does"):
        given([said], shop())


@pytest.mark.parametrize("name", ["shop\\odd.py", "shop/bell\a.py", "shop/\udcff.py"])
def test_a_given_name_that_no_prompt_can_carry_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="rename the file") as raised:
        given([name], shop(text_file(name, "x = 1\n")))
    assert str(raised.value).isprintable()


def test_where_a_backslash_names_two_files_the_path_is_meant() -> None:
    snapshot = shop(text_file("shop\\cart.py", "x = 1\n"))
    assert given(["shop\\cart.py"], snapshot).lists == (("shop/cart.py",),)


def test_votes_for_files_that_are_not_looked_into_are_told() -> None:
    tree = shop(SourceFile("libs/money", "160000", FileKind.SUBMODULE))
    tree = replace(tree, ignored=("build/", "notes.txt"))
    cart, module = "```\nshop/cart.py\n```", "```\nshop/cart.py\n./libs/money/round.py\n```"
    _, _, bench = ask(cart, module, "```\nbuild/lib/cart.py\n```", "libs/moneybag/x.py", snapshot=tree)
    assert [event.text for event in bench.events if isinstance(event, Note)] == [
        "2 of 4 answers name files that are not looked into (of a submodule, or ignored by git): libs/money/round.py."
    ]
    _, _, bench = ask("<think>\nlibs/money/round.py", snapshot=tree)
    assert not [event for event in bench.events if isinstance(event, Note)]
