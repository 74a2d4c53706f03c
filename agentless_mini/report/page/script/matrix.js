// Patches x tests, one letter for each outcome; and a diff with the numbers of both sides.

const LETTERS = { pass: "P", fail: "F", error: "E", timeout: "T", skip: "S", "not-collected": "N" };
const PATCHES = 40;
const TESTS = 150;
const DIFF_LINES = 2000;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)/;

const letterOf = (outcome) => (Object.hasOwn(LETTERS, outcome) ? LETTERS[outcome] : null);

/** Returns the matrix. Regression tests that pass with every patch say nothing and are only counted. */
function matrixView(instance, chosen, choose) {
  const patches = instance.patches.slice(0, PATCHES),
    graded = known(instance.gold_files),
    body = el("tbody");
  const isTelling = ({ origin }, at) =>
    origin !== "regression" || patches.some((patch) => (patch.verdicts[at] ?? "pass") !== "pass");
  const telling = instance.tests.map((test, at) => ({ test, at })).filter(({ test, at }) => isTelling(test, at)),
    more = capped(telling, TESTS, body, ({ test, at }) => testRow(test, at, patches, chosen)),
    signs = Object.entries(LETTERS).map(([name, sign]) => el("li", el(`span.cell.sample.${name}`, sign), name)),
    heads = patches.map((patch, at) => patchHead(patch, at, chosen, graded, choose)),
    same = instance.tests.length - telling.length;
  const tests = plural(same, "regression test passes", "regression tests pass"),
    left = same ? [`${tests} with every patch shown and ${same === 1 ? "is" : "are"} left out.`] : [],
    all = instance.patches.length,
    cut = all > PATCHES ? [`The first ${PATCHES} of ${all} patches are shown.`] : [];
  return [
    table("table.matrix", ["test", "from", "before", ...heads], body),
    more,
    el("p.note", [...left, ...cut].join(" ")),
    el("ul.legend", signs),
  ];
}

function patchHead(patch, at, chosen, graded, choose) {
  const isChosen = patch.normal === chosen,
    verdict = { true: "resolved", false: "not resolved" }[patch.resolved] ?? "not graded",
    told = [plural(patch.votes, "vote"), graded ? verdict : null, isChosen ? "chosen" : null].filter(known).join(", "),
    refused = patch.refusal ? `\nrefused: ${visible(patch.refusal)}` : "",
    button = el("button", { type: "button", click: () => choose(at) }, `P${at + 1}`),
    tip = { scope: "col", "data-tip": `P${at + 1}: ${told}${refused}` };
  return el(isChosen ? "th.chosen" : "th", tip, button, graded ? [el("br"), verdictDot(patch.resolved)] : null);
}

function testRow(test, at, patches, chosen) {
  const cell = (outcome, when, isChosen) => {
    const kind = `td.cell.${letterOf(outcome) ? outcome : "unknown"}${isChosen ? ".chosen" : ""}`;
    return el(kind, { "data-tip": `${visible(outcome || "not run")} ${when}` }, letterOf(outcome) ?? "\u00b7");
  };
  const name = el("span.name", { "data-tip": visible(test.id) }, visible(test.id)),
    votes = test.votes > 1 ? small(plural(test.votes, "vote")) : null;
  return el(
    "tr",
    el("th", { scope: "row" }, name),
    el("td", visible(test.origin), votes),
    cell(test.before, "before any patch", false),
    patches.map((patch, place) => cell(patch.verdicts[at], `with P${place + 1}`, patch.normal === chosen)),
  );
}

/** Returns the lines of a diff: {kind, text, before, after}. Headers of files are told by where they stand. */
function diffLines(diff) {
  let [before, after, inHunk] = [0, 0, false];
  const read = (text) => {
    const hunk = HUNK.exec(text);
    if (hunk) {
      [before, after, inHunk] = [Number(hunk[1]), Number(hunk[2]), true];
      return { kind: "hunk", text };
    }
    if (text.startsWith("diff --git ")) inHunk = false;
    if (!inHunk || text.startsWith("\\")) return { kind: "file", text };
    if (text.startsWith("+")) return { kind: "added", text, after: after++ };
    if (text.startsWith("-")) return { kind: "removed", text, before: before++ };
    return { kind: "same", text, before: before++, after: after++ };
  };
  return diff.replace(/\n$/, "").split("\n").map(read);
}

function diffView(diff) {
  const body = el("tbody");
  const row = ({ kind, text, before, after }) =>
    el(`tr.${kind}`, el("td.at", before ?? ""), el("td.at", after ?? ""), el("td.code", visible(text)));
  const more = capped(diffLines(diff), DIFF_LINES, body, row);
  return [el("div.scroll.diff", el("table", body)), more];
}
