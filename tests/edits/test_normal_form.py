"""What a file says apart from its form: equal for comments and formatting alone, cheap for one version of many."""

import ast
import random
import re
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import FileChange, Patch, Reason, Rejected
from agentless_mini.edits import Forms, candidate_patch, make_patch
from agentless_mini.edits.forms import LANGUAGES, Parsed, Unread, language_of, parsed
from agentless_mini.edits.statements import Broken, CodePiece, Module, module_of
from tests.edits.edit_cases import change, edit, fenced, read

STDLIB = Path(sysconfig.get_path("stdlib"))


def normal(*changes: FileChange) -> str:
    return make_patch(changes, Forms()).normal


def of(after: bytes | None, path: str = "a.py", before: bytes | None = b"x = 1\n") -> str:
    return normal(change(path, before, after))


def undefined(before: bytes, after: bytes, path: str = "a.py") -> tuple[str, ...]:
    return make_patch([change(path, before, after)], Forms()).undefined


# --- Python ----------------------------------------------------------------------------------------------------------


def test_comments_blank_lines_and_formatting_do_not_count_in_python() -> None:
    assert of(b"x = [1,2]\n") == of(b"# why\n\nx = [\n    1,\n    2,\n]  # so\n") == of(b"x = [1,2]\r\n")
    assert len({of(b"x = 2\n"), of(b"x = 3\n"), of(b"x = 2\n", "b.py"), of(None), of(b"", before=None)}) == 5


def test_python_that_this_interpreter_cannot_parse_is_text() -> None:
    old = b"def f():\n  print 'x'\n"
    other = of(b"def f():\n  print 'y'\n", before=old)
    assert other == of(b"def f():\n\n  print 'y' \n", before=old)
    assert other != of(b"def f():\n  print 'y' # a\n", before=old)
    assert other != of(b"def f():\n  pass\nprint 'y'\n", before=old)  # indentation counts
    assert candidate_patch([change("a.py", old, b"\n" + old)], Forms()) == Rejected(
        Reason.NO_EFFECT, "only comments, blank lines or formatting change in a.py"
    )


def test_a_file_whose_meaning_stays_does_not_count() -> None:
    real, remark = change("a.py", b"x = 1\n", b"x = 2\n"), change("b.py", b"y = 1\n", b"y = 1  # one\n")
    assert normal(real, remark) == normal(real)
    assert normal(remark) != normal(real)


def test_forms_are_worked_out_once() -> None:
    forms = Forms()
    assert forms.of("a.py", b"x = 1\n", b"x = 2\n") is forms.of("b.py", b"x = 1\n", b"x = 2\n")
    assert forms.of("a.py", b"x = 1\n").digest != forms.of("a.txt", b"x = 1\n").digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'"""a"""\n', b'"""b"""\n'),  # a docstring is a value of the program
        (b"x = 0x" + b"f" * 9000 + b"\n", b"x = 0x" + b"f" * 8999 + b"e\n"),
        (b"x = '\\ud800'\n", b"x = '\\ud801'\n"),
    ],
)
def test_every_value_counts_in_python(one: bytes, other: bytes) -> None:
    assert of(one, "byte\udcff.py") != of(other, "byte\udcff.py")


def test_python_that_is_deep_is_compared_as_python() -> None:
    deep = [f"x = {'1+' * 1500}{last}\n".encode() for last in (1, 2)]
    assert [Forms().of("a.py", data).problem for data in deep] == ["", ""]
    assert of(deep[0]) == of(deep[0].replace(b"+", b" + ")) != of(deep[1])


# --- a version of a module -------------------------------------------------------------------------------------------

MODULES = [
    b"",
    b"# only a comment\n",
    b"x = 1",
    b"\xef\xbb\xbfx = 1\ny = 2\n\nz = 3\n",
    b"# coding: latin-1\nx = '\xe9'\ny = 2\n",
    b"x = 1 \\\n\ny = 2\nclass A:\n  x = 1\n  def f(self): pass\n\n  y = 2 \\\n\nz = 3\n",
    b"class A: x = 1; y = 2\nclass B:\n\tdef f(s):\n\t\tpass\n\n\tdef g(s):\n\t\tpass\nif 1:\n  a=1\nelse:\n  b=2\n",
    b'# coding: utf8\nx = 1\ny = 2; z = """\n"""; w = 0\n@\\\nfoo\ndef f(): pass\n'
    b"class B:\n    @\\\n  foo\n    def g(self): pass\n",
    b"\x0cclass C(\n  D\n):\n    '''doc\n\n    '''\n\n    # why\n    @e\n    def f(self):\n"
    b"        return 1\n    # end\n\n\ndef g():\n    pass\n",
]
JUNK = [
    "(", ")", '"""', "'''", "else:\n", "    return 1\n", "  x\n", "@dec\n", "x = 1 \\\n", "x = 1; y = 2\n",
    "def f():\n", "# c \\\n", "\n", "\t\n",
    "\f", "    else:\n", "try:\n", "    pass\n", "f'{", "#coding: latin-1\n", "\\\n", "\r",
    "    # hi\n", "    @x\n", "class A:\n", "\ufeff", "\0", "é", "]", "{", "barry_as_FLUFL",
]  # fmt: skip


def altered(data: bytes, dice: random.Random) -> bytes:
    """Return a version of a file, broken as often as not."""
    lines = data.splitlines(keepends=True)
    for _ in range(dice.choice([1, 1, 2, 4])):
        at = dice.randrange(len(lines) + 1)
        match dice.randrange(5):
            case 0:
                del lines[at : at + dice.choice([1, 2, 5])]
            case 1:
                lines.insert(at, dice.choice(JUNK).encode())
            case 2:
                begin = dice.randrange(len(lines) + 1)
                lines[at:at] = lines[begin : begin + dice.choice([1, 3])]
            case 3 if at < len(lines):
                cut = dice.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:cut] + dice.choice(JUNK).encode() + lines[at][cut + dice.randrange(3) :]
            case 4 if at < len(lines):
                lines[at] = lines[at].replace(b"1", b"2").replace(b"  ", b" ", 1)
    return b"".join(lines)


def versions(modules: list[bytes], number: int) -> Iterator[tuple[bytes, bytes]]:
    dice = random.Random(7)  # noqa: S311 - not for secrets
    for _ in range(number):
        data = dice.choice(modules)
        data = data.replace(b"\n", b"\r\n") if dice.random() < 0.2 else data
        yield data, altered(data, dice)


def whole_digest(data: bytes) -> str | None:
    """Return the digest of a file, parsed by one call; None of one that does not parse."""
    try:
        return Module(data, (CodePiece.of(data, ast.parse(data).body),)).digest
    except (SyntaxError, ValueError):
        return None


def told(module: Module, data: bytes) -> Module | Broken:
    """Return a version of a module; from its pieces and of all of it parsed the digest is the same."""
    version, alone = module_of(data, module), module_of(data)
    digests = [None if isinstance(one, Broken) else one.digest for one in (version, alone)]
    assert digests == [whole_digest(data)] * 2, (module.data, data)
    return version


def module(data: bytes) -> Module:
    found = module_of(data)
    assert isinstance(found, Module)
    return found


def check_versions(modules: list[bytes], number: int) -> None:
    """Compare a version as it is told from its module with the whole of it parsed; many must be told from parts."""
    parts = broken = 0
    known = {data: module_of(data) for data in [*modules, *(data.replace(b"\n", b"\r\n") for data in modules)]}
    for before, after in versions(modules, number):
        base = known[before]
        if isinstance(base, Module):
            version = told(base, after)
            parts += isinstance(version, Module) and len(version.parsed) < len(version.pieces)
            broken += isinstance(version, Broken)
    assert parts > number / 20
    assert broken > number / 5


FAR = b"".join(
    b"def f%d():\n    return %d\n\n\nclass A%d:\n    x = %d\n\n    def f(self):\n        return 0\n\n    y = 2\n\n\n"
    % (at, at, at, at)
    for at in range(9)
)


@pytest.mark.parametrize("modules", [MODULES, [FAR]], ids=["short", "long"])
def test_a_version_of_a_module_is_told_as_if_all_of_it_were_parsed(modules: list[bytes]) -> None:
    check_versions(modules, 500)


@pytest.mark.parametrize("last", [b"    c = 3; d = 4\n", b"    c = 3\n    \\\n'doc'\n", b"    c = '''\n  '''; d = 4\n"])
def test_a_class_whose_members_share_lines_is_told_alike(last: bytes) -> None:
    data = b"class A:\n    a = 1\n    b = 2\n    e = 2\n    f = 2\n" + last + b"\nz = 1\n"
    told(module(data), data.replace(b"f = 2", b"f =  2  # c"))
    told(module(data), data.replace(b"f = 2", b"f = 5"))


def test_a_form_feed_ends_a_class() -> None:
    data = b"class A:\n    x = 1\n    z = 2\n\fy = 2\n"
    for base in (b"", data.replace(b"2", b"3"), data.replace(b"\f", b"")):
        assert isinstance(told(module(base), data), Module)


def test_several_changes_are_told_each_by_itself() -> None:
    after = FAR.replace(b"x = 2\n", b"x = 3\n    z = 4\n").replace(b"return 5\n", b"pass\n").replace(b"A8:", b"A8(A1):")
    version = told(module(FAR), after)
    assert isinstance(version, Module)
    assert len(version.parsed) == 3
    assert sum(len(version.pieces[at].text) for at in version.parsed) < len(after) / 4


def test_of_many_edits_only_what_they_touch_is_parsed() -> None:
    before = b"".join(b"x%d = 1\n\ny%d = 1\n\nz%d = 1\n\n" % (at, at, at) for at in range(90))
    version = told(module(before), re.sub(rb"(x\d+) = 1", rb"\1 = 2", before))
    assert isinstance(version, Module)
    assert len(version.parsed) == 90


@pytest.mark.parametrize(("opens", "closes"), [('"""', '"""'), ("(", ")"), ("[", "]"), ("'''\n", "'''"), ("{", "}")])
def test_what_one_change_opens_another_may_close(opens: str, closes: str) -> None:
    for end in ("\n\n", ",\n\n"):
        before = "".join(f"x{at}{end}" for at in range(9))
        after = before.replace("x2", f"x2; y = {opens}x2").replace("x7", f"x7{closes}; x7")
        for version in (after, after.replace("x4", "x4 + 1"), after.replace(closes, "")):
            told(module(before.encode()), version.encode())


HOSTILE_LINES = (
    "x\n", "(\n", '"""\n', "'\\''\n", "@a\n", "class A:\n", "class A:\n x\n", "class A(\n", "\\\n", "'''\\\n", ":#",
)  # fmt: skip


@pytest.mark.parametrize("end", ["", "\n", "(", '"""', "\\"])
def test_the_statements_of_hostile_text_are_found_in_seconds(end: str) -> None:
    begun = time.process_time()
    for line in HOSTILE_LINES:
        text = line * (10_000 // len(line))
        module_of(f"{text}{end}".encode())
        module_of(f"class A:\n {text}{end}".replace("\n", "\n ").encode())
    assert time.process_time() - begun < 10


@pytest.mark.thorough
def test_a_version_of_a_real_module_is_told_as_if_all_of_them_were_parsed() -> None:
    names = ("heapq", "dataclasses", "enum", "textwrap", "argparse", "typing", "collections/__init__")
    check_versions([(STDLIB / f"{name}.py").read_bytes() for name in names], 600)


PLAIN = b"".join(b"x%d = %d\n\n" % (at, at) for at in range(9))


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (PLAIN.replace(b"x4 = 4", b"x4 = '\xff'"), "line 9: "),
        (PLAIN.replace(b"x4 = 4", b"x4 = " + b"-" * 100_000 + b"1"), "line 1: the parser refuses the file"),
        (PLAIN.replace(b"4\n", b'"""\n'), "line 9: unterminated triple-quoted string literal"),
        (PLAIN.replace(b"x4 = 4", b"x4 = ("), "line 9: '(' was never closed"),
    ],
)
def test_a_fault_is_told_with_its_line_in_the_whole_file(after: bytes, problem: str) -> None:
    assert Forms().of("a.py", after, PLAIN).problem.startswith(problem)


# --- other text ------------------------------------------------------------------------------------------------------


def test_blanks_at_the_end_and_blank_lines_do_not_count_in_text() -> None:
    assert of(b"a b\n c\n", "a.txt") == of(b"a b \r\n\n c", "a.txt")
    for other in (b"a\nb  c\n", b" a b\n c\n", b"a  b\n c\n", b"a b\nc\n", b"a b\n\tc\n"):
        assert of(b"a b\n c\n", "a.txt") != of(other, "a.txt")


def test_a_blank_line_counts_in_markup_and_several_are_one() -> None:
    assert of(b"a\n\nb\n", "a.md") == of(b"\na \n\n\nb", "a.md") != of(b"a\nb\n", "a.md")
    assert of(b"a  \nb\n", "a.md") != of(b"a\nb\n", "a.md")
    assert of(b"a  \nb\n", "a.rst") == of(b"a\nb\n", "a.rst")


SAMPLES = {
    "a.js": (b"// a\nfunction f(a) {\n  return a; // b\n}\n", b"function f(a) {\n    /* c\n d */\n\n  return a;\n}\n"),
    "a.ts": (b"let a: number = 1;\n", b"// x\nlet a: number = 1;  \n"),
    "a.tsx": (b"const a = <b>c</b>;\n", b"// x\nconst a = <b>c</b>;\n"),
    "a.go": (b"package a\n\nfunc f() {\n\tg()\n}\n", b"package a\nfunc f() {\n    // x\n    g()\n}\n"),
    "a.rs": (b"fn f() { g(); }\n", b"// x\nfn f() { g(); }\n"),
    "a.c": (b"int f(void) { return 1; }\n", b"int f(void) { return 1; } /* x */\n"),
    "a.cpp": (b"int f() { return 1; }\n", b"int f() { return 1; } // x\n"),
    "a.java": (b"class A { int a; }\n", b"// x\nclass A { int a; }\n"),
    "a.cs": (b"class A { int a; }\n", b"// x\nclass A { int a; }\n"),
    "a.rb": (b"def f\n  1\nend\n", b"# x\ndef f\n    1\nend\n"),
    "a.php": (b"<?php\nf();\n", b"<?php\n# x\nf();\n"),
    "a.kt": (b"fun f() { g() }\n", b"// x\nfun f() { g() }\n"),
    "a.css": (b"a { b: c; }\n", b"/* x */\na { b: c; }\n"),
    "a.scss": (b"a { b: c; }\n", b"// x\na { b: c; }\n"),
    "a.json": (b'{"a": 1}\n', b'\n  {"a": 1}\n'),
    "a.toml": (b"a = 1\n", b"# x\na = 1\n"),
}


@pytest.mark.parametrize("path", SAMPLES)
def test_comments_and_blank_lines_do_not_count_where_a_grammar_knows_them(path: str) -> None:
    plain, dressed = SAMPLES[path]
    assert of(plain, path, b"") == of(dressed, path, b"")
    outcome = candidate_patch([change(path, plain, dressed)], Forms())
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.NO_EFFECT


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("a.js", b"f(a,b);\n", b"f(\n  a, // x\n  b,\n);\n"),
        (
            "a.js",
            b"import { a } from 'b';\nx = {a: [1, 2]}\n",
            b"import {\n  a,\n} from 'b';\nx = { a: [\n 1,\n 2] }\n",
        ),
        ("a.tsx", b"a = <b c={d} e/>;\n", b"a = <b\n  c={ d }\n  e\n/>;\n"),
        ("a.ts", b"f((a: A<B,C>) => { g() }, 1)\n", b"f(\n  (a: A<\n    B, C\n  >) => { g() },\n  1)\n"),
        ("a.go", b"package a\n\nvar x=f(a, b)\n", b"package a\n\nvar x = f(\n\ta, // x\n\tb,\n)\n"),
        (
            "a.go",
            b"package a\n\nvar x = T{1, 2}\nvar yy = 3\n",
            b"package a\n\nvar x  = T{\n\t1,\n\t2,\n}\nvar yy = 3\n",
        ),
        (
            "a.rs",
            b"fn f(a: A) -> B { g(a, 1) }\n",
            b"fn f(\n    a: A,\n) -> B {\n    g(\n        a,\n        1,\n    )\n}\n",
        ),
        ("a.java", b"class A { int f(){return 1;} }\n", b"class A\n{\n  int f() {\n    return 1;\n  }\n}\n"),
        ("a.c", b"int f(int a){return a;}\n", b"int\nf (int a)\n{\n  return a; /* x */\n}\n"),
        ("a.cpp", b"std::vector<int> a{1,2};\n", b"std::vector< int > a{\n  1,\n  2,\n};\n"),
        ("a.php", b"<?php\nf($a,1);\n", b"<?php\nf(\n    $a,\n    1,\n);\n"),
        ("a.rb", b"f(a,  b)\n", b"f(a, b) # x\n"),
        ("a.json", b'{"a":[1,2]}', b'{\n  "a": [1, 2]\n}\n'),
    ],
)
def test_how_code_is_laid_out_does_not_count_where_a_language_says_so(path: str, one: bytes, other: bytes) -> None:
    assert of(one, path, b"") == of(other, path, b"")


@pytest.mark.parametrize(
    "dressed", [b"f(a, b);\n", b"f(a, /* c */ b);\n", b"/* c */ f(a, b); // d\n", b"f(a, b); /* c\n d */ // e\n"]
)
def test_a_comment_between_code_leaves_a_blank(dressed: bytes) -> None:
    assert of(dressed, "a.js", b"") == of(b"f(a, b);\n", "a.js", b"")


def test_every_grammar_has_a_sample() -> None:
    assert {language_of(path) for path in SAMPLES} == set(LANGUAGES.values())


KEPT = [
    ("a.yaml", b"a:\n  b: 1\n", b"a:\nb: 1\n"),
    ("Makefile", b"a:\n\tb\n", b"a:\n    b\n"),
    ("a.pyx", b"cdef f():\n  a\nb\n", b"cdef f():\n  a\n  b\n"),
    ("a.js", b"a = `b\n\nc`;\n", b"a = `b\nc`;\n"),
    ("a.js", b"a = `b\n  c`;\n", b"a = `b\nc`;\n"),
    ("a.js", b"a = `b // c`;\n", b"a = `b`;\n"),
    ("a.js", b"a - -b;\n", b"a --b;\n"),
    ("a.js", b"a\n(b)\n", b"a(b)\n"),
    ("a.js", b"return_\na;\n", b"return_ = a;\n"),
    ("a.js", b"function f() {\n  return\n  a\n}\n", b"function f() {\n  return a\n}\n"),
    ("a.js", b"f(function () {\n  return\n  a\n})\n", b"f(function () {\n  return a\n})\n"),
    ("a.js", b"x\n++\ny\n", b"x++\ny\n"),
    ("a.js", b"x = [a,,]\n", b"x = [a,]\n"),
    ("a.js", b"a = /b c/;\n", b"a = /b  c/;\n"),
    ("a.js", b"class A {\n  get\n  b() {}\n}\n", b"class A {\n  get b() {}\n}\n"),
    ("a.jsx", b"a = <b><c/> <c/></b>;\n", b"a = <b><c/><c/></b>;\n"),
    ("a.ts", b"interface A {\n  b\n  (c): d\n}\n", b"interface A {\n  b(c): d\n}\n"),
    ("a.ts", b"type A = `b ${C}`;\n", b"type A = `b  ${C}`;\n"),
    ("a.go", b"package a\n\nfunc f() int {\n\treturn\n\t1\n}\n", b"package a\n\nfunc f() int {\n\treturn 1\n}\n"),
    ("a.go", b"package a\n\nvar x = `b\n c`\n", b"package a\n\nvar x = `b\nc`\n"),
    ("a.go", b"package a\n\nfunc f() {\n\tx++\n\ty()\n}\n", b"package a\n\nfunc f() {\n\tx++ \n\t(y)()\n}\n"),
    ("a.go", b"package a\n\ntype A [P *T,]int\n", b"package a\n\ntype A [P *T]int\n"),
    ("a.rs", b"fn f() { g((a,)); }\n", b"fn f() { g((a)); }\n"),
    ("a.rs", b"fn f() { m!(a+= b); }\n", b"fn f() { m!(a += b); }\n"),
    ("a.rb", b"foo -1\n", b"foo - 1\n"),
    ("a.rb", b"foo [1]\n", b"foo[1]\n"),
    ("a.rb", b"foo\n(1)\n", b"foo (1)\n"),
    ("a.rb", b"x = `a  b`\n", b"x = `a b`\n"),
    ("a.c", b"#define F (x)\n", b"#define F(x)\n"),
    ("a.c", b"#define A\nint x;\n", b"#define A int x;\n"),
    ("a.c", b'#define A "b  c"\n', b'#define A "b c"\n'),
    ("a.c", b"#if A && \\\n  B\nint x;\n#endif\n", b"#if A\nint x;\n#endif\n"),
    ("a.c", b"char a = ' ';\n", b"char a = '\t';\n"),
    ("a.c", b"int a = b - -c;\n", b"int a = b --c;\n"),
    ("a.cpp", b'auto a = R"(b  c)";\n', b'auto a = R"(b c)";\n'),
    ("a.java", b'class A { String a = """\n  b\n""" ; }\n', b'class A { String a = """\n b\n""" ; }\n'),
    ("a.php", b"<?php\nf(<<<B\n  c\n  B);\n", b"<?php\nf(<<<B\n c\n B);\n"),
    ("a.php", b"<?php f(); ?> <b>\n", b"<?php f(); ?><b>\n"),
    ("a.css", b"a .b { c: d; }\n", b"a.b { c: d; }\n"),
    ("a.jsx", b"a = <b>\n  c  d\n</b>;\n", b"a = <b>\n  c d\n</b>;\n"),
    ("a.js", b"// eslint-disable\na;\n", b"a;\n"),
    ("a.ts", b"// @ts-ignore\na;\n", b"a;\n"),
    ("a.go", b"//go:build linux\n\npackage a\n", b"package a\n"),
    ("a.go", b'package a\n\n// int f();\nimport "C"\n', b'package a\n\nimport "C"\n'),
    ("a_test.go", b"package a\n\nfunc ExampleF() {\n\t// Output:\n\t// 1\n}\n", b"package a\n\nfunc ExampleF() {\n}\n"),
    ("a.rs", b"/// ```\n/// f();\n/// ```\nfn f() {}\n", b"fn f() {}\n"),
    ("a.rb", b"# frozen_string_literal: true\na\n", b"a\n"),
    ("a.rb", b"a = <<~B\n  c\n\n  # d\nB\n", b"a = <<~B\n  c\nB\n"),
    ("a.sh", b"#!/bin/sh\na\n", b"a\n"),
    ("a.php", b"<?php\n/** @Route(1) */\nf();\n", b"<?php\nf();\n"),
    ("a.php", b"<b>\n\n  c</b>\n<?php\nf();\n", b"<b>\nc</b>\n<?php\nf();\n"),
    ("a.c", b'char *a = "b\\\n\\\nc";\n', b'char *a = "b\\\nc";\n'),
    ("README.rst", b".. a comment\n\nb\n", b"b\n"),
    ("a.html", b"<!-- a --><b>c</b>\n", b"<b>c</b>\n"),
]


@pytest.mark.parametrize(("path", "one", "other"), KEPT)
def test_what_can_carry_meaning_counts(path: str, one: bytes, other: bytes) -> None:
    assert of(one, path, b"") != of(other, path, b"")
    assert isinstance(candidate_patch([change(path, one, other)], Forms()), Patch)


def test_a_file_that_a_grammar_cannot_read_is_text() -> None:
    broken = b"function (\n"
    assert of(broken + b"a // b\n", "a.js", broken) != of(broken + b"a\n", "a.js", broken)
    assert Forms().of("a.js", broken + b"(", broken).problem == ""


def test_a_file_that_parsed_before_must_parse_with_the_place_of_the_fault() -> None:
    before = b"function f() {\n  return 1;\n}\n" * 40
    after = before.replace(b"return 1;", b"return (1;", 1)
    assert Forms().of("a.js", after, before).problem == "near line 2"
    assert Forms().of("a.c", b"int a(\n", b"int a;\n").problem == ""  # a macro may end it
    late = before + b"function g() {\n"
    assert Forms().of("a.js", late, before).problem.startswith("near line 12")


@pytest.mark.parametrize("path", SAMPLES)
def test_a_version_of_a_file_with_a_grammar_is_told_as_if_all_of_it_were_parsed(path: str) -> None:
    language, dice = language_of(path), random.Random(path)  # noqa: S311 - not for secrets
    plain, dressed = SAMPLES[path]
    joint = b"" if language in {"json", "toml", "php", "go"} else plain
    pieces = [*plain.splitlines(keepends=True), *dressed.splitlines(keepends=True), b"\n", b"  \n"]
    for _ in range(60):
        before = plain + joint + dressed if joint else plain
        base = parsed(language, before)
        assert isinstance(base, Parsed), before
        lines = before.splitlines(keepends=True)
        at = dice.randrange(len(lines) + 1)
        lines[at : at + dice.randrange(2)] = [dice.choice(pieces)]
        version, whole = parsed(language, b"".join(lines), base), parsed(language, b"".join(lines))
        assert isinstance(version, Unread) == isinstance(whole, Unread)
        if isinstance(version, Parsed) and isinstance(whole, Parsed):
            assert version.lines == whole.lines


HOSTILE = [
    b"(", b"[", b"{", b"<", b"a(", b"a<", b"a?", b"- ", b"a: ", b'"', b"'", b"`${", b"$(", b'"#{', b"<a>", b"%w(",
    b"<<A\n", b"/*", b'r#"', b"@", b"\\\n", b"\0", b"\xff", b'R"(', b"[[", b"#if a\n", b"|a", b"a*b(", b"if a {", b"a,",
]  # fmt: skip


@pytest.mark.parametrize("language", sorted(set(LANGUAGES.values())))
def test_hostile_text_costs_a_grammar_no_more_than_seconds(language: str) -> None:
    begun = time.process_time()
    for piece in HOSTILE:
        parsed(language, piece * (20_000 // len(piece)))
        parsed(language, b"\n".join([piece * 90] * 20))
    parsed(language, b"".join(b" " * depth + b"a:\n" for depth in range(200)))
    assert parsed(language, b" " * (600 * 1024)) == Unread()
    assert time.process_time() - begun < 20


# --- names -----------------------------------------------------------------------------------------------------------

SHOP = (
    b"import os\n\nRATE = 1\n\n\nclass Cart:\n    def total(self):\n        return RATE\n\n"
    b"    def tax(self):\n        return RATE\n\n\ndef f():\n    total = os.sep\n    return total\n"
)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (b"return RATE\n\n    def", b"return rate\n\n    def", ("rate",)),
        (b"return RATE\n\n    def", b"return len(os.sep)\n\n    def", ()),
        (b"return RATE\n\n    def", b"return tax(self)\n\n    def", ("tax",)),  # a method is no name
        (b"total = os.sep", b"total = total + 1", ("total",)),  # used before it is bound
        (b"return total", b"return result", ("result",)),
        (b"import os\n", b"", ("os",)),
        (b"import os\n", b"from os import *\n", ()),
        (b"import os\n", b"import sys\n", ("os",)),
        (b"RATE = 1", b"RATE = _('a')", ()),
        (b"RATE = 1", b"RATE = two", ("two",)),
        (b"RATE = 1\n", b"RATE = 1\nX = [y for y in (1, 2)]\n", ()),
        (b"def f():\n", b"def f():\n    global NEW\n    NEW = 1\n", ()),
    ],
)
def test_names_that_a_patch_uses_undefined_are_told(old: bytes, new: bytes, names: tuple[str, ...]) -> None:
    assert old in SHOP
    assert undefined(SHOP, SHOP.replace(old, new, 1)) == names


def test_names_that_were_undefined_before_are_not_the_patch_s_doing() -> None:
    before = SHOP + b"\n\ndef g():\n    return injected\n"
    assert undefined(before, before.replace(b"return RATE", b"return injected")) == ()
    assert undefined(before, before.replace(b"return RATE", b"return missing")) == ("missing",)


def test_names_that_match_binds_are_known() -> None:
    cases = b"    case [one, *two]:\n        pass\n    case {'a': 1, **three}:\n        pass\n    case int() as four:\n"
    before = SHOP + b"\nmatch SHOP:\n" + cases + b"        pass\ntry:\n    pass\nexcept OSError as five:\n    pass\n"
    new = b"return (one, two, three, four, five, six)"
    assert undefined(before, before.replace(b"return RATE", new, 1)) == ("six",)


def test_the_names_of_a_file_are_looked_up_once() -> None:
    forms = Forms()
    for name in (b"one", b"two", b"total", b"total ** 2"):
        after = SHOP.replace(b"return RATE", b"return " + name, 1)
        assert forms.of("a.py", after, SHOP).undefined == (name.decode().split()[0],)


def test_of_a_file_that_is_large_and_of_a_piece_nothing_is_told() -> None:
    large = b"X = [\n" + b"    1,\n" * 40_000 + b"]\n"
    assert undefined(large, large.replace(b"1,", b"missing,", 1)) == ()


def test_names_of_a_new_file_are_looked_up_and_stubs_are_not() -> None:
    new = make_patch([change("new.py", None, b"def f():\n    return x\n")], Forms())
    assert new.undefined == ("x",)
    assert undefined(b"x: int\n", b"x: later\n", "a.pyi") == ()
    assert make_patch([change("a.py", SHOP, None)], Forms()).undefined == ()


def test_names_in_annotations_that_the_compiler_warns_of_are_told() -> None:
    after = SHOP.replace(b"def f():", b"def f(a: \"missing['\\\\d']\" = 1):")
    assert undefined(SHOP, after) == ("missing",)


STAR = b"from os import *\n\n" + SHOP + b"\n\ndef g():\n    return sep\n"
LATIN = b"# coding: latin-1\nx = '\xe9'\n\n\ndef f():\n    return injected\n"


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (STAR, STAR.replace(b"return RATE", b"return missing"), ()),
        (STAR, STAR.replace(b"from os import *\n", b""), ("sep",)),
        (LATIN, LATIN.replace(b"x =", b"y =") + b"\nz = injected, x\n", ("x",)),
    ],
    ids=["which may be of a star import", "once a star import is gone", "in another encoding"],
)
def test_undefined_names_are_told(before: bytes, after: bytes, names: tuple[str, ...]) -> None:
    assert undefined(before, after) == names


def test_names_of_several_changes_are_told_of_each_other() -> None:
    till = b"\n\nclass Till:\n    rate = RATE\n\n    def f(self):\n        return RATE\n"
    before = SHOP + till + b"\n\ndef g():\n    return RATE\n"
    after = before.replace(b"RATE = 1", b"RATE = 1\nMORE = 2").replace(b"rate = RATE", b"rate = MORE\n    two = rate")
    assert undefined(before, after.replace(b"def g():\n    return RATE", b"def g():\n    return MORE")) == ()
    assert undefined(before, after.replace(b"def g():\n    return RATE", b"def g():\n    return two")) == ("two",)


@given(st.text("ab=( )\n:#\"'\\", max_size=60), st.text("ab=( )\n:#\"'\\", max_size=60))
def test_any_text_has_a_form(before: str, after: str) -> None:
    for path in ("a.py", "a.js", "a.yaml", "a.txt", "a.md"):
        Forms().of(path, after.encode(), before.encode())


# --- answers ---------------------------------------------------------------------------------------------------------

CODE = {"a.js": b"f();\n", "a.py": b'"""Doc."""\nx = 1\n', "README.md": b"# A\n", "bad.js": b"f(;\n"}


@pytest.mark.parametrize(
    ("path", "search", "replace", "reason"),
    [
        ("a.py", "x = 1\n", "x = 1  # one\n", Reason.NO_EFFECT),
        ("a.py", "x = 1\n", "\nx = (1)\n", Reason.NO_EFFECT),
        ("a.js", "f();\n", "f(); // g\n", Reason.NO_EFFECT),
        ("README.md", "# A\n", "# A \n", Reason.NO_EFFECT),
        ("a.js", "f();\n", "f(;\n", Reason.SYNTAX),
        ("a.py", '"""Doc."""\n', '"""Document."""\n', None),
        ("README.md", "# A\n", "# B\n", None),
        ("README.md", "# A\n", "# A\n\nb\n", None),
        ("bad.js", "f(;\n", "g(;\n", None),
        ("new.js", "", "f(;\n", None),  # no version of it shows that its grammar can read it
        ("new.py", "", "# nothing yet\n", None),
    ],
)
def test_answers_of_no_effect_and_those_that_break_a_file_are_rejected(
    path: str, search: str, replace: str, reason: Reason | None
) -> None:
    outcome = read(fenced(edit(path, search, replace)), CODE)
    assert (outcome.reason if isinstance(outcome, Rejected) else None) is reason


def test_a_change_beside_one_of_no_effect_is_a_patch() -> None:
    edits = edit("a.py", "x = 1\n", "x = 1  # one\n"), edit("a.js", "f();\n", "g();\n")
    outcome = read(fenced(*edits), CODE)
    assert isinstance(outcome, Patch)
    assert outcome.paths == ("a.js", "a.py")
