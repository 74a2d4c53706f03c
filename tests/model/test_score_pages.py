"""Whatever JSON a server answers with: finite numbers, one for each text, or a reason."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import RewardModel, ScoreRoute
from agentless_mini.errors import AminiError, ServerFailed
from agentless_mini.model.scoring import LARGEST, BadScores, read_scores
from tests.model.contract import run
from tests.model.scored import answering, asking, opened, score

SCORE = RewardModel("m")
CLASSIFY = RewardModel("m", ScoreRoute.CLASSIFY)
POOLING = RewardModel("m", ScoreRoute.POOLING)
SECOND = RewardModel("m", ScoreRoute.CLASSIFY, 1)
SECOND_POOLED = RewardModel("m", ScoreRoute.POOLING, 1)


@pytest.mark.parametrize(
    ("model", "rows", "scores"),
    [
        (SCORE, [{"index": 0, "object": "score", "score": 0.25}, {"index": 1, "score": -3}], (0.25, -3.0)),
        (SCORE, [{"index": 1, "score": 1.0}, {"index": 0, "score": 0.0}], (0.0, 1.0)),
        (CLASSIFY, [{"index": 0, "label": "LABEL_0", "probs": [-7.5], "num_classes": 1}], (-7.5,)),
        (SECOND, [{"index": 0, "label": "good", "probs": [0.25, 0.75], "num_classes": 2}], (0.75,)),
        (POOLING, [{"index": 0, "object": "pooling", "data": [1.5]}], (1.5,)),
        (POOLING, [{"index": 0, "data": [[0.0], [0.5], [2.5]]}], (2.5,)),
        (SECOND_POOLED, [{"index": 0, "data": [[0.0, 1.0], [0.5, 3.0]]}], (3.0,)),
        (SCORE, [], ()),
    ],
)
def test_scores_are_read_in_the_order_of_the_texts(
    model: RewardModel, rows: list[object], scores: tuple[float, ...]
) -> None:
    assert read_scores(rows, model, len(scores)) == scores


@pytest.mark.parametrize(
    ("model", "rows", "said"),
    [
        (SCORE, [], "0 rows"),
        (SCORE, [{"index": 0, "score": 1.0}, {"index": 1, "score": 1.0}], "2 rows"),
        (SCORE, [{"index": 1, "score": 1.0}], "not one for each"),
        (SCORE, [{"score": 1.0}], "without an index"),
        (SCORE, [{"index": True, "score": 1.0}], "without an index"),
        (SCORE, [{"index": "0", "score": 1.0}], "without an index"),
        (SCORE, [0.5], "without an index"),
        (SCORE, [{"index": 0}], "no number"),
        (SCORE, [{"index": 0, "score": "0.5"}], "no number"),
        (SCORE, [{"index": 0, "score": True}], "no number"),
        (SCORE, [{"index": 0, "score": [0.5]}], "no number"),
        (SCORE, [{"index": 0, "score": math.nan}], "not finite"),
        (SCORE, [{"index": 0, "score": math.inf}], "not finite"),
        (SCORE, [{"index": 0, "score": 10**400}], "too large"),
        (SCORE, [{"index": 0, "score": 1.7e308}], "too large"),
        (CLASSIFY, [{"index": 0, "probs": [-4e38]}], "too large"),
        (CLASSIFY, [{"index": 0, "probs": []}], "no list of numbers"),
        (CLASSIFY, [{"index": 0, "probs": 0.5}], "no list of numbers"),
        (CLASSIFY, [{"index": 0, "probs": [[0.5]]}], "no number"),
        (CLASSIFY, [{"index": 0, "probs": [0.5, 0.5]}], "scorer.label to say which"),
        (SECOND, [{"index": 0, "probs": [0.5]}], "none at scorer.label 1"),
        (SECOND, [{"index": 0, "probs": [0.5, None]}], "no number"),
        (POOLING, [{"index": 0, "data": "AAAAPw=="}], "no list of numbers"),
        (POOLING, [{"index": 0, "data": [[[0.5]]]}], "no number"),
        (POOLING, [{"index": 0, "data": [[0.5], []]}], "no list of numbers"),
        (POOLING, [{"index": 0, "data": [0.25] * 768}], "768 numbers"),
    ],
)
def test_what_is_no_score_is_refused_with_a_reason(model: RewardModel, rows: list[object], said: str) -> None:
    with pytest.raises(BadScores, match=said):
        read_scores(rows, model, 1)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["index", "x"]), inner, max_size=2),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {"index": st.integers(0, 2) | VALUES}, optional={"score": VALUES, "probs": VALUES, "data": VALUES}
)


@given(
    st.sampled_from([SCORE, CLASSIFY, POOLING, SECOND, SECOND_POOLED]),
    st.lists(ROWS | VALUES, max_size=3),
    st.integers(0, 3),
)
def test_any_rows_are_finite_numbers_or_a_reason(model: RewardModel, rows: list[object], count: int) -> None:
    scores, said = outcome(rows, model, count)
    assert said.isprintable()
    assert len(scores) == (0 if said else count)
    assert all(type(score) is float and abs(score) <= LARGEST for score in scores)


def outcome(rows: list[object], model: RewardModel, count: int) -> tuple[tuple[float, ...], str]:
    try:
        return read_scores(rows, model, count), ""
    except BadScores as error:
        return (), str(error)


FIELDS = {ScoreRoute.SCORE: "score", ScoreRoute.CLASSIFY: "probs", ScoreRoute.POOLING: "data"}
PAGES = {
    "wrong count": '{"data": [{"index": 0, "%s": [1.0]}, {"index": 1, "%s": [1.0]}, {"index": 2, "%s": [1.0]}]}',
    "no rows": '{"data": []}',
    "no page": "[]",
    "a text": '"%s"',
    "an error": '{"error": {"message": "no"}}',
    "many digits": '{"data": [{"index": 0, "%s": ' + "1" * 5000 + "}]}",
    "large": '{"data": [{"index": 0, "%s": 1e999}]}',
    "deep": '{"data": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "nothing": "",
}


def refused(page: str, route: ScoreRoute) -> AminiError:
    with answering(page.encode()) as url, pytest.raises(ServerFailed) as raised:
        score(url, asking(route, "answer"))
    return raised.value


@pytest.mark.parametrize("route", list(ScoreRoute))
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_without_scores_is_refused(route: ScoreRoute, kind: str) -> None:
    error = refused(PAGES[kind].replace("%s", FIELDS[route]), route)
    assert str(error).endswith(".")
    assert len(str(error)) < 600


def test_a_list_of_models_that_is_none_is_refused() -> None:
    async def named(page: bytes) -> str:
        with answering(page) as url:
            async with opened(url) as scorer:
                return await scorer.served()

    with pytest.raises(ServerFailed, match=r"set scorer\.model"):
        run(named(b'{"data": []}'))
    with pytest.raises(ServerFailed, match=r"check scorer\.base_url"):
        run(named(b'{"data": [7]}'))
