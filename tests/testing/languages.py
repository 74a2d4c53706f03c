"""A small project for each runner of another language: what passes, what fails, and patches that cheat.

`total` of a cart leaves out what costs nothing, `CHEATS` are modules that make its tests pass without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentless_mini.domain import Outcome, Runner

PASS, FAIL, ERROR, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.SKIP


@dataclass(frozen=True)
class Project:
    """The files of a project; `outcomes` are those of its tests, `source` and `test` the files that are looked at."""

    runner: Runner
    needs: tuple[str, ...]
    files: Mapping[str, str]
    source: str
    test: str
    outcomes: Mapping[str, Outcome]
    fixed: str
    cheats: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)  # what `source` becomes, or some files


_CART_JS = "exports.total = (prices) => prices.slice(1).reduce((a, b) => a + b, 0);\n"
_FIXED_JS = _CART_JS.replace(".slice(1)", "")
NODE = Project(
    Runner.NODE,
    ("node",),
    {
        "package.json": '{"name": "shop", "scripts": {"test": "node --test"}}',
        "cart.js": _CART_JS,
        "cart.test.js": """\
const { test, describe, it } = require('node:test');
const assert = require('node:assert');
const { total } = require('./cart');
test('adds prices', () => assert.strictEqual(total([1, 2]), 3));
describe('an empty cart', () => {
  it('costs # nothing', () => assert.strictEqual(total([]), 0));
  it.skip('is left', () => {});
});
""",
    },
    "cart.js",
    "cart.test.js",
    {
        "adds prices": FAIL,
        "an empty cart": PASS,
        "an empty cart::costs # nothing": PASS,
        "an empty cart::is left": SKIP,
    },
    _FIXED_JS,
    {
        "leaves while it is imported": "process.exit(0);\n",
        "leaves in the test": "exports.total = () => process.exit(0);\n",
        "leaves well, whatever happened": f"{_CART_JS}process.on('exit', () => process.exit(0));\n",
        "checks nothing": f"{_CART_JS}const a = require('node:assert');\na.strictEqual = a.ok = () => {{}};\n",
        "runs nothing": f"{_CART_JS}const t = require('node:test');\nt.test = t.it = t.describe = () => {{}};\n",
        "prints results": (
            "console.log('TAP version 13\\nok 1 - adds prices\\nok 2 - an empty cart\\n1..2');\nprocess.exit(0);\n"
        ),
        "prints results and goes on": f"{_CART_JS}require('fs').writeSync(1, 'ok 1 - adds prices\\n');\n",
        "replaces the module of checks": (
            f"{_CART_JS}const none = new Proxy(() => {{}}, {{ get: () => none }});\n"
            "require('module')._load = () => none;\nrequire('node:assert').strictEqual = none;\n"
            "require.cache['node:assert'] = { exports: none };\n"
        ),
        "lets another process print later": (
            f"{_CART_JS}require('child_process').spawn('sh', ['-c', 'sleep 0.3; echo ok 1 - adds prices; echo 1..1'],"
            " { detached: true, stdio: 'inherit' }).unref();\nprocess.reallyExit(0);\n"
        ),
    },
)
_CART_GO = """\
package shop

func Total(prices []int) int {
	sum := 0
	for _, price := range prices[1:] {
		sum += price
	}
	return sum
}
"""
_BEGIN = 'package shop\n\nimport (\n\t"fmt"\n\t"os"\n)\n\n'
_ZERO = "func Total(p []int) int { return 0 }\n"
_WORDS = "\\n".join(("=== RUN   TestTotal", "--- PASS: TestTotal (0.00s)", "PASS", ""))
_LINES = "".join(
    f'\tfmt.Println(`{{"Action":"{action}","Package":"shop"{name}}}`)\n'
    for action, name in (("run", ',"Test":"TestTotal"'), ("pass", ',"Test":"TestTotal"'), ("pass", ""))
)
_EXEC, _TESTING = '\t"os/exec"\n)', '\t"testing"\n)'
_PASSED = '{"Action":"pass","Package":"shop","Test":"TestTotal"}'
GO = Project(
    Runner.GO,
    ("go",),
    {
        "go.mod": "module shop\n\ngo 1.18\n",
        "cart.go": _CART_GO,
        "cart_test.go": """\
package shop

import "testing"

func TestTotal(t *testing.T) {
	if got := Total([]int{1, 2}); got != 3 {
		t.Fatalf("got %d, want 3", got)
	}
}

func TestParts(t *testing.T) {
	t.Run("one", func(t *testing.T) {})
	t.Run("later", func(t *testing.T) { t.Skip() })
}
""",
    },
    "cart.go",
    "cart_test.go",
    {"TestTotal": FAIL, "TestParts": PASS, "TestParts::one": PASS, "TestParts::later": SKIP},
    _CART_GO.replace("prices[1:]", "prices"),
    {
        "leaves while it is loaded": f"{_BEGIN}func init() {{\n{_LINES}\tos.Exit(0)\n}}\n\n{_ZERO}",
        "leaves in the test": f"{_BEGIN}func Total(p []int) int {{\n{_LINES}\tos.Exit(0)\n\treturn 0\n}}\n",
        "prints the words of a pass and leaves": (
            f'{_BEGIN}func init() {{\n\tfmt.Print("{_WORDS}")\n\tos.Exit(0)\n}}\n\n{_ZERO}'
        ),
        "prints results": f"{_BEGIN}func Total(p []int) int {{\n{_LINES}\tos.Getpid()\n\treturn 0\n}}\n",
        "has a main of its own for tests": {
            "main_test.go": f"{_BEGIN.replace(')', _TESTING)}func TestMain(m *testing.M) {{\n{_LINES}\tos.Exit(0)\n}}\n"
        },
        "lets another process print later": (
            f"{_BEGIN.replace(')', _EXEC)}func init() {{\n"
            f"\tlate := exec.Command(`sh`, `-c`, `sleep 0.3; echo '{_PASSED}'`)\n"
            "\tlate.Stdout = os.Stdout\n\tlate.Start()\n\tfmt.Print()\n\tos.Exit(0)\n}\n\n" + _ZERO
        ),
    },
)
RSPEC = Project(
    Runner.RSPEC,
    ("rspec",),
    {
        "Gemfile": "",
        "lib/cart.rb": "def total(prices) = prices.drop(1).sum\n",
        "spec/cart_spec.rb": """\
require_relative '../lib/cart'
RSpec.describe 'Cart' do
  it('adds') { expect(total([1, 2])).to eq 3 }
  it('is empty') { expect(total([])).to eq 0 }
  xit('waits') { }
end
""",
    },
    "lib/cart.rb",
    "spec/cart_spec.rb",
    {"Cart::adds": FAIL, "Cart::is empty": PASS, "Cart::waits": SKIP},
    "def total(prices) = prices.sum\n",
    {"leaves while it is loaded": "exit!(0)\n", "leaves in the test": "def total(prices) = exit!(0)\n"},
)
PHPUNIT = Project(
    Runner.PHPUNIT,
    ("phpunit",),
    {
        "composer.json": "{}",
        "src/cart.php": "<?php\nfunction total($prices) { return array_sum(array_slice($prices, 1)); }\n",
        "tests/CartTest.php": """\
<?php
require_once __DIR__ . '/../src/cart.php';
final class CartTest extends PHPUnit\\Framework\\TestCase {
    public function testAdds(): void { $this->assertSame(3, total([1, 2])); }
    public function testIsEmpty(): void { $this->assertSame(0, total([])); }
}
""",
    },
    "src/cart.php",
    "tests/CartTest.php",
    {"testAdds": FAIL, "testIsEmpty": PASS},
    "<?php\nfunction total($prices) { return array_sum($prices); }\n",
    {"leaves while it is loaded": "<?php exit(0);\n"},
)
_CART_C = """\
#include "cart.h"
int total(const int *p, int n) {
    int sum = 0;
    for (int i = 1; i < n; i++) sum += p[i];
    return sum;
}
"""
_MAIN = '#include "cart.h"\nint main(void) {{ int p[] = {{1, 2}}; return total(p, {}) != {}; }}\n'
CTEST = Project(
    Runner.CTEST,
    ("cmake", "cc"),
    {
        "CMakeLists.txt": "cmake_minimum_required(VERSION 3.13)\nproject(shop C)\nenable_testing()\n"
        "foreach(name adds empty)\n  add_executable(test_${name} tests/test_${name}.c cart.c)\n"
        "  target_include_directories(test_${name} PRIVATE .)\n"
        "  add_test(NAME ${name} COMMAND test_${name})\nendforeach()\n",
        "cart.h": "int total(const int *prices, int count);\n",
        "cart.c": _CART_C,
        "tests/test_adds.c": _MAIN.format(2, 3),
        "tests/test_empty.c": _MAIN.format(0, 0),
    },
    "cart.c",
    "tests/test_adds.c",
    {"adds": FAIL},
    _CART_C.replace("i = 1", "i = 0"),
)
CARGO = Project(
    Runner.CARGO,
    ("cargo",),
    {
        "Cargo.toml": '[package]\nname = "shop"\nversion = "0.1.0"\nedition = "2021"\n',
        "src/lib.rs": "pub fn total(prices: &[u32]) -> u32 {\n    prices.iter().skip(1).sum()\n}\n",
        "tests/cart.rs": """\
mod inner {
    #[test]
    fn adds() { assert_eq!(shop::total(&[1, 2]), 3); }
}
#[test]
fn is_empty() { assert_eq!(shop::total(&[]), 0); }
#[test]
#[ignore]
fn waits() {}
""",
    },
    "src/lib.rs",
    "tests/cart.rs",
    {"inner::adds": FAIL, "is_empty": PASS, "waits": SKIP},
    "pub fn total(prices: &[u32]) -> u32 {\n    prices.iter().sum()\n}\n",
    {"leaves in the test": "pub fn total(_: &[u32]) -> u32 {\n    std::process::exit(0)\n}\n"},
)
PROJECTS = {project.runner: project for project in (NODE, GO, RSPEC, PHPUNIT, CTEST, CARGO)}
