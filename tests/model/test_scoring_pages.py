"""The scorer over HTTP on pages that no server should send: each is one sentence, and none a score."""

import pytest

from agentless_mini.domain import ScoreRoute
from agentless_mini.errors import AminiError, ServerFailed
from tests.model.contract import run
from tests.model.scored import answering, asking, opened, score

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
