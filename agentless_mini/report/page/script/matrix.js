// Patches x tests: one row for each test, one column for each patch, one letter for each outcome.

const LETTERS = new Map([
  ["pass", "P"],
  ["fail", "F"],
  ["error", "E"],
  ["timeout", "T"],
  ["skip", "S"],
  ["not-collected", "N"],
]);
const PATCHES = 40;
const TESTS = 150;

/** Returns the matrix. Regression tests that pass with every patch say nothing and are only counted. */
function matrixView(instance, chosen, choose) {
  const patches = instance.patches.slice(0, PATCHES);
  const silent = (test, at) =>
    test.origin === "regression" && patches.every((patch) => (patch.verdicts[at] ?? "pass") === "pass");
  const rows = instance.tests.map((test, at) => ({ test, at }));
  const telling = rows.filter(({ test, at }) => !silent(test, at)),
    same = rows.length - telling.length;
  const body = element("tbody");
  const more = capped(telling, TESTS, body, ({ test, at }) => testRow(test, at, patches, chosen));
  return [
    element(
      "div",
      { class: "scroll" },
      element("table", { class: "matrix" }, matrixHead(patches, chosen, choose, isGraded(instance)), body),
    ),
    more,
    element("p", { class: "note" }, matrixNote(instance, patches, same)),
    outcomesLegend(),
  ];
}

function matrixNote(instance, patches, same) {
  const parts = [];
  if (same)
    parts.push(
      `${plural(same, "regression test passes", "regression tests pass")} with every patch shown and ${same === 1 ? "is" : "are"} left out.`,
    );
  if (instance.patches.length > patches.length)
    parts.push(`The first ${patches.length} of ${instance.patches.length} patches are shown.`);
  return parts.join(" ");
}

function matrixHead(patches, chosen, choose, graded) {
  const cells = patches.map((patch, at) =>
    element(
      "th",
      { scope: "col", class: patch.normal === chosen ? "chosen" : null, "data-tip": patchTip(patch, at, chosen, graded) },
      element("button", { type: "button", click: () => choose(at) }, `P${at + 1}`),
      graded
        ? [element("br"), element("span", { class: `dot ${verdictClass(patch.resolved)}` }, verdictSign(patch.resolved))]
        : null,
    ),
  );
  return element(
    "thead",
    {},
    element(
      "tr",
      {},
      element("th", { scope: "col" }, "test"),
      element("th", { scope: "col" }, "from"),
      element("th", { scope: "col" }, "before"),
      cells,
    ),
  );
}

function patchTip(patch, at, chosen, graded) {
  const told = graded ? `, ${{ true: "resolved", false: "not resolved" }[patch.resolved] ?? "not graded"}` : "";
  return `P${at + 1}: ${plural(patch.votes, "vote")}${told}${patch.normal === chosen ? ", chosen" : ""}${patch.refusal ? `\nrefused: ${visible(patch.refusal)}` : ""}`;
}

function verdictClass(resolved) {
  return known(resolved) ? (resolved ? "yes" : "no") : "none";
}

function verdictSign(resolved) {
  return known(resolved) ? (resolved ? "\u2713" : "\u2717") : "?";
}

function testRow(test, at, patches, chosen) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("span", { class: "name", "data-tip": visible(test.id) }, visible(test.id))),
    element("td", {}, visible(test.origin), test.votes > 1 ? small(plural(test.votes, "vote")) : null),
    outcomeCell(test.before, "before any patch"),
    patches.map((patch, place) => outcomeCell(patch.verdicts[at], `with P${place + 1}`, patch.normal === chosen)),
  );
}

function outcomeCell(outcome, when, chosen = false) {
  const letter = LETTERS.get(outcome) ?? "";
  return element(
    "td",
    {
      class: `cell ${letter ? outcome : "unknown"}${chosen ? " chosen" : ""}`,
      "data-tip": `${visible(outcome || "not run")} ${when}`,
    },
    letter || "\u00b7",
  );
}

function outcomesLegend() {
  return element(
    "ul",
    { class: "legend" },
    [...LETTERS].map(([outcome, sign]) =>
      element("li", {}, element("span", { class: `cell sample ${outcome}` }, sign), outcome),
    ),
  );
}
