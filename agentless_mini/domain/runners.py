"""The runners of languages other than Python, one row each: the one place where a runner is added.

A row says how a test file is told by its path, how chosen files are run and where the result comes from, how a new test
is named, and what else the runner reads. `testing.detected` finds the runner of a tree, `testing.inside.amini_report`
starts it in a box, `testing.formats` reads what it reports.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from agentless_mini.domain.testing import Runner


class Group(enum.Enum):
    """What one process of a runner is given."""

    FILE = "file"
    FOLDER = "folder"  # all files of a folder, which the language compiles together
    ALL = "all"


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """A runner.

    `suffixes` are those of the language's files, `tests` matches the paths of test files and `root` the name of the
    file that makes a folder a project. `command` starts the runner: a word `{files}` becomes the files as the project
    has them, `{report}` a path for its report, `{folder}` their folder, `{stems}` their names without a suffix, joined
    by commas. Without `{report}` what it prints is read, or the files of the project that match `left`. `format` names
    the reader. `holds` matches a file that holds a test; `new` is the name of a new one ("" where none is written),
    with the `{tail}` of the example's, put into `folder` where there is no example, and `fences` are the languages of
    its fence. `reads` matches what the runner reads beside the tests: there a patch is undone. `example` is a test as
    people name it. `canary` has texts that are added to each file, for files of modules ("esm"), others, or as a file
    of its own (a name): `{name}` and `{other}` are tests of which the second fails, of the sums `{first} + {second}`.
    `check` ends well where the language is there. Starting takes `startup` seconds at most, of which `free` count for
    no test. `env` are variables: "~" begins a folder of the box's own, "?" an option that is left out where node has
    none such.
    """

    suffixes: tuple[str, ...]
    tests: str
    root: str
    command: tuple[str, ...]
    format: str
    holds: str
    check: tuple[str, ...]
    group: Group = Group.FILE
    left: str = ""
    new: str = ""
    folder: str = ""
    fences: tuple[str, ...] = ()
    reads: str = ""
    example: str = "cart.test.js::cart::adds"
    canary: tuple[tuple[str, str], ...] = ()
    startup: float = 30.0
    free: float = 2.0
    env: tuple[tuple[str, str], ...] = ()


_NAMED = r"(?:[^/]*[._-](?:test|spec)s?|tests?)\.[cm]?[jt]sx?"
_CONFIGURES = r"(?:.*/)?node_modules/.*|(?:.*/)?(?:package\.json|\.npmrc|tsconfig[^/]*{})"
_STANDS_IN = r"|__mocks__/.*|setupTests?\.[^/]*"  # for modules of the tests; what a new application has for its set-up
# Without its handler for traps, WebAssembly maps no gigabytes, which boxes refuse.
_TRAPS = ("NODE_OPTIONS", "?--disable-wasm-trap-handler")
_SUM = "{first} + {second}"
_NODE = (
    "aminiTest('{name}', () => aminiAssert.strictEqual(" + _SUM + ", {right}));"
    " aminiTest('{other}', () => aminiAssert.strictEqual(" + _SUM + ", {wrong}));"
)
_GLOBAL = (
    ";(typeof it === 'function' ? it : test)('{name}', () => {{ if (" + _SUM + " !== {right}) throw new Error(); }});"
    " (typeof it === 'function' ? it : test)('{other}', () => {{ if (" + _SUM + " !== {wrong}) throw new Error(); }});"
)
_EXPECT = (
    "aminiTest('{name}', () => {{ aminiExpect(" + _SUM + ").toBe({right}); }});"
    " aminiTest('{other}', () => {{ aminiExpect(" + _SUM + ").toBe({wrong}); }});"
)
_script = partial(
    RunnerRow,
    (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"),
    rf"(?:.*/)?(?:{_NAMED}|(?:__tests__|tests?|spec)/(?:.*/)?[^/]+\.[cm]?[jt]sx?)",
    "package.json",
    holds=r"(?:^|[^\w.])(?:test|it)(?:\.\w+)*\s*[(`]",
    check=("node", "--version"),
    new="amini_{digest}{tail}",
    fences=("javascript", "js", "jsx", "mjs", "cjs", "typescript", "ts", "tsx"),
    env=(("NODE_ENV", "test"), _TRAPS),
)
_compiled = partial(RunnerRow, startup=300.0, free=60.0)
_jvm = partial(
    _compiled,
    tests=r"(?:.*/)?src/(?:test|it)/.*(?:Tests?|IT|TestCase|Spec|/Test\w*)\.(?:java|kt|groovy)",
    format="junit",
    holds=r"@(?:\w+\.)*(?:Test|ParameterizedTest)\b|extends TestCase",
    group=Group.ALL,
    new="Amini{digest}Test.java",
    folder="src/test/java",
    fences=("java",),
    example="src/test/java/CartTest.java::adds",
)

ROWS: Mapping[Runner, RunnerRow] = {
    Runner.NODE: _script(
        ("node", "--test", "--test-reporter=tap", "{files}"), "tap", reads=_CONFIGURES.format(""), env=(_TRAPS,),
        canary=(
            ("esm", "import {{ test as aminiTest }} from 'node:test'; import aminiAssert from 'node:assert'; " + _NODE),
            ("", "{{ const aminiTest = require('node:test'), aminiAssert = require('node:assert'); " + _NODE + " }}"),
        ),
    ),
    Runner.JEST: _script(
        ("jest", "--ci", "--json", "--outputFile={report}", "--runInBand", "--coverage=false", "--watchAll=false",
         "--reporters=default", "--passWithNoTests", "--runTestsByPath", "{files}"),
        "jest", group=Group.ALL, free=4.0,
        reads=_CONFIGURES.format(
            _STANDS_IN + r"|jest[^/]*\.(?:config|setup)[^/]*|jest\.[^/]*|\.babelrc[^/]*|babel\.config[^/]*|\.swcrc"
        ),
        canary=(("", "{{ const aminiTest = test, aminiExpect = expect; " + _EXPECT + " }}"),),
    ),
    Runner.VITEST: _script(
        ("vitest", "run", "--reporter=json", "--outputFile={report}", "--coverage.enabled=false", "--passWithNoTests",
         "{files}"),
        "jest", group=Group.ALL, free=4.0, reads=_CONFIGURES.format(_STANDS_IN + r"|vite(?:st)?\.[^/]*"),
        canary=(("", "import {{ test as aminiTest, expect as aminiExpect }} from 'vitest'; " + _EXPECT),),
    ),
    Runner.MOCHA: _script(
        ("mocha", "--reporter", "xunit", "--reporter-option", "output={report}", "--exit", "{files}"), "junit",
        reads=_CONFIGURES.format(r"|\.mocharc[^/]*|mocha\.opts|\.babelrc[^/]*|babel\.config[^/]*"),
        canary=(("", _GLOBAL),),
    ),
    Runner.GO: _compiled(
        (".go",), r"(?:.*/)?[^/]+_test\.go", "go.mod",
        ("go", "test", "-json", "-count=1", "-vet=off", "{folder}"), "go",
        r"(?m)^func (?:Test|Example)\w*\(", ("go", "version"), Group.FOLDER,
        new="amini_{digest}_test.go", fences=("go", "golang"), reads=r"(?:.*/)?(?:go\.work(?:\.sum)?|vendor/.*)",
        canary=(
            ("amini_{digest}_test.go",
             'package {package}\n\nimport "testing"\n\n'
             "func {name}(t *testing.T) {{\n\tif " + _SUM + " != {right} {{\n\t\tt.Fatal()\n\t}}\n}}\n\n"
             "func {other}(t *testing.T) {{\n\tif " + _SUM + " != {wrong} {{\n\t\tt.Fatal()\n\t}}\n}}\n"),
        ),
        env=(("GOCACHE", "~gocache"), ("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local"),
             ("GONOSUMDB", "*"), ("GOPATH", "~go")),
        example="cart_test.go::TestTotal::one",
    ),
    Runner.CARGO: _compiled(
        (".rs",), r"(?:.*/)?tests/[^/]+\.rs", "Cargo.toml",
        ("cargo", "test", "--offline", "--color", "never", "--test", "{stems}"), "cargo", r"#\[(?:\w+::)*test\b",
        ("cargo", "--version"),
        new="amini_{digest}.rs", folder="tests", fences=("rust", "rs"),
        reads=r"(?:.*/)?(?:Cargo\.toml|\.cargo/.*|build\.rs|rust-toolchain[^/]*)",
        canary=(
            ("", "#[test]\nfn {name}() {{\n    assert_eq!(" + _SUM + ", {right});\n}}\n\n"
             "#[test]\nfn {other}() {{\n    assert_eq!(" + _SUM + ", {wrong});\n}}\n"),
        ),
        env=(("CARGO_TERM_COLOR", "never"),),
        example="tests/cart.rs::totals::one",
    ),
    Runner.MAVEN: _jvm(
        (".java", ".kt"), root="pom.xml", check=("mvn", "--version"), left="target/surefire-reports/*.xml",
        command=("mvn", "-o", "-q", "-B", "test", "-Dtest={stems}", "-DfailIfNoTests=false",
                 "-Dsurefire.failIfNoSpecifiedTests=false"),
        reads=r"(?:.*/)?(?:pom\.xml|\.mvn/.*|junit-platform\.properties)",
    ),
    Runner.GRADLE: _jvm(
        (".java", ".kt", ".groovy"), root="build.gradle", check=("gradle", "--version"),
        left="build/test-results/test/*.xml", command=("gradle", "--offline", "--no-daemon", "--continue", "test"),
        reads=r"(?:.*/)?(?:(?:build|settings)\.gradle(?:\.kts)?|gradle\.properties|gradle/.*|buildSrc/.*)",
    ),
    Runner.RSPEC: RunnerRow(
        (".rb",), r"(?:.*/)?spec/(?:.*/)?[^/]+_spec\.rb", "Gemfile",
        ("rspec", "--format", "json", "--out", "{report}", "{files}"), "rspec",
        r"\b(?:it|specify|example)\b", ("ruby", "--version"),
        new="amini_{digest}_spec.rb", folder="spec", fences=("ruby", "rb"),
        reads=r"(?:.*/)?(?:\.rspec[^/]*|spec_helper\.rb|rails_helper\.rb|\.bundle/.*)",
        canary=(
            ("", "\nRSpec.describe('{name}') {{ it('holds') {{ expect(" + _SUM + ").to eq {right} }} }}\n"
             "RSpec.describe('{other}') {{ it('holds') {{ expect(" + _SUM + ").to eq {wrong} }} }}\n"),
        ),
        example="spec/cart_spec.rb::Cart::adds",
    ),
    Runner.PHPUNIT: RunnerRow(
        (".php",), r"(?:.*/)?[tT]ests?/(?:.*/)?[^/]+Test\.php", "composer.json",
        ("phpunit", "--log-junit", "{report}", "{files}"), "junit",
        r"function\s+test|@test\b|#\[Test", ("php", "--version"),
        new="Amini{digest}Test.php", folder="tests", fences=("php",), reads=r"(?:.*/)?(?:phpunit\.[^/]*|vendor/.*)",
        example="tests/CartTest.php::testAdds",
    ),
    Runner.CTEST: _compiled(
        (".c", ".cc", ".cpp", ".cxx", ".h", ".hpp"),
        r"(?:.*/)?(?:tests?/(?:.*/)?[^/]+|[^/]*test[^/]*)\.(?:c|cc|cpp|cxx)", "CMakeLists.txt",
        ("sh", "-c", 'cmake -S . -B "$0" >&2 && cmake --build "$0" >&2 && ctest --test-dir "$0" --output-junit "$1"',
         "{build}", "{report}"),
        "junit", r"\b(?:main|TEST\w*)\s*\(", ("cmake", "--version"), Group.ALL,
        reads=r"(?:.*/)?CTest[^/]*",
        example="tests/test_cart.c::adds",
    ),
}  # fmt: skip
TESTS = {runner: re.compile(row.tests) for runner, row in ROWS.items()}
