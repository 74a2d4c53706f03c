"""What runners report, as they write it and as a patch would like it."""

import json

import pytest

from agentless_mini.domain import Fault, Outcome
from agentless_mini.testing.formats import READERS, Reported, placed

PASS, FAIL, ERROR, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.SKIP
STACK = "AssertionError [ERR_ASSERTION]: no\n    at total (/repo/node_modules/a.js:1:1)\n    at /repo/cart.js:7:2"
JEST = {
    "testResults": [
        {
            "name": "/repo/a.test.js",
            "status": "failed",
            "assertionResults": [
                {"ancestorTitles": ["cart"], "title": "adds", "status": "passed", "duration": 5},
                {"ancestorTitles": [], "title": "pays", "status": "failed", "failureMessages": [STACK]},
                {"ancestorTitles": [], "title": "waits", "status": "pending"},
            ],
        },
        {"name": "/repo/b.test.js", "status": "failed", "assertionResults": [], "message": "SyntaxError: odd"},
    ]
}
FAULT = Fault("AssertionError", "no", "/repo/cart.js", 7)


def found(name: str, **parts: str) -> list[Reported] | None:
    return READERS[name]({part: text.encode() for part, text in parts.items()})


def test_the_formats_of_scripts_are_read() -> None:
    assert found("jest", report0=json.dumps(JEST)) == [
        Reported(("cart", "adds"), PASS, 0.005, None, "/repo/a.test.js"),
        Reported(("pays",), FAIL, 0.0, FAULT, "/repo/a.test.js"),
        Reported(("waits",), SKIP, 0.0, None, "/repo/a.test.js"),
        Reported((), ERROR, 0.0, Fault("SyntaxError", "odd"), "/repo/b.test.js"),
    ]


def test_rust_says_how_many_there_were() -> None:
    said = "test a::b ... ok\ntest c ... FAILED\ntest d ... ignored\n\n---- c stdout ----\n"
    said += "thread 'c' panicked at tests/cart.rs:3:5:\nassertion failed\n\nfailures:\n    c\n\n"
    end = "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured\n"
    fault = Fault("panic", "assertion failed", "tests/cart.rs", 3)
    assert found("cargo", out=said + end) == [
        Reported(("a", "b"), PASS),
        Reported(("c",), FAIL, 0.0, fault),
        Reported(("d",), SKIP),
    ]
    assert found("cargo", out=said) is None
    assert found("cargo", out=said.replace("test a::b ... ok", "") + end) is None


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>'


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("junit", {"report0": LAUGHS}),
        ("junit", {"report0": "<testsuite>" * 200 + "</testsuite>" * 200}),
        ("junit", {"report0": "<testsuite><testcase"}),
        ("junit", {"report0": "<html/>"}),
        ("junit", {"out": "<testsuite/>"}),
        ("jest", {"report0": "[" * 100_000}),
        ("jest", {"report0": '{"testResults": 1}'}),
        ("jest", {"out": json.dumps(JEST)}),
        ("rspec", {"report0": "{}"}),
        ("tap", {"out": "ok 1 - a\n"}),
        ("tap", {"out": "1..2\nok 1 - a\n"}),
        ("tap", {"out": "1..1\nBail out!\nok 1 - a\n"}),
        ("go", {"out": '{"Action":"pass","Package":"x","Test":"TestA"}\n'}),
        ("go", {"out": '{"Action":"fail","Package":"x"}\n', "err": "undefined: Total"}),
    ],
)
def test_what_is_not_whole_is_no_report(name: str, parts: dict[str, str]) -> None:
    assert found(name, **parts) is None


def test_a_result_is_of_the_file_that_it_names_or_whose_test_it_is() -> None:
    files = ("src/cart_test.go", "src/test/java/shop/CartTest.java", "a.test.js")

    def ids(*results: Reported, among: tuple[str, ...] = files) -> list[str]:
        return [name for name, _ in placed(results, among, {"TestTotal": "src/cart_test.go"}, "/repo")]

    assert ids(Reported(("adds",), PASS, file="/repo/a.test.js")) == ["a.test.js::adds"]
    assert ids(Reported(("shop.CartTest", "adds"), PASS, file="shop.CartTest")) == [f"{files[1]}::adds"]
    assert ids(Reported(("TestTotal", "one"), PASS)) == ["src/cart_test.go::TestTotal::one"]
    assert ids(Reported(("adds",), PASS)) == []
    assert ids(Reported(("adds",), PASS), among=("a.test.js",)) == ["a.test.js::adds"]
    assert ids(Reported(("/repo/a.test.js",), PASS), among=("a.test.js",)) == [], "it has no test"
    ((name, one),) = placed([Reported(("/repo/a.test.js",), FAIL)], ("a.test.js",), {}, "/repo")
    assert (name, one.outcome) == ("a.test.js", ERROR)
