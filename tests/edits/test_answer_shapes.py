"""How models write answers, shape by shape: strictly and loosely each is read as a person reads it, or rejected."""

import textwrap
from collections.abc import Mapping

import pytest

from agentless_mini.domain import Completion, Finish, Matching, Patch, Reason, Rejected
from agentless_mini.edits import Marks, Tree, changed_files, read_answer
from tests.edits.edit_cases import edit, fenced, snapshot

CODE = "x = 1\ny = 2\nz = 3\n"
FILES = {
    "a.py": CODE.encode(),
    "src/pkg/util.py": b"import os\n\n\ndef f(n):\n    return n + 1\n\n\ndef g(n):\n    return n + 2\n",
    "src/pkg/b c.txt": b"one\ntwo\n",
    "lib/one/same.py": b"s = 1\n",
    "lib/two/same.py": b"s = 1\n",
    "docs/guide.md": b"# Guide\n\nText.\n",
    "docs/title.md": b"Title\n========\n",
    "Makefile": b"all:\n\tcc a.c\n\ttouch all\n",
    "empty.py": b"",
    "docs/a\uff08b\uff09.md": b"one\ntwo\n",
    "src/pkg/twins.py": b"def a():\n    r = 1\n    return r\n\n\ndef b():\n    r = 1\n    return r\n",
    "one.py": b"import os\nlimit = 10\n",
    "two.py": b"import os\nlimit = 10\n",
    "n.js": b"f([\na\n])\n",
    **dict.fromkeys(["CMakeLists.txt", "page.html", "list.yaml", "notes.md", "m.js"], b"one\ntwo\nthree\n"),
}
GOOD = edit("a.py", "y = 2\n", "y = 5\n")
DRAFT = edit("a.py", "x = 1\n", "x = 9\n")
OTHER_DRAFT = edit("a.py", "y = 2\n", "y = 4\n")
RIGHT = {"a.py": "x = 1\ny = 5\nz = 3\n"}
UTIL = edit("src/pkg/util.py", "    return n + 1\n", "    return n\n")
UTIL_RIGHT = {"src/pkg/util.py": FILES["src/pkg/util.py"].decode().replace("n + 1", "n")}
BODY = GOOD.removeprefix("### a.py\n")
UTIL_BODY = UTIL.removeprefix("### src/pkg/util.py\n")
D, G = fenced(DRAFT, info="python"), fenced(GOOD, info="python")
NEW = "<<<<<<< SEARCH\n=======\nn = 1\n>>>>>>> REPLACE\n"

LIMIT = "<<<<<<< SEARCH\nlimit = 10\n=======\nlimit = {}\n>>>>>>> REPLACE\n"

Expected = Mapping[str, str | None] | Reason

THINKING: dict[str, tuple[str, Expected]] = {
    **{
        f"thinking in {begin}": (f"{begin}\n{D}{end}\n{G}", RIGHT)
        for begin, end in (
            ("<think>", "</think>"), ("<Thinking>", "</Thinking>"), ("<THOUGHT>", "</THOUGHT>"),
            ("<reasoning>", "</reasoning>"), ("<seed:think>", "</seed:think>"), ("<ant:thinking>", "</ant:thinking>"),
            ("◁think▷", "◁/think▷"), ("[THINK]", "[/THINK]"), ("<|channel>thought", "<channel|>"),
            ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|START_THINKING|>", "<|END_THINKING|>"),
            ("<|open|>think<|sep|>", "<|close|>think<|sep|>"), ("<|inner_prefix|>", "<|inner_suffix|>"),
            ("<scratchpad>", "</scratchpad>"), ("<think_fast>", "</think_fast>"),
            ("Here is my thought process:", "Here is my response:"),
        )
    },
    **{
        f"only {end}": (f"Okay.\n{D}So.{end}{G}", RIGHT)
        for end in ("</think>", "◁/think▷", "[/THINK]", "</seed:think>", "</thought>", "<channel|>", "</REASONING>")
    },
    "thinking with an attribute that is never closed": (f'<think effort="high">\n{D}', Reason.TRUNCATED),
    **{
        f"thinking in {begin}": (f"{begin}\n{D}{end}\n{G}", RIGHT)
        for begin, end in (
            ('<think effort="high">', "</think>"), ("Thinking...", "...done thinking."), ("< think >", "</ think >"),
            ("<unused94>thought", "<unused95>"), ("<longcat_think>", "</longcat_think>"),
            ("[REASONING]", "[/REASONING]"),
            ("<chain_of_thought>", "</chain_of_thought>"), ("<planning>", "</planning>"), ("<cot>", "</cot>"),
            ("### Thinking:", "### Response:"), ("**Thinking:**", "**Final answer:**"),
            ("# Reasoning", "# Final Answer"),
        )
    },
    "harmony with blanks": (f"analysis We need.\n{D}assistant final\n{G}", RIGHT),
    "harmony of both kinds": (f"analysis\nWe need.\n{D}\nassistantfinal\n{G}", RIGHT),
    "a plain heading of thinking": (f"Thinking Process:\n{D}\nFinal Answer:\n{G}", RIGHT),
    "folded thinking": (f"<details><summary>Thinking</summary>\n{D}</details>\n{G}", RIGHT),
    "harmony after a fence": (f"analysisWe need.\n{D.removesuffix(chr(10))}assistantfinal{G}", RIGHT),
    "a turn that the model makes up": (f"{G}<|im_end|>\n<|im_start|>user\nAnd x?<|im_end|>\n{D}", RIGHT),
    "thinking that is never closed": (f"<thought>\n{D}", Reason.TRUNCATED),
    "Kimi's thinking that is never closed": (f"◁think▷{G}", Reason.TRUNCATED),
    "all edits are thinking": (f"<reasoning>\n{G}</reasoning>\nAs above.", Reason.NO_EDIT),
    "a draft that is not finished": (f"<thinking>\n```\n### a.py\n<<<<<<< SEARCH\ny = 2\n</thinking>\n{G}", RIGHT),
    "a draft whose last marker and the end of thinking share a line": (
        f"<think>\n```\n{DRAFT.removesuffix(chr(10))}</think>\n{G}", RIGHT),
    "marks that prose mentions": (f"The `<thought>` and `[THINK]` marks are kept.\n{G}", RIGHT),
    "a mark that is edited": (fenced(edit("a.py", "y = 2\n", "y = '''\n<think>\n'''\n")),
                              {"a.py": "x = 1\ny = '''\n<think>\n'''\nz = 3\n"}),
    "a link to reasoning": (f"[reasoning](docs/guide.md) is this:\n{G}", RIGHT),
    "harmony": (f"<|channel|>analysis<|message|>Hm.\n{D}<|end|><|start|>assistant<|channel|>commentary<|message|>Now."
                f"<|end|><|start|>assistant<|channel|>final<|message|>{G}<|return|>", RIGHT),
    "harmony whose last message has no end": (f"<|channel|>final<|message|>{G}", RIGHT),
    "harmony that ends in its analysis": (f"<|channel|>analysis<|message|>Hm.\n{G}", Reason.TRUNCATED),
    "harmony without marks": (f"analysisWe need.\n{D}So.assistantfinal{G}", RIGHT),
    "harmony without marks, with commentary": (f"analysisHm.\n{D}assistantcommentary\nassistantfinalHere:\n{G}", RIGHT),
    "harmony without marks that ends in its analysis": (f"analysisWe need.\n{G}", Reason.TRUNCATED),
    "an answer that begins with the word analysis": (f"analysis of the loop: it is wrong.\n{G}", RIGHT),
    "an answer tag": (f"{D}<answer>\n{G}</answer>", RIGHT),
    "an answer tag that is not closed": (f"{D}<answer>\n{G}", RIGHT),
    "Cohere's response": (f"<|START_THINKING|>{D}<|END_THINKING|><|START_RESPONSE|>{G}<|END_RESPONSE|>", RIGHT),
    "an answer tag around nothing": (f"{G}\n<response>ok</response>\n", RIGHT),
    "boxes": (f"<|begin_of_box|>{G}<|end_of_box|>", RIGHT),
    **{
        f"ends in {token}": (G.removesuffix("\n") + token, RIGHT)
        for token in ("<|im_end|>", "<|eot_id|>", "<|return|>", "</s>", "<|endoftext|>\n", "<end_of_turn>",
                      "<\uff5cend\u2581of\u2581sentence\uff5c>", " <|im_end|>\n<|im_end|>")
    },
    "a token on the last marker": ("```\n" + GOOD.removesuffix("\n") + "<|im_end|>", RIGHT),
    "a byte order mark": ("\ufeff" + G, RIGHT),
    "a token before the fence": (f"<|im_start|>{G}", RIGHT),
}  # fmt: skip

DRAFTS: dict[str, tuple[str, Expected]] = {
    "a draft and the answer": (f"First:\n{fenced(OTHER_DRAFT)}No:\n{G}", RIGHT),
    "two drafts and the answer": (
        f"{fenced(OTHER_DRAFT)}or\n{fenced(edit('a.py', 'y = 2' + chr(10), 'y = 6' + chr(10)))}No:\n{G}", RIGHT),
    "a draft that changes more than the answer": (
        f"{fenced(edit('a.py', CODE, 'q = 1' + chr(10)))}No:\n{G}", Reason.NOT_FOUND),
    "a draft that adds lines": (
        f"{fenced(edit('a.py', 'y = 2' + chr(10), 'y = 2' + chr(10) + 'w = 0' + chr(10)))}Better:\n"
        f"{fenced(edit('a.py', 'y = 2' + chr(10), 'y = 2' + chr(10) + 'w = 5' + chr(10)))}",
        {"a.py": "x = 1\ny = 2\nw = 5\nz = 3\n"}),
    "a replacement that is repeated": (f"{G}In full:\n{G}", RIGHT),
    "an addition that is repeated": (
        fenced(edit("a.py", "y = 2\n", "y = 2\nw = 0\n")) * 2, {"a.py": "x = 1\ny = 2\nw = 0\nz = 3\n"}),
    "an addition that is repeated in its fence": (
        fenced(*[edit("a.py", "y = 2\n", "y = 2\nw = 0\n")] * 2), {"a.py": "x = 1\ny = 2\nw = 0\nz = 3\n"}),
    "a new file that is written twice": (
        fenced("### new.py\n" + NEW) + "Better:\n" + fenced("### new.py\n" + NEW.replace("1", "2")),
        {"new.py": "n = 2\n"}),
    "edits that build on each other": (
        fenced(edit("a.py", "y = 2\n", "y = 2\nw = 0\n")) + fenced(edit("a.py", "w = 0\n", "w = 5\n")),
        {"a.py": "x = 1\ny = 2\nw = 5\nz = 3\n"}),
    "all edits against the file as it was": (
        fenced(edit("a.py", "x = 1\ny = 2\n", "x = 1\ny = 5\n"), edit("a.py", "y = 2\nz = 3\n", "y = 2\nz = 6\n")),
        {"a.py": "x = 1\ny = 5\nz = 6\n"}),
    "an edit against the file as it was that says the file ends there": (
        fenced(edit("a.py", "x = 1\ny = 2\n", "x = 1\ny = 5\n"),
               edit("a.py", "y = 2\n", "y = 6\n\\ No newline at end of file\n")), Reason.NOT_FOUND),
    "edits of one fence that say the same": (
        fenced(edit("a.py", "x = 1\ny = 2\n", "x = 1\ny = 5\n"), edit("a.py", "y = 2\nz = 3\n", "y = 5\nz = 3\n")),
        RIGHT),
    "edits of one fence that contradict each other": (
        fenced(edit("a.py", "x = 1\ny = 2\n", "x = 1\ny = 5\n"), edit("a.py", "y = 2\nz = 3\n", "y = 6\nz = 3\n")),
        Reason.NOT_FOUND),
    "a smaller edit within one of a fence before": (
        fenced(edit("a.py", "x = 1\ny = 2\n", "x = 0\ny = 0\n")) + "and\n" + G, Reason.NOT_FOUND),
    "an addition that a wider edit repeats": (
        fenced(edit("a.py", "y = 2\n", "y = 2\nw = 0\n"), edit("a.py", "x = 1\ny = 2\n", "x = 7\ny = 2\nw = 0\n")),
        {"a.py": "x = 7\ny = 2\nw = 0\nz = 3\n"}),
    "a repetition that fits two places": (
        fenced(edit("src/pkg/twins.py", "def a():\n    r = 1\n", "def a():\n    r = 2\n")) + "Again:\n"
        + fenced(edit("src/pkg/twins.py", "    r = 1\n    return r\n", "    r = 2\n    return r\n")), Reason.AMBIGUOUS),
    "additions at both sides of one place": (
        fenced(edit("a.py", "x = 1\n", "x = 1\nv = 0\n")) + "and\n" + fenced(edit("a.py", "y = 2\n", "w = 0\ny = 2\n")),
        {"a.py": "x = 1\nv = 0\nw = 0\ny = 2\nz = 3\n"}),
}  # fmt: skip

PATHS: dict[str, tuple[str, Expected]] = {
    **{
        f"path line {line!r}": (fenced(f"{line}\n{UTIL_BODY}"), UTIL_RIGHT)
        for line in (
            "### src/pkg/util.py:", "### src/pkg/util.py ###", "### File: src/pkg/util.py", "### **src/pkg/util.py**",
            "### `src/pkg/util.py`", "### [src/pkg/util.py](src/pkg/util.py)", "### 1. src/pkg/util.py",
            "### src/pkg/util.py (modified)", r"### src\pkg\util.py", r"### C:\work\repo\src\pkg\util.py",
            "### /testbed/src/pkg/util.py", "### a/src/pkg/util.py", "### repo/src/pkg/util.py", "### util.py",
            "### pkg/util.py", "### ./src/pkg/util.py", "### src/pkg/util.py:4-5", "### src/pkg/util.py#L4",
            "## src/pkg/util.py", "# src/pkg/util.py", "#### `src/pkg/util.py`:", "###src/pkg/util.py",
            "### Step 2: change `f` in src/pkg/util.py", "### Changes in `util.py`:", "**src/pkg/util.py**",
            "`src/pkg/util.py`", "1. `src/pkg/util.py`", "File: src/pkg/util.py", "src/pkg/util.py",
            "// src/pkg/util.py",
            "<!-- src/pkg/util.py -->", "### Filename: 'src/pkg/util.py'", "### \u6587\u4ef6\uff1asrc/pkg/util.py",
            "### src/pkg/util.py\uff08\u4fee\u6539\uff09", "### @src/pkg/util.py", "### \u200bsrc/pkg/util.py",
        )
    },
    **{
        f"a new file, said as {line!r}": (f"{line}\n{NEW}", {"src/pkg/new_x.py": "n = 1\n"})
        for line in (
            "### src/pkg/new\\_x.py", "### \u6587\u4ef6\uff1asrc/pkg/new_x.py", "### @src/pkg/new_x.py",
            "### \u200bsrc/pkg/new_x.py", "### ~/repo/src/pkg/new_x.py", "### $REPO/src/pkg/new_x.py",
            "### src/pkg/new_x.py\uff08\u65b0\u6587\u4ef6\uff09",
        )
    },
    **{
        f"a new file outside, said as {line!r}": (f"{line}\n{NEW}", Reason.BAD_PATH)
        for line in (
            "### Create ../x.py for it", "### Create /etc/cron.d/x.py now", "Create `../x.py`:", "### \uff1a../x.py",
            "### New file .git/hooks/x.sh for it", "### New C:/x/y.py for it", "### .git\uff1a/x.py",
        )
    },
    **{
        f"wide marks in the name of a file, said as {line!r}": (
            f"{line}\n<<<<<<< SEARCH\none\n=======\n1\n>>>>>>> REPLACE\n",
            {"docs/a\uff08b\uff09.md": "1\ntwo\n"},
        )
        for line in ("### docs/a\uff08b\uff09.md", "File: docs/a\uff08b\uff09.md", "**docs/a\uff08b\uff09.md**")
    },
    "a new file in somebody's home": (f"### ~/new.py\n{NEW}", Reason.BAD_PATH),
    "a path in the fence's line": (fenced(UTIL_BODY, info="python src/pkg/util.py"), UTIL_RIGHT),
    "a path after a colon in the fence's line": (fenced(UTIL_BODY, info="python:src/pkg/util.py"), UTIL_RIGHT),
    "a path in a title of the fence": (fenced(UTIL_BODY, info='python title="src/pkg/util.py"'), UTIL_RIGHT),
    "a path before the fence": (f"### src/pkg/util.py\n{fenced(UTIL_BODY)}", UTIL_RIGHT),
    "a path on the first marker": (fenced(UTIL_BODY.replace("SEARCH", "SEARCH src/pkg/util.py")), UTIL_RIGHT),
    "a path in the sentence before": (f"In `src/pkg/util.py`, f adds one:\n\n{fenced(UTIL_BODY)}", UTIL_RIGHT),
    **{
        f"two files, said as {line!r}": (
            f"{line.format('one.py')}\n```\n{LIMIT.format(20)}```\n{line.format('two.py')}\n```\n{LIMIT.format(30)}```\n",
            {"one.py": "import os\nlimit = 20\n", "two.py": "import os\nlimit = 30\n"})
        for line in (
            "In `{}`:", "Now update `{}`:", "1. In `{}`, raise it:", "- `{}`: raise", "**{}**", "Edit {}:", "\u2192 {}",
            "**In `{}`:**", "**Modified `{}`:**", "**`{}`: raise the limit**", "### **File 2: `{}`**", "*In `{}`:*",
            "<details><summary>{}</summary>", "**Edit 2 \u2013 {}**",
        )
    },
    "a heading, then an explanation": (
        "### one.py\n" + LIMIT.format(20) + "### two.py\n" + "Why.\n" * 12 + fenced(LIMIT.format(30)),
        {"one.py": "import os\nlimit = 20\n", "two.py": "import os\nlimit = 30\n"}),
    "a heading, then code that is shown": (
        "### one.py\n" + LIMIT.format(20) + "### two.py\n```python\n# one.py\nlimit = 10\n```\n"
        + fenced(LIMIT.format(30)),
        {"one.py": "import os\nlimit = 20\n", "two.py": "import os\nlimit = 30\n"}),
    "a path that another heading mentions": (
        "### one.py\n" + LIMIT.format(20) + "### two.py\n### Same as in `one.py`\n" + LIMIT.format(30),
        {"one.py": "import os\nlimit = 20\n", "two.py": "import os\nlimit = 30\n"}),
    **{
        f"another file that may not be edited, as {line!r}": (
            "### one.py\n" + LIMIT.format(20) + f"{line}\n" + fenced(LIMIT.format(30)), reason)
        for line, reason in (
            ("**../two.py**", Reason.BAD_PATH), ("`.git/config`", Reason.BAD_PATH),
            ("File: ../two.py", Reason.BAD_PATH),
            ("In `nope.py`:", Reason.NOT_FOUND), ("### In `nope.py`:", Reason.NOT_FOUND), ("nope.py", Reason.NOT_FOUND),
        )
    },
    "a file of another folder": (fenced(edit("old/pkg/util.py", "import os\n", "import re\n")), Reason.NOT_FOUND),
    "a renaming": (fenced("### one.py -> three.py\n" + LIMIT.format(20)), Reason.NOT_FOUND),
    **{
        f"a new file that is none, as {line!r}": (f"{line}\n{NEW}", reason)
        for line, reason in (
            *(((word, Reason.MALFORMED)) for word in ("**SEARCH/REPLACE:**", "yes/no:", "helper.function", "`f()`:")),
            *((f"### {word}", Reason.BAD_PATH) for word in (
                "and/or", "TCP/IP", "1/2", "os.path", "self.run", "np.array", "Node.js", "Add support for foo.bar",
                "`None`", "New in 1.2.rc1", "self.config", "np.r", "ctx.service", "src/newpkg/", "tests/regression")),
            ("### path/to/file.py", Reason.NO_EDIT),
        )
    },
    "the class of a fence": (f"### src/new.py\n```{{.python}}\n{NEW}```\n", {"src/new.py": "n = 1\n"}),
    "the prompt's example, then the edit": (
        "The format:\n```\n### path/to/file.py\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE\n```\n" + G, RIGHT),
    "both files in one sentence": (
        "### one.py\n" + LIMIT.format(20) + "Now do in `two.py` what `one.py` has:\n" + fenced(LIMIT.format(30)),
        Reason.BAD_PATH),
    "a file named some lines above": (
        "### one.py\n" + LIMIT.format(20) + "The same is in `two.py`.\nToo low.\nSo:\n" + fenced(LIMIT.format(30)),
        Reason.BAD_PATH),
    "a new file under a heading": (f"### Change 4: `tests/test_x.py`\n{NEW}", {"tests/test_x.py": "n = 1\n"}),
    "a new file with a bold label": (f"**File:** tests/test_x.py\n{NEW}", {"tests/test_x.py": "n = 1\n"}),
    "tests for a file": (f"### New tests for a.py\n{NEW}", Reason.EXISTS),
    "an installed package": (
        fenced("### /usr/lib/site-packages/src/pkg/util.py\n" + UTIL_BODY), Reason.BAD_PATH),
    "the language of a fence": (f"### src/new.py\n```search/replace\n{NEW}```\n", {"src/new.py": "n = 1\n"}),
    "a word between the path and the edit": (f"### src/new.py\nBefore/After:\n{NEW}", {"src/new.py": "n = 1\n"}),
    "a new file in a sentence": (f"Create `src/new.py`:\n```python\n{NEW}```\n", {"src/new.py": "n = 1\n"}),
    "a new file in a folder of a sentence": (f"### Create new.py in src/pkg\n{NEW}", {"src/pkg/new.py": "n = 1\n"}),
    "a new file in a list": (
        "1. New:\n\n   ### src/new.py\n   ```\n" + textwrap.indent(NEW, "   ") + "   ```\n", {"src/new.py": "n = 1\n"}),
    "a heading after the path": (fenced(f"### src/pkg/util.py\n### Step 1: fix the loop\n{UTIL_BODY}"), UTIL_RIGHT),
    "a name with a blank": (fenced(edit("src/pkg/b c.txt", "two\n", "2\n")), {"src/pkg/b c.txt": "one\n2\n"}),
    "a name that two files have": (fenced(edit("same.py", "s = 1\n", "s = 2\n")), Reason.NOT_FOUND),
    "a heading and a new file": (fenced(f"### Step 1: fix the loop\n{NEW}"), Reason.BAD_PATH),
    "a word and a new file": (fenced(f"### Fix\n{NEW}"), Reason.BAD_PATH),
    "a heading with dots and a new file": (fenced(f"### Step 1. Fix it...\n{NEW}"), Reason.BAD_PATH),
    "a heading with a slash and a new file": (fenced(f"### Handle None / empty input\n{NEW}"), Reason.BAD_PATH),
    "a heading with a version and a new file": (fenced(f"### Version 1.2\n{NEW}"), Reason.BAD_PATH),
    "a heading and an address": (fenced(f"### https://example.org/a.py\n{NEW}"), Reason.BAD_PATH),
    "a path in nine pairs of brackets": (
        fenced(f"### {'[' * 9}src/pkg/util.py{']' * 9}\n{UTIL_BODY}"), Reason.BAD_PATH),
    "two paths in one heading": (fenced(f"### src/pkg/util.py and a.py\n{UTIL_BODY}"), Reason.BAD_PATH),
    "a heading and no path": (fenced(f"### Step 1: fix the loop\n{UTIL_BODY}"), Reason.BAD_PATH),
    "no path": (fenced(UTIL_BODY), Reason.MALFORMED),
    "a new file": (fenced(f"### src/pkg/new.py\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file, said so": (fenced(f"### src/pkg/new.py (new file)\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file in words": (fenced(f"### New file: `src/pkg/new.py`\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file in more words": (fenced(f"### Create src/pkg/new.py for it\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file in a container": (fenced(f"### /testbed/src/pkg/new.py\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file at the top of a container": (fenced(f"### /testbed/new.py\n{NEW}"), {"new.py": "n = 1\n"}),
    "a new file by Windows' way": (fenced(f"### src\\pkg\\new.py\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file as a diff has it": (fenced(f"### b/src/pkg/new.py\n{NEW}"), {"src/pkg/new.py": "n = 1\n"}),
    "a new file outside": (fenced(f"### /etc/new.py\n{NEW}"), Reason.BAD_PATH),
    "a new file above": (fenced(f"### src/../../new.py\n{NEW}"), Reason.BAD_PATH),
    "a file above": (fenced(UTIL.replace("### src", "### ../src")), Reason.BAD_PATH),
    "a new Dockerfile": (fenced(f"### Dockerfile\n{NEW}"), {"Dockerfile": "n = 1\n"}),
    "a new file with a name of one word": (fenced(f"### File: `run`\n{NEW}"), {"run": "n = 1\n"}),
    "a new file that is edited": (
        fenced(f"### src/pkg/a.py\n{NEW}", edit("src/pkg/a.py", "n = 1\n", "n = 2\n")), {"src/pkg/a.py": "n = 2\n"}),
    "blank lines to be found in a new file": (
        fenced("### src/pkg/new.py\n" + NEW.replace("SEARCH\n", "SEARCH\n\n\n")), {"src/pkg/new.py": "n = 1\n"}),
    "blank lines to be found in an empty file": (
        fenced("### empty.py\n" + NEW.replace("SEARCH\n", "SEARCH\n  \n")), {"empty.py": "n = 1\n"}),
    "a file that is there, as a new one": (fenced(f"### a.py\n{NEW}"), Reason.EXISTS),
}  # fmt: skip

LEFT_OVER: dict[str, tuple[str, Expected]] = {
    "a divider": (fenced(edit("a.py", "y = 2\n", "y = 5\n=======\ny = 6\n")), Reason.MALFORMED),
    "a divider at the end": (fenced(edit("a.py", "y = 2\n", "y = 5\n=======\n")), Reason.MALFORMED),
    "a divider under a title of a document": (
        fenced(edit("docs/guide.md", "Text.\n", "Title\n=======\n")), {"docs/guide.md": "# Guide\n\nTitle\n=======\n"}),
    "a fence": (fenced(edit("a.py", "y = 2\n", "y = 5\n```\n")), Reason.MALFORMED),
    "a fence around": (fenced(edit("a.py", "y = 2\n", "```python\ny = 5\n```\n")), Reason.MALFORMED),
    "a pair of fences in a document": (
        fenced(edit("docs/guide.md", "Text.\n", "```\nx\n```\n")), {"docs/guide.md": "# Guide\n\n```\nx\n```\n"}),
    "half a pair of fences in a document": (fenced(edit("docs/guide.md", "Text.\n", "x\n```\n")), Reason.MALFORMED),
    "a shorter fence": (fenced(edit("a.py", "y = 2\n", "y = '''\n```\n'''\n"), fence="````"),
                        {"a.py": "x = 1\ny = '''\n```\n'''\nz = 3\n"}),
    "a mark of a conflict": (fenced(edit("a.py", "y = 2\n", "y = 5\n>>>>>>> main\n")), Reason.MALFORMED),
    **{
        f"elision {line!r}": (
            fenced(edit("src/pkg/util.py", "def f(n):\n    return n + 1\n", f"def f(n):\n    {line}\n    return n\n")),
            Reason.PLACEHOLDER)
        for line in (
            "# ... existing code ...", "# ... rest of the code", "# rest of the function remains unchanged", "...",
            "# (existing code)", "// existing code", "# … the same as before …", "/* ... */", "# [... other code ...]",
            "# ... (rest of the implementation)", "# unchanged", "<!-- ... -->", "# ...handle the rest...",
        )
    },
    **{
        f"elision {line!r} where code is lost": (
            fenced(edit("src/pkg/util.py", "def f(n):\n    return n + 1\n", f"def f(n):\n    {line}\n")),
            Reason.PLACEHOLDER)
        for line in (
            "pass  # existing code", "...  # unchanged", "# <existing code>", "# === unchanged ===", "# etc.",
            "# and so on...", "# Code continues...", "# more...", "# as before", "# leave as is", "# your code here",
            "# docstring omitted", "# same code as before", "# original code", "# \u2193 unchanged", "# as above",
            "raise NotImplementedError  # existing code", "# (docstring unchanged)",
            "# rest of f()", "# lines 10 to 80 are not shown", "# (12 lines omitted)", "# existing checks ...",
            "# \u22ee", "#### existing code ####", "# everything else stays the same", "# no changes needed here",
            "# TODO: existing implementation", "# insert existing code here", "# Placeholder for existing code",
            "# Previous code remains", "# 其余代码保持不变", "# 现有代码", "# 此处省略", "# \uff08原有代码\uff09",
            "# 保持不变",
            "# 既存のコード", "# その他のコードは省略", "# 残りのコードは変更なし", "# 나머지 코드는 동일",
            "# остальной код без изменений", "# reste du code inchangé", "# resto del código",
            "# Rest des Codes unverändert",
        )
    },
    **{
        f"{place} {line!r}": (fenced(edit(place, "two\n", f"{line}\n")), Reason.PLACEHOLDER)
        for place, line in (
            ("CMakeLists.txt", "# ... existing code ..."), ("page.html", "<!-- ... existing content ... -->"),
            ("list.yaml", "  ..."), ("notes.md", "<!-- ... rest of the file ... -->"), ("m.js", "(deleted)"),
        )
    },
    "a spread": (fenced(edit("n.js", "a\n", "a,\n...rest\n")), {"n.js": "f([\na,\n...rest\n])\n"}),
    **{
        f"tag {line!r}": (fenced(edit("m.js", "two\n", f"2\n{line}\n")), Reason.MALFORMED)
        for line in ("</REPLACE>", "</think>", "<|im_end|>", "<<<<<< SEARCH", "=====", "======")
    },
    "slips of the marker's width around an elision": (
        fenced(edit("m.js", "two\n", "// ... existing code ...\n").replace("=======", "=" * 8)
               .replace("<" * 7, "<" * 8).replace(">" * 7, ">" * 8)), Reason.PLACEHOLDER),
    "an elision in a new file": (
        fenced("### new.py\n" + NEW.replace("n = 1", "# ... rest of the code")), Reason.PLACEHOLDER),
    "an elision at the end": (
        fenced(edit("src/pkg/util.py", "import os\n", "import os\nimport re\n# ... rest of file unchanged\n")),
        Reason.PLACEHOLDER),
    **{
        f"comment {line!r}": (
            fenced(edit("a.py", "y = 2\n", f"{line}\ny = 5\n")), {"a.py": f"x = 1\n{line}\ny = 5\nz = 3\n"})
        for line in (
            "# keep the existing cache of paths", "# the remaining 3 are zero", "# wait for the rest...",
            "# same as f(x), but faster", "# TODO: ...", "# 省略号也算一个字符", "# 其他情况返回零", "# 方法的其他参数",
        )
    },
    "an ellipsis in the place of a body": (
        fenced(edit("src/pkg/util.py", "def f(n):\n    return n + 1\n", "def f(n):\n    ...\n")), Reason.PLACEHOLDER),
    "an ellipsis that is a new body": (
        fenced(edit("a.py", "z = 3\n", "z = 3\n\n\ndef h():\n    ...\n")), {"a.py": CODE + "\n\ndef h():\n    ...\n"}),
    "an ellipsis in a list": (
        fenced(edit("a.py", "z = 3\n", "z = 3\nw = [\n    ...\n]\n")), {"a.py": CODE + "w = [\n    ...\n]\n"}),
    "an ellipsis of a doctest": (
        fenced(edit("a.py", "z = 3\n", 'z = 3\n"""\n>>> for i in x:\n...     i\n...\n1\n"""\n')),
        {"a.py": CODE + '"""\n>>> for i in x:\n...     i\n...\n1\n"""\n'}),
    "an ellipsis of a document": (
        fenced(edit("docs/guide.md", "Text.\n", "...\n")), {"docs/guide.md": "# Guide\n\n...\n"}),
}  # fmt: skip

FORMAT: dict[str, tuple[str, Expected]] = {
    "no fence": (f"### a.py\n{BODY}", RIGHT),
    "no fence, in a sentence": (f"The fix:\n\n{GOOD}\nThat is all.", RIGHT),
    "a fence that is closed too early": (f"```python\n### a.py\n```\n{BODY}", RIGHT),
    "a fence before that is not closed": (f"```bash\nmake\n\n{G}", RIGHT),
    "tildes": (fenced(GOOD, fence="~~~"), RIGHT),
    "text after the last marker": (fenced(GOOD.replace("REPLACE", "REPLACE  # done")), RIGHT),
    "the fence on the last marker": ("```\n" + GOOD.replace("REPLACE\n", "REPLACE```"), RIGHT),
    "a remark on the first marker": (fenced(GOOD.replace("SEARCH", "SEARCH (line 2)")), RIGHT),
    **{
        f"{rest!r} on the first marker": (fenced(GOOD.replace("SEARCH\n", f"SEARCH {rest}\n")), RIGHT)
        for rest in ('"', "'", "(", "[]", ":", '""')
    },
    "code on the first marker": (fenced(GOOD.replace("SEARCH\n", "SEARCH y = 2\n")), Reason.MALFORMED),
    "a stray bracket": (fenced(GOOD.replace("SEARCH", "SEARCH>")), RIGHT),
    "small letters": (fenced(GOOD.replace("SEARCH", "search").replace("REPLACE", "replace")), RIGHT),
    "no blank in the markers": (fenced(GOOD.replace("< SEARCH", "<SEARCH").replace("> REPLACE", ">REPLACE")), RIGHT),
    "a short first marker": (fenced(GOOD.replace("<<<<<<<", "<<<<<<")), RIGHT),
    "a long divider": (fenced(GOOD.replace("=======", "=========")), RIGHT),
    "a short last marker": (fenced(GOOD.replace(">>>>>>>", ">>>>>")), RIGHT),
    "a divider that the file may have": (
        fenced(edit("docs/guide.md", "Text.\n", "x\n").replace("=======", "========")),
        {"docs/guide.md": "# Guide\n\nx\n"}),
    "a divider that the file has": (
        fenced(edit("docs/title.md", "Title\n", "x\n").replace("=======", "========")), Reason.MALFORMED),
    "two last markers, both unlike the first": (
        fenced(GOOD.replace("<<<<<<<", "<<<<<<<<"), ">>>>>>> REPLACE\n"), Reason.MALFORMED),
    "1001 edits": (fenced(*[GOOD] * 1001), Reason.MALFORMED),
    "two long dividers": (fenced(GOOD.replace("=======\n", "========\n========\n")), Reason.MALFORMED),
    "in a list": ("1. Fix it:\n\n   ```python\n" + textwrap.indent(GOOD, "   ") + "   ```\n", RIGHT),
    "markers as items of a list": (
        "### a.py\n- <<<<<<< SEARCH\n  y = 2\n  =======\n  y = 5\n  >>>>>>> REPLACE\n", RIGHT),
    "quoted": (textwrap.indent(GOOD, "> "), RIGHT),
    "indented markers alone": (
        fenced("### a.py\n  <<<<<<< SEARCH\ny = 2\n  =======\ny = 5\n  >>>>>>> REPLACE\n"), RIGHT),
    "an indented edit of indented code": (
        "  ```\n" + textwrap.indent(UTIL, "  ") + "  ```\n", UTIL_RIGHT),
    "a divider that is missing": (fenced(GOOD.replace("=======\n", "")), Reason.MALFORMED),
    "an end that is missing": (fenced(GOOD.replace(">>>>>>> REPLACE\n", "")), Reason.MALFORMED),
    "an edit within an edit": (fenced("### a.py\n<<<<<<< SEARCH\n" + BODY), Reason.MALFORMED),
    "full-width markers": (fenced(GOOD.replace("<", "\uff1c")), Reason.MALFORMED),
    "a diff": ("```diff\n--- a/a.py\n+++ b/a.py\n@@ -2 +2 @@\n-y = 2\n+y = 5\n```\n", Reason.NO_EDIT),
    "the example of the prompt, and the answer": (
        f"The format is `<<<<<<< SEARCH`, `=======`, `>>>>>>> REPLACE`.\n{G}", RIGHT),
    "an ambiguous search": (fenced(edit("src/pkg/util.py", "\n\n", "\n")), Reason.AMBIGUOUS),
}  # fmt: skip

SHAPES = {**THINKING, **DRAFTS, **PATHS, **LEFT_OVER, **FORMAT}


def became(answer: str, matching: Matching, marks: Marks | None = None) -> Expected | Rejected:
    tree = Tree.of(snapshot(FILES))
    outcome = read_answer(Completion(0, answer, Finish.STOP), tree, matching, marks or Marks())
    if isinstance(outcome, Patch):
        made = changed_files(outcome, tree.entries)
        return {change.path: None if change.after is None else change.after.decode() for change in made}
    return outcome


@pytest.mark.parametrize("matching", Matching)
@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_is_read_as_a_person_would(name: str, matching: Matching) -> None:
    answer, expected = SHAPES[name]
    outcome = became(answer, matching)
    assert (outcome.reason if isinstance(outcome, Rejected) else outcome) == expected, outcome


OWN = {
    "own marks of thinking": (f"%%\n{D}%/%\n{G}", Marks(think_start="%%", think_end="%/%"), RIGHT),
    "an own end of thinking": (f"{D}--- done ---\n{G}", Marks(think_end="--- done ---"), RIGHT),
    "own marks of the answer": (f"{D}@begin\n{G}@end\n{D}", Marks("@begin", "@end"), RIGHT),
    "an own mark before the answer": (f"{D}@begin\n{G}", Marks("@begin"), RIGHT),
    "an own mark that is missing": (G, Marks("@begin", "@end"), Reason.NO_EDIT),
    "known marks beside own ones": (f"<think>{D}</think>%%{D}%/%\n{G}", Marks("", "", "%%", "%/%"), RIGHT),
}


@pytest.mark.parametrize("name", OWN)
def test_marks_of_the_users_own_count_beside_the_known_ones(name: str) -> None:
    answer, marks, expected = OWN[name]
    outcome = became(answer, Matching.STRICT, marks)
    assert (outcome.reason if isinstance(outcome, Rejected) else outcome) == expected, outcome
