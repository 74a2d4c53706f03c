// Patches x tests, one letter for each outcome; and a diff with the numbers of both sides.

const LETTERS = new Map(
  Object.entries({ pass: "P", fail: "F", error: "E", timeout: "T", skip: "S", "not-collected": "N" }),
);
const PATCHES = 40;
const TESTS = 150;
const DIFF_LINES = 2000;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)/;

/** Returns the matrix. Regression tests that pass with every patch say nothing and are only counted. */
function matrixView(instance, chosen, choose) {
  const patches = instance.patches.slice(0, PATCHES),
    graded = known(instance.gold_files),
    body = el("tbody");
  const isTelling = ({ origin }, at) =>
    origin !== "regression" || patches.some((patch) => (patch.verdicts[at] ?? "pass") !== "pass");
  const telling = instance.tests.map((test, at) => ({ test, at })).filter(({ test, at }) => isTelling(test, at)),
    more = capped(telling, TESTS, body, ({ test, at }) => testRow(test, at, patches, chosen));
  const legend = [...LETTERS].map(([outcome, sign]) => el("li", el(`span.cell.sample.${outcome}`, sign), outcome));
  const head = ["test", "from", "before"].map((text) => el("th", { scope: "col" }, text)),
    heads = patches.map((patch, at) => patchHead(patch, at, chosen, graded, choose));
  return [
    el("div.scroll", el("table.matrix", el("thead", el("tr", head, heads)), body)),
    more,
    el("p.note", matrixNote(instance, patches, instance.tests.length - telling.length)),
    el("ul.legend", legend),
  ];
}

function matrixNote({ patches: all }, { length: shown }, same) {
  const tests = plural(same, "regression test passes", "regression tests pass"),
    left = `${tests} with every patch shown and ${same === 1 ? "is" : "are"} left out.`,
    cut = `The first ${shown} of ${all.length} patches are shown.`;
  return [same ? left : "", all.length > shown ? cut : ""].filter(Boolean).join(" ");
}

function patchHead(patch, at, chosen, graded, choose) {
  const isChosen = patch.normal === chosen,
    verdict = { true: "resolved", false: "not resolved" }[patch.resolved] ?? "not graded",
    told = [plural(patch.votes, "vote"), graded ? verdict : null, isChosen ? "chosen" : null].filter(known).join(", "),
    refused = patch.refusal ? `\nrefused: ${visible(patch.refusal)}` : "";
  return el(
    isChosen ? "th.chosen" : "th",
    { scope: "col", "data-tip": `P${at + 1}: ${told}${refused}` },
    el("button", { type: "button", click: () => choose(at) }, `P${at + 1}`),
    graded ? [el("br"), verdictDot(patch.resolved)] : null,
  );
}

function testRow(test, at, patches, chosen) {
  const cell = (outcome, when, isChosen) => {
    const letter = LETTERS.get(outcome),
      kind = `td.cell.${letter ? outcome : "unknown"}${isChosen ? ".chosen" : ""}`;
    return el(kind, { "data-tip": `${visible(outcome || "not run")} ${when}` }, letter ?? "\u00b7");
  };
  return el(
    "tr",
    el("th", { scope: "row" }, el("span.name", { "data-tip": visible(test.id) }, visible(test.id))),
    el("td", visible(test.origin), test.votes > 1 ? small(plural(test.votes, "vote")) : null),
    cell(test.before, "before any patch", false),
    patches.map((patch, place) => cell(patch.verdicts[at], `with P${place + 1}`, patch.normal === chosen)),
  );
}

/** Returns the lines of a diff: {kind, text, before, after}. Headers of files are told by where they stand. */
function diffLines(diff) {
  let before = 0,
    after = 0,
    inHunk = false;
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
  const line = ({ kind, text, before, after }) =>
    el(`tr.${kind}`, el("td.at", before ?? ""), el("td.at", after ?? ""), el("td.code", visible(text)));
  const more = capped(diffLines(diff), DIFF_LINES, body, line);
  return [el("div.scroll.diff", el("table", body)), more];
}
