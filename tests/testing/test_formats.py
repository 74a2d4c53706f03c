"""What runners report, as they write it and as a patch would like it."""

import json
import tracemalloc

import pytest

from agentless_mini.domain import Fault, Outcome
from agentless_mini.testing.formats import READERS, Reported, placed, read_junit, read_tap

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
        ("go", {"out": '{"Action":[]}\n'}),
        ("tap", {"out": f"1..{'9' * 5000}\n"}),
        ("cargo", {"out": f"test result: ok. {'9' * 5000} passed; 0 failed; 0 ignored\n"}),
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


def many(unit: str) -> str:
    return unit * (100_000 // len(unit))


def test_what_is_made_to_be_read_for_hours_is_read_at_once() -> None:
    end = "\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n"
    assert found("cargo", out="test " + many("a ... ") + end) is None
    assert found("cargo", out=many("---- a\n") + end) is None
    for panic in ("panicked at '", "panicked at a"):
        (result,) = found("cargo", out=f"test a ... FAILED\n---- a stdout ----\n{many(panic)}{end}") or [
            Reported((), PASS)
        ]
        assert result.outcome is FAIL
    assert found("tap", out=many("ok\n  ---\n")) is None
    deep = (" " * 396 + "ok\n") * 100 + "".join(f"{' ' * level}ok - {'x' * 2000}\n" for level in range(392, -1, -4))
    (*_, last) = placed(found("tap", out=f"{deep}1..1\n") or (), ("a.lua",), {}, "")
    assert len(last[0]) < 5000
    for stack in ("/", "'/", "a.", "(/a"):
        test = {"title": "a", "status": "failed", "failureMessages": [f"Error\n    at {many(stack)}"]}
        (result,) = found("jest", report0=json.dumps({"testResults": [{"assertionResults": [test]}]})) or [
            Reported((), PASS)
        ]
        assert result.fault == Fault("Error", "", "", 0)


def test_a_number_beyond_all_measure_is_none() -> None:
    report = {"testResults": [{"assertionResults": [{"title": "a", "status": "passed", "duration": 10**400}]}]}
    assert found("jest", report0=json.dumps(report)) == [Reported(("a",), PASS)]


def test_what_a_failure_prints_is_no_test() -> None:
    said = "not ok 1 - a\n  ---\n  error: |-\n    ok 7 - b\n    1..9\n  ...\nok 2 - c\n1..2\n"
    assert found("tap", out=said) == [
        Reported(("a",), FAIL, 0.0, Fault("", "ok 7 - b\n1..9")),
        Reported(("c",), PASS),
    ]


def test_what_is_of_another_file_is_of_none_of_these() -> None:
    results = [Reported(("a",), FAIL, file="/repo/src/data.test.js"), Reported(("b",), PASS, file="src/a.test.js")]
    assert [name for name, _ in placed(results, ("src/a.test.js",), {}, "/repo")] == ["src/a.test.js::b"]


NODE_XML = """<?xml version="1.0" encoding="utf-8"?>
<testsuites>
	<testcase name="adds" time="0.5" classname="test" failure="no">
		<failure type="testCodeFailure" message="no">Error\n    at x (/repo/cart.js:7:2)</failure>
	</testcase>
	<testcase name="later" time="0" classname="test" failure="x">
		<skipped type="todo" message="later"/>
		<failure type="testCodeFailure" message="x"/>
	</testcase>
	<testsuite name="a cart" time="0.001" disabled="0" errors="0" tests="2" failures="0" skipped="1" hostname="vm">
		<testcase name="costs" time="0" classname="test"/>
		<testsuite name="inner" disabled="0"><testcase name="deep" classname="test"><skipped/></testcase></testsuite>
	</testsuite>
	<testcase name="last" classname="test"/>
	<!-- tests 5 -->
</testsuites>"""
FAILED = Fault("Broke", "no", "", 0)
WRITERS = {
    "node": (NODE_XML, {
        "adds": FAIL, "later": SKIP, "a cart::costs": PASS, "a cart::inner::deep": SKIP, "last": PASS}),
    "pytest": (
        '<testsuites name="pytest tests"><testsuite name="pytest" tests="3"><testcase classname="src.cart.TestAll" '
        'name="test_a[1]" time="0.1"/><testcase classname="src.cart" name="test_b"><failure message="no">x</failure>'
        '</testcase><testcase classname="src.cart" name="test_c"><skipped type="pytest.xfail" message=""/><error '
        'message="failed on teardown">x</error></testcase></testsuite></testsuites>',
        {"TestAll::test_a[1]": PASS, "test_b": FAIL, "test_c": ERROR}),
    "jest-junit": (
        '<testsuites name="jest tests"><testsuite name="cart" tests="1"><testcase classname="cart adds" '
        'name="cart adds" time="0.004"><failure>Error: no\n    at Object.x (/repo/src/cart.test.js:3:1)</failure>'
        "</testcase></testsuite></testsuites>",
        {"cart adds": FAIL}),
    "gotestsum": (
        '<testsuites tests="2"><testsuite name="shop" time="0.1"><properties><property name="go.version" value="x"/>'
        '</properties><testcase classname="shop" name="TestTotal/one" time="0"><failure message="Failed" type="">'
        '    cart_test.go:7: got 2\n</failure></testcase><testcase classname="shop" name="TestParts"><skipped '
        'message="later"></skipped></testcase></testsuite></testsuites>',
        {"shop::TestTotal/one": FAIL, "shop::TestParts": SKIP}),
    "surefire": (
        '<testsuite xmlns:xsi="http://x" name="shop.Cart" tests="2"><properties/><testcase name="adds" '
        'classname="shop.Cart"><error type="java.lang.Error" message="no"><![CDATA[x]]></error><system-out/></testcase>'
        '<testcase name="flaky" classname="shop.Cart"><flakyFailure message="once"/></testcase></testsuite>',
        {"shop.Cart::adds": ERROR, "shop.Cart::flaky": PASS}),
    "ctest": (
        '<testsuite name="(empty)" tests="3"><testcase name="adds" classname="adds" time="0" status="fail"><failure '
        'message=""/><system-out>x</system-out></testcase><testcase name="off" classname="off" status="disabled"/>'
        '<testcase name="gone" classname="gone" status="notrun"><skipped message="SKIP_RETURN_CODE"/></testcase>'
        "</testsuite>",
        {"adds": FAIL, "off": SKIP, "gone": SKIP}),
    "phpunit": (
        '<testsuites><testsuite name="" tests="2"><testsuite name="Cart" file="/repo/src/cart.x"><testcase '
        'name="testAdds" file="/repo/src/cart.x" line="4" class="Cart" classname="Cart" assertions="1"/><testsuite '
        'name="Cart::testAll"><testcase name="testAll with data set #0" class="Cart" classname="Cart"><failure '
        'type="E">no</failure></testcase></testsuite></testsuite></testsuite></testsuites>',
        {"Cart::testAdds": PASS, "Cart::testAll with data set #0": FAIL}),
    "rspec_junit_formatter": (
        '<testsuite name="rspec" tests="1"><properties/><testcase classname="src.cart" name="Cart adds" '
        'file="./src/cart.x" time="0.1"><failure message="no" type="RSpec">x</failure></testcase></testsuite>',
        {"Cart adds": FAIL}),
    "mocha": (
        '<testsuite name="Mocha Tests" tests="1"><testcase classname="cart" name="adds" time="0"/></testsuite>',
        {"cart::adds": PASS}),
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_what_writers_of_junit_make_is_read(writer: str) -> None:
    text, expected = WRITERS[writer]
    file = {"pytest": "src/cart.py", "rspec_junit_formatter": "src/cart.rb"}.get(writer, "src/cart.x")
    results = placed(found("junit", report1=text) or (), (file,), {}, "/repo")
    assert {name.partition("::")[2]: one.outcome for name, one in results} == expected


TAPE = """TAP version 13
# adds
ok 1 should be equal
not ok 2 should be equal
  ---
    operator: equal
    expected: 3
    actual:   1
    at: Test.<anonymous> (/repo/cart.js:5:5)
    stack: |-
      Error: should be equal
          at Test.assert (/repo/node_modules/tape/lib/test.js:1:1)
  ...
# pays
ok 3 should be equal

1..3
# tests 3
# pass  2
# fail  1
"""
TAP_14 = """TAP version 14
# Subtest: a.lua
    # Subtest: adds
        ok 1 - should be equal
        1..1
    ok 1 - adds # time=1.2ms
    not ok 2 - pays # time=3ms {
        not ok 1 - it does
          ---
          at:
            fileName: a.lua
          message: no money
          ...
        1..1
    }

    1..2
    # failed 1 of 2 tests
not ok 1 - a.lua # time=200.1ms
  ---
  exitCode: 1
  ...

1..1
# time=250ms
"""
PROVE = """t/a.t ..
1..6
ok 1 - adds
not ok 2 - pays \\# all
ok 3 # skip no bank
not ok 4 - waits # TODO later
#   Failed (TODO) test 'waits'
# Subtest: a cart
    1..2
    ok 1 - empty
    # Subtest: left
        1..0 # SKIP no
    ok 2 # skip no
ok 5 - a cart
ok 6
ok
All tests successful.
Result: PASS
"""
BATS = "1..3\nok 1 adds\nnot ok 2 pays\n# (in test file a.bats, line 5)\n#   `false' failed\nok 3 waits # skip later\n"
TAPS = {
    "tape": (TAPE, {"adds::should be equal": FAIL, "pays::should be equal": PASS}),
    "node-tap": (TAP_14, {
        "": ERROR, "adds": PASS, "adds::should be equal": PASS, "pays": FAIL, "pays::it does": FAIL}),
    "prove": (PROVE, {
        "adds": PASS, "pays # all": FAIL, "3": SKIP, "waits": SKIP, "a cart": PASS, "a cart::empty": PASS,
        "a cart::2": SKIP, "6": PASS}),
    "bats": (BATS, {"adds": PASS, "pays": FAIL, "waits": SKIP}),
    "a skipped file": ("TAP version 13\n1..0 # SKIP no database\n", {"": SKIP}),
}  # fmt: skip


@pytest.mark.parametrize("writer", TAPS)
def test_what_writers_of_tap_print_is_read(writer: str) -> None:
    text, expected = TAPS[writer]
    outcomes: dict[str, Outcome] = {}
    for name, one in placed(found("tap", out=text) or (), ("a.lua",), {}, ""):
        key = name.partition("::")[2]
        outcomes[key] = one.outcome if outcomes.get(key) is not FAIL else FAIL
    assert outcomes == expected


def test_a_fault_of_tape_is_where_it_says() -> None:
    (fault,) = [one.fault for one in found("tap", out=TAPE) or () if one.fault]
    assert fault == Fault("", "", "/repo/cart.js", 5)


# --- what a hostile report costs ------------------------------------------------------------------------------------


def test_a_report_of_nested_suites_and_many_tests_takes_no_more_room_than_it_is_long() -> None:
    text = "<testsuites>" + "".join(f"<testsuite name='{'x' * 900}'>" for _ in range(90))
    text += "<testcase classname='test' name='a'/>" * 2000 + "</testsuite>" * 90 + "</testsuites>"
    tracemalloc.start()
    assert len(read_junit({"report0": text.encode()}) or ()) == 2000
    assert tracemalloc.get_traced_memory()[1] < 20 * len(text)
    tracemalloc.stop()


def test_words_outside_of_tests_are_of_none() -> None:
    text = "<testsuites><testcase name='a'><failure>x</failure></testcase><failure>y</failure>z</testsuites>"
    (one,) = read_junit({"report0": text.encode()}) or []
    assert one.fault is not None
    assert one.fault.message == "x"


def test_a_name_may_end_in_a_brace() -> None:
    said = "# Subtest: parses {\nok 1 - parses {\n  ---\n  duration_ms: 1.5\n  ...\nok 2 - next\n1..2\n"
    assert [one.way for one in read_tap({"out": said.encode()}) or ()] == [("parses {",), ("next",)]


def test_a_test_without_a_name_that_fails_after_the_plan_is_no_word_of_proves() -> None:
    assert read_tap({"out": b"1..1\nok\nnot ok\n"}) is None


def test_names_of_suites_that_are_called_as_the_file_is_stay_in_javascript() -> None:
    found = [Reported(("test", "adds"), Outcome.PASS), Reported(("adds",), Outcome.FAIL)]
    assert [name for name, _ in placed(found, ["test.js"], {}, "/r")] == ["test.js::test::adds", "test.js::adds"]


def test_pytests_own_suite_is_no_name() -> None:
    text = "<testsuites><testsuite name='pytest'><testcase classname='test' name='test_a'/></testsuite></testsuites>"
    (one,) = read_junit({"report0": text.encode()}) or []
    assert [name for name, _ in placed([one], ["test.py"], {}, "/r")] == ["test.py::test_a"]
