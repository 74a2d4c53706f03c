// The rounds of evolutions: how many of their samples are valid, distinct and new, and how good these are.

const SCORES = {
  tests: "Scores: share of tests passed, the mean of those of reproducing and of regression tests.",
  "reward-model": "Scores: what the reward model gave; it is not asked after the last round.",
  none: "There are no scores, since neither tests nor a reward model said anything.",
};
const PARTS = [
  { name: "valid", shape: "circle", dash: null },
  { name: "distinct", shape: "square", dash: "6 3" },
  { name: "new (in no earlier round)", key: "new", shape: "triangle", dash: "2 3" },
];
// Shares, too, where tests give them; what a reward model gives has a scale of its own and stands in the table alone.
const PASSED = [
  { name: "best score", key: "best", shape: "diamond", dash: null },
  { name: "mean score", key: "mean", shape: "diamond", dash: "6 3" },
];

function inRounds(run) {
  return Boolean(run.results.evolution);
}

function byRound(runs) {
  const shown = runs.flatMap((run, at) => (inRounds(run) ? [{ at, told: run.results.evolution }] : []));
  const alone = runs.length === 1,
    parts = shown.some(({ told }) => told.score === "tests") ? [...PARTS, ...PASSED] : PARTS;
  const series = shown.flatMap(({ at, told }) =>
    parts.map((part, row) => ({ ...part, color: alone ? row : at % COLORS, points: alongRounds(runs, at, told, part) })),
  );
  const entries = [...runEntries(runs), ...parts.map((part, row) => ({ ...part, color: alone ? row : "none" }))];
  const kinds = [...new Set(shown.map(({ told }) => told.score))];
  return linesPlot({
    id: "rounds",
    title: "Rounds: what their samples are",
    series,
    legend: legend(entries),
    across: { label: "round" },
    up: "share (%)",
    note: `Means over instances, of scores over those that have one in the round. Valid, distinct and new: of the samples of a round. ${kinds.map((kind) => SCORES[kind]).join(" ")}`,
    ...roundsTable(shown.map(({ at, told }) => [runName(runs, at), told])),
  });
}

function alongRounds(runs, at, told, { name, key = name }) {
  const score = key === "best" || key === "mean";
  return told.rounds.map((one) => {
    const y = score ? (told.score === "tests" ? one[key] : null) : one[key] / one.samples;
    return { x: one.round, y, tip: `${runName(runs, at)}\nround ${one.round}: ${name} ${percent(y)}` };
  });
}

/** Returns headings and rows of rounds, `told` by the name of each run. */
function roundsTable(told) {
  const counts = ["samples", "valid", "distinct", "new"];
  const number = (value) => (Number.isInteger(value) ? value : decimal(value));
  return {
    headings: ["run", "round", ...counts, "best score", "mean score"],
    rows: told.flatMap(([name, { rounds }]) =>
      rounds.map((one) => [
        name,
        one.round,
        ...counts.map((key) => number(one[key])),
        decimal(one.best, 3),
        decimal(one.mean, 3),
      ]),
    ),
  };
}

/** Returns the rounds of one instance. */
function instanceRounds({ rounds, score }) {
  const { headings, rows } = roundsTable([["", { rounds }]]);
  const table = plainTable(
    headings.slice(1),
    rows.map((row) => row.slice(1)),
    { class: "growth" },
  );
  return [element("div", { class: "scroll" }, table), element("p", { class: "note" }, SCORES[score])];
}
