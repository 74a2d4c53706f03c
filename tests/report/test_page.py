"""The page: what may stand in it, and what a real browser makes of it."""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import Completion, Finish, Issue, Message, Role
from agentless_mini.record import PromptRecord
from agentless_mini.report.evaluation_document import run_instance
from agentless_mini.report.page import json_block, packed_block, render_page, render_run
from tests.report.browser import Page, find_chromium, started
from tests.report.page_documents import HOSTILE, depth, evaluation, evolution, evolved_depth, row, unknown
from tests.report.test_verdicts import EXECUTION, REPAIRS, decided

ROWS = [row("django__django-9", True), row("django__django-10", False, confidence=0.25), row("sphinx__sphinx-1", False)]
OTHERS = [row("django__django-9", False), row("django__django-10", True), row("sphinx__sphinx-1", False)]
TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from([HOSTILE, "</script>", "<!--", "]]>", "\u2029"])


# --- what stands in it -----------------------------------------------------------------------------------------------


@given(st.dictionaries(TEXTS, st.lists(TEXTS)))
def test_a_block_of_data_holds_no_markup_and_says_what_it_was_given(value: dict[str, list[str]]) -> None:
    block = json_block(value)
    assert block.isascii()
    assert not set(block) & set("<>&")
    assert json.loads(block) == value


@given(st.dictionaries(TEXTS, TEXTS))
def test_a_packed_block_comes_back(value: dict[str, str]) -> None:
    packed = packed_block(value)
    assert re.fullmatch(r"[A-Za-z0-9+/=]*", packed)
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == value


def scripts(text: str) -> list[str]:
    return re.findall(r"<script[^>]*>", text)


def test_foreign_text_adds_no_element_and_can_be_written_anywhere() -> None:
    plain = render_page([evaluation("a", ROWS)], [[depth("django__django-9")]])
    hostile = evaluation(HOSTILE, [row(HOSTILE, None, failure=HOSTILE, state=HOSTILE, repo=HOSTILE)])
    text = render_page([hostile], [[depth(HOSTILE, HOSTILE)]])
    assert text.isascii()
    assert scripts(text) == scripts(plain)
    assert len(scripts(text)) == 3
    assert "onerror=" not in text.replace('onerror=\\"', "")
    assert "<img" not in text


def test_the_same_documents_come_to_the_same_page() -> None:
    documents = [evaluation("a", ROWS), evaluation("b", OTHERS)]
    turned = [dict(reversed(document.items())) for document in documents]
    instances = [[depth("django__django-9")], [depth("django__django-9")]]
    assert render_page(documents, instances) == render_page(turned, [iter(found) for found in instances])


def test_the_policy_allows_this_script_and_this_style_and_nothing_else() -> None:
    text = render_page([evaluation("a", ROWS)])
    told = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert told
    policy = dict(part.split(" ", 1) for part in told[1].replace("&#39;", "'").split("; "))
    for name in ("script", "style"):
        [code] = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert policy.pop(f"{name}-src") == f"'sha256-{digest}'"
    assert policy == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_the_page_names_no_address_and_the_script_parses_no_markup() -> None:
    text = render_page([evaluation("a", ROWS)])
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(|fetch\(", text
    )


def test_the_page_of_a_run_holds_no_markup_of_the_run(tmp_path: Path) -> None:
    text = render_run(run_of(tmp_path, HOSTILE))
    assert text.isascii()
    assert len(scripts(text)) == 3
    assert "<img" not in text


def run_of(folder: Path, text: str) -> dict[str, Any]:
    """Return a run of two patches and three tests with `text` wherever foreign text stands."""
    told = decided(folder, EXECUTION, *REPAIRS)
    start = replace(told.run.start, issue=Issue(text, text), model=text, command=(text,), repository=text)
    told = replace(told, run=replace(told.run, start=start))
    asked = {one.prompt: PromptRecord(one.prompt, (Message(Role.USER, text),), None) for one in told.samples}
    answers = [(one, Completion(one.index, text, Finish.LENGTH, text)) for one in told.samples]
    return run_instance(told, asked.values(), answers)


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """Skip where there is no Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with started(program) as page:
        yield page


@pytest.fixture
def shown(browser: Page, tmp_path: Path) -> Iterator[Page]:
    """Return the page of two evaluations, opened; whatever is done with it, it may neither complain nor ask."""
    at = opened(browser, tmp_path, [evaluation("first", ROWS), evaluation("second", OTHERS)])
    yield browser
    assert browser.complaints == []
    assert {url for url in browser.requests if url != "about:blank"} == {at.as_uri()}


def opened(
    browser: Page, folder: Path, documents: list[dict[str, Any]], fragment: str = "", text: str = "text"
) -> Path:
    instances = [[depth(one["id"], text) for one in document["results"]["per_instance"]] for document in documents]
    path = folder / "report.html"
    path.write_text(render_page(documents, instances), encoding="ascii")
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(path, fragment)
    return path


def table(browser: Page) -> list[str]:
    return browser.texts("#instances-table tbody td:first-child")


@pytest.mark.slow
def test_the_overview_has_all_plots_with_the_values_of_both_runs(shown: Page) -> None:
    assert shown.value("document.title") == "amini: first, second"
    plots = ["best-at-n", "best-at-tests", "calibration", "by-difficulty", "by-repo", "failures", "rejections"]
    assert shown.value("[...document.querySelectorAll('figure')].map(e => e.id)") == [f"plot-{name}" for name in plots]
    marks = {name: len(shown.texts(f"#plot-{name} svg[role=img] .mark")) for name in plots[:3]}
    assert marks == {"best-at-n": 2 * (4 + 4 + 3), "best-at-tests": 8, "calibration": 2}
    bars = {name: len(shown.texts(f"#plot-{name} svg[role=img] .bar")) for name in plots[3:]}
    assert bars == {"by-difficulty": 2, "by-repo": 4, "failures": 2, "rejections": 2}
    assert "samples per instance (log 2)" in shown.texts("#plot-best-at-n .label")
    shown.click("#plot-best-at-n summary")
    shown.until("document.querySelector('#plot-best-at-n table')")
    assert shown.texts("#plot-best-at-n tbody tr:last-child > *")[:4] == [
        "10", "40.00 % (20.0 % to 80.0 %)", "40.00 % (20.0 % to 80.0 %)", "\u2013",
    ]  # fmt: skip


@pytest.mark.slow
def test_at_the_width_of_a_phone_both_runs_are_in_sight_and_each_cell_names_its_run(shown: Page) -> None:
    shown.call("Emulation.setDeviceMetricsOverride", width=390, height=900, deviceScaleFactor=1, mobile=False)
    try:
        ends = shown.value("[...document.querySelectorAll('.runs td')].map(e => e.getBoundingClientRect().right)")
        assert isinstance(ends, list)
        assert len(ends) == 2 * 13
        assert max(ends) <= 390
        name = "getComputedStyle(document.querySelector('.runs td:last-child'), '::before').content"
        assert shown.value(name) in {'"B"', "attr(data-run)"}
        assert shown.value("document.documentElement.scrollWidth <= innerWidth")
    finally:
        shown.call("Emulation.clearDeviceMetricsOverride")


@pytest.mark.slow
def test_runs_are_compared_by_the_instances_that_both_have(shown: Page) -> None:
    assert shown.texts(".pairs tbody tr > *") == ["A and B", "3", "0", "1", "1", "1", "p = 1.000"]
    assert shown.texts(".instances tr.differs b") == ["only A", "only B"]


@pytest.mark.slow
def test_a_mark_tells_its_value_under_the_mouse(shown: Page) -> None:
    shown.value("document.querySelector('#plot-by-repo').scrollIntoView({behavior: 'instant'})")
    shown.until("new Promise(done => setTimeout(() => done(true), 100))")  # scrolling hides what was told
    shown.hover("#plot-by-repo .touch")
    shown.hover("#plot-by-repo .touch")
    shown.until("!document.querySelector('#tooltip').hidden")
    assert shown.texts("#tooltip")[0].startswith("A first\ndjango: 1 of 2 resolved, 50.0 %\n95 %: ")


@pytest.mark.slow
def test_the_table_is_sorted_and_filtered_and_the_address_remembers_it(shown: Page) -> None:
    assert table(shown) == ["django__django-9", "django__django-10", "sphinx__sphinx-1"]
    shown.click("[data-sort=confidence-0]")
    assert table(shown)[-1] == "django__django-10"
    shown.click("[data-sort=confidence-0]")
    assert table(shown)[0] == "django__django-10"
    assert shown.texts("th[aria-sort=ascending]") == ["A confidence"]
    shown.click("#filter-text")
    shown.write("DJANGO")
    assert table(shown) == ["django__django-10", "django__django-9"]
    assert shown.texts("#counted") == ["2 of 3 instances"]
    shown.value("document.querySelector('#filter-resolved').value = 'only-1'")
    shown.value("document.querySelector('#filter-resolved').dispatchEvent(new Event('change'))")
    assert table(shown) == ["django__django-10"]
    assert shown.value("location.hash") == "#sort=confidence-0&text=DJANGO&resolved=only-1"


@pytest.mark.slow
def test_a_click_leads_to_an_instance_in_depth_and_back(shown: Page) -> None:
    shown.click("#instances-table a")
    shown.until("document.querySelector('#depth-of-1 .matrix')")
    assert shown.texts("#instance h1") == ["django__django-9"]
    assert shown.texts(".issue") == ["It fails: text"]
    assert "Chosen with a confidence of 43 %: has most votes text." in shown.texts("#depth-of-0 p")
    assert shown.texts("#depth-of-0 .missed") == ["In no list: missedtext"]
    lost = "Regression tests: 5 found, none run. None tells what a patch breaks: none passes twice"
    assert shown.texts("#depth-of-0 p.message") == [f"{lost} text."]
    assert shown.texts("#depth-of-0 .matrix tbody tr:nth-child(2) .cell") == ["E", "P", "T"]
    assert "1 regression test passes with every patch shown and is left out." in shown.texts("#depth-of-0 .note")
    assert shown.texts("#depth-of-0 .diff .removed td") == ["4", "", "-old text"]
    assert shown.texts("#depth-of-0 .chosen-diff option:checked") == ["P1 (chosen), 5 votes"]
    shown.click("#depth-of-0 .matrix thead th:last-child button")
    assert shown.texts("#depth-of-0 .chosen-diff option:checked") == ["P2, 3 votes"]
    shown.click("#back")
    shown.until("!document.querySelector('#overview').hidden")
    assert len(table(shown)) == 3


@pytest.mark.slow
def test_a_test_that_was_not_run_is_no_result_and_files_alone_have_no_rate(browser: Page, tmp_path: Path) -> None:
    instance = depth("django__django-9")
    instance["patches"][1]["verdicts"] = ["fail", "pass"]  # the regression test is the third
    document = evaluation("a", [row("django__django-9", None)])
    document["results"]["per_instance"][0]["regressions"] = {"found": 2, "run": 0, "lost": 2, "why": "none passes"}
    document["run"]["settings"]["until"] = "localize"
    path = tmp_path / "report.html"
    path.write_text(render_page([document], [[instance]]), encoding="ascii")
    browser.complaints.clear()
    browser.open(path)
    assert browser.texts("#instances-table td .failed") == ["none run"]
    assert not {"resolved", "valid samples"} & set(browser.texts(".facts dt"))
    assert browser.texts("figure") == []
    browser.open(path, "#instance=django__django-9")
    browser.until("document.querySelector('.matrix')")
    assert browser.texts(".patches tbody tr:nth-child(2) td.number")[-1] == "not run"
    assert browser.complaints == []


@pytest.mark.slow
def test_rounds_have_a_plot_of_their_own_and_their_curves_the_ends_of_rounds(browser: Page, tmp_path: Path) -> None:
    documents = [evolution("evolved", ROWS), evaluation("plain", OTHERS)]
    instances = [[make(one["id"], HOSTILE) for one in ROWS] for make in (evolved_depth, depth)]
    path = tmp_path / "report.html"
    path.write_text(render_page(documents, instances), encoding="ascii")
    browser.complaints.clear()
    browser.open(path)
    assert len(browser.texts("#plot-best-at-n svg[role=img] .mark")) == 2 + 2 + 2 + 3 + 4 + 4 + 3
    assert len(browser.texts("#plot-rounds svg[role=img] .mark")) == 5 * 2
    assert "round" in browser.texts("#plot-rounds .label")
    assert "10 of 30; 3 of 3 instances ended early" in browser.texts("#runs small")
    browser.click("#plot-rounds summary")
    browser.until("document.querySelector('#plot-rounds table')")
    row = ["A evolved", "1", "5", "4.50", "3", "1.50", "0.750", "0.375"]
    assert browser.texts("#plot-rounds tbody tr:last-child > *") == row
    browser.open(path, "#instance=django__django-9")
    browser.until("document.querySelector('#depth-of-1 .matrix')")
    assert browser.texts("#depth-of-0 .patches thead th")[4:6] == ["round", "score"]
    assert browser.texts("#depth-of-0 .patches tbody tr:nth-child(2) td")[3:5] == ["1", "\u2013"]
    assert "round" not in browser.texts("#depth-of-1 .patches thead th")
    assert "Rounds" in browser.texts("#depth-of-0 h3")
    assert browser.complaints == []


@pytest.mark.slow
def test_a_link_leads_to_an_instance_and_filters_lead_through(browser: Page, tmp_path: Path) -> None:
    documents = [evaluation("only", ROWS)]
    opened(browser, tmp_path, documents, "#text=django&sort=id&order=desc&instance=django__django-10")
    browser.until("document.querySelector('nav')")
    assert browser.texts("nav a") == ["← all instances", "next"]
    browser.click("nav a:last-child")
    browser.until("document.querySelector('#instance h1')?.textContent === 'django__django-9'")
    opened(browser, tmp_path, documents, "#instance=none-such")
    assert browser.texts("#instance .message") == ["There is no instance none-such in this report."]
    assert browser.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("fragment", ["", "#instance="])
def test_hostile_text_stays_text(browser: Page, tmp_path: Path, fragment: str) -> None:
    rows = [
        row(HOSTILE, False, repo=HOSTILE, difficulty=HOSTILE),
        row("__proto__", None, state=HOSTILE, stage=HOSTILE, failure=HOSTILE),
    ]
    document = evaluation(HOSTILE, rows)
    document["run"].update(dataset=HOSTILE, model=HOSTILE, settings={HOSTILE: HOSTILE, "__proto__": {"x": HOSTILE}})
    document["results"]["failures"] = [{"stage": HOSTILE, "state": HOSTILE, "count": 1}]
    opened(browser, tmp_path, [document, document], f"{fragment}__proto__" if fragment else "", HOSTILE)
    browser.until("document.querySelector('#instance .matrix, #overview:not([hidden]) table')")
    shown = str(browser.value("document.body.innerText"))
    assert "<img src=x onerror" in shown
    assert "\\u{202e}evil\\u{d800}\\u{1b}[31m" in shown
    assert not set(shown) & {"\u202e", "\x1b", "\ud800"}
    assert browser.value("[window.owned ?? null, document.querySelectorAll('img').length]") == [None, 0]
    assert browser.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_run_shows_it_as_an_instance_with_prompts_and_answers(
    browser: Page, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_run(run_of(tmp_path, HOSTILE)), encoding="ascii")
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(path)
    browser.until("document.querySelector('#depth-of-0 .matrix')")
    for shown_then in (".card details", ".card details .issue"):  # what is in one is made when it is opened
        browser.value("document.querySelectorAll('.card, .card details').forEach(one => { one.open = true; })")
        browser.until(f"document.querySelector('{shown_then}')")
    assert browser.value("document.title") == "amini: run 1"
    assert browser.texts(".patches thead th")[:3] == ["patch", "votes", ""]
    assert browser.texts(".patches tbody th") == ["P1 chosen", "P2", "P3"]
    assert browser.texts(".matrix .dot, .gold, .missed, nav") == []
    assert [text.split(":")[0] for text in browser.texts(".part > .card > summary")] == ["repair", "reproduce"]
    assert "P1" in " ".join(browser.texts(".card details > summary"))
    browser.click(".patches tbody tr:nth-child(2) button")
    assert browser.texts(".chosen-diff option:checked") == ["P2, 2 votes"]
    shown = str(browser.value("document.body.innerText"))
    assert "<img src=x onerror" in shown
    assert not set(shown) & {"\u202e", "\x1b", "\ud800"}
    assert browser.value("[window.owned ?? null, document.querySelectorAll('img').length]") == [None, 0]
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    light = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")
    assert browser.complaints == []
    assert {url for url in browser.requests if url != "about:blank"} == {path.as_uri()}
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", features=[])


@pytest.mark.slow
def test_what_is_not_known_yet_is_drawn_as_such(browser: Page, tmp_path: Path) -> None:
    opened(browser, tmp_path, [unknown("new")])
    assert len(browser.texts("figure.empty")) == 7
    assert browser.texts("#instances-table .badge") == ["not attempted"]
    opened(browser, tmp_path, [unknown("new"), evaluation("done", ROWS)])
    assert len(browser.texts("figure:not(.empty)")) == 7
    assert browser.complaints == []
