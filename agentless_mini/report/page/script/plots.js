// Which plots there are: from the documents of the runs to lines and bars.

const METHODS = [
  { name: "rerank", key: "best_at_n", value: "rate", shape: "circle" },
  { name: "vote", key: "vote_at_n", value: "rate", shape: "square", dash: "6 3", bare: true },
  { name: "oracle (pass@k)", key: "pass_at_k", value: "value", shape: "triangle", dash: "2 3", bare: true },
];
// Of a run in rounds a point is the end of a round; pass@k takes samples to be drawn alike, and its later ones are not.
const ROUND_METHODS = [
  ...METHODS.slice(0, 2),
  { ...METHODS[2], name: "oracle (any right)", key: "oracle_at_n", value: "rate" },
  { ...METHODS[1], name: "rerank of round 0 (plain sampling)", key: "plain_at_n", shape: "diamond", dash: "1 4" },
];
const OVER_TESTS = { name: "rerank", key: "best_at_tests", value: "rate", shape: "circle" };
const IN_ROUNDS =
  "For a run in rounds, each point is the end of a round: the choice of a run that stops there. Later rounds saw earlier patches, so only round 0 is plain sampling; for more samples, compare with a run without rounds.";
const STOPPED =
  "Where sampling stopped early, larger n have the samples drawn until then, and pass@k is biased: the samples decided when to stop.";
const SCORES = {
  tests: "Scores: share of tests passed, the mean over reproducing and regression tests.",
  "reward-model": "Scores: what the reward model gave; it is not asked after the last round.",
  none: "There are no scores, since no test and no reward model scored a patch.",
};
const PARTS = [
  { name: "valid", key: "valid", shape: "circle" },
  { name: "distinct", key: "distinct", shape: "square", dash: "6 3" },
  { name: "new (in no earlier round)", key: "new", shape: "triangle", dash: "2 3" },
];
// Shares, too, where tests give them; what a reward model gives has a scale of its own and stands in the table alone.
const PASSED = [
  { name: "best score", key: "best", shape: "diamond", isScore: true },
  { name: "mean score", key: "mean", shape: "diamond", dash: "6 3", isScore: true },
];

/** Returns all plots in two columns: lines, and bars. */
function charts(runs) {
  const columns = [
    [bestAtSamples(runs), runs.some(inRounds) ? byRound(runs) : null, bestAtTests(runs), calibration(runs)],
    [
      ratesBy(runs, "by-difficulty", "by_difficulty", "difficulty", "difficulty"),
      ratesBy(runs, "by-repo", "by_repo", "repo", "repository"),
      countsBy(runs, {
        id: "failures",
        title: "Failures by stage",
        label: "instances",
        list: (run) => run.results.failures,
        name: (item) => `${item.stage || "unknown"} (${item.state})`,
        note: "Infrastructure failures are not wrong answers, so the rates leave them out.",
        whole: (run) => run.results.instances,
      }),
      countsBy(runs, {
        id: "rejections",
        title: "Rejected samples, by reason",
        label: "samples",
        list: (run) => run.results.format.rejected,
        name: (item) => item.reason,
        whole: (run) => run.results.format.samples,
      }),
    ],
  ];
  return columns.map((column) => el("div", column));
}

function inRounds(run) {
  return Boolean(run.results.evolution);
}

// --- lines -----------------------------------------------------------------------------------------------------------

/** Several runs differ by color and methods by shape and dash; methods of a single run differ by color, too. */
function bestAtSamples(runs) {
  const methods = (run) => (inRounds(run) ? ROUND_METHODS : METHODS),
    series = runs.flatMap((run, at) => methods(run).map((method, row) => curve(runs, at, method, "samples", row)));
  return linesPlot({
    id: "best-at-n",
    title: "Resolved by number of samples",
    series,
    legend: methodLegend(runs, [...new Map(runs.flatMap(methods).map((method) => [method.name, method])).values()]),
    across: { label: "samples per instance (log 2)", log: true },
    note: [
      runs.some(inRounds) ? IN_ROUNDS : null,
      runs.some((run) => run.results.stopping) ? STOPPED : null,
      ...curveNotes(series),
    ]
      .filter(known)
      .join(" "),
    ...curveTable(runs, series, "samples"),
  });
}

function bestAtTests(runs) {
  const series = runs.map((run, at) => curve(runs, at, OVER_TESTS, "tests", 0));
  return linesPlot({
    id: "best-at-tests",
    title: "Resolved by number of generated tests",
    series,
    legend: legend(runEntries(runs)),
    across: { label: "generated tests kept per instance" },
    note: curveNotes(series).join(" "),
    ...curveTable(runs, series, "tests"),
  });
}

function methodLegend(runs, methods) {
  const color = (row) => (runs.length > 1 ? "none" : row);
  return legend([...runEntries(runs), ...methods.map((method, row) => ({ ...method, color: color(row) }))]);
}

function curve(runs, at, method, unit, row) {
  const points = runs[at].results[method.key].map((point) => {
    const x = point.n ?? point.k ?? point.tests,
      y = point[method.value],
      graded = point.graded ?? (point.exact === false ? 0 : 1),
      interval = known(point.low) ? `\n95 %: ${range(point.low, point.high)}` : "",
      unknown = graded < 1 ? `\nknown for ${percent(graded)} of the instances` : "",
      tip = `${runName(runs, at)}\n${method.name} at ${x} ${unit}: ${percent(y)}${interval}${unknown}`;
    return { x, y, low: point.low, high: point.high, hollow: graded < 1, tip };
  });
  return { ...method, at, color: runs.length > 1 ? at % COLORS : row, points };
}

function curveNotes(series) {
  const points = series.flatMap((one) => one.points),
    shown = points.filter((point) => known(point.y)),
    absent = "Some points are not known, since not every patch was graded (--grade all).",
    bare = series.some((one) => one.bare) ? ", of rerank; those of the others are among the values" : "";
  return [
    ...(shown.some((point) => known(point.low)) ? [`Whiskers: 95 % intervals over instances${bare}.`] : []),
    ...(shown.some((point) => point.hollow) ? ["Hollow: some of these patches were not graded."] : []),
    ...(shown.length < points.length ? [absent] : []),
  ];
}

/** Returns headings and rows: the numbers down, runs and methods across. */
function curveTable(runs, series, heading) {
  const numbers = [...new Set(series.flatMap(({ points }) => points.map((point) => point.x)))].sort((a, b) => a - b);
  const cell = (point) =>
    point ? percent(point.y, 2) + (known(point.low) ? ` (${range(point.low, point.high)})` : "") : "";
  return {
    headings: [heading, ...series.map(({ at, name }) => (runs.length > 1 ? `${letter(at)} ${name}` : name))],
    rows: numbers.map((number) => [number, ...series.map(({ points }) => cell(points.find(({ x }) => x === number)))]),
  };
}

function calibration(runs) {
  const series = runs.map((run, at) => ({
    shape: "circle",
    color: at % COLORS,
    points: run.results.calibration.map((bin) => {
      const [low, high] = wilson(bin.resolved, bin.instances),
        bounds = range(bin.low, bin.high, 0),
        aside = (at - (runs.length - 1) / 2) * 0.02, // runs of one bin stand side by side
        of = `${bin.resolved} of ${plural(bin.instances, "instance")}`,
        told = `${runName(runs, at)}\nvote share ${bounds}: ${percent(bin.rate)}\n${of}\n95 %: ${range(low, high)}`;
      return {
        x: (bin.low + bin.high) / 2 + aside,
        y: bin.instances ? bin.rate : null,
        low,
        high,
        tip: told,
        row: [runName(runs, at), bounds, bin.instances, bin.resolved, percent(bin.rate), range(low, high)],
      };
    }),
  }));
  return linesPlot({
    id: "calibration",
    title: "Calibration: how often a patch with this vote share is right",
    series,
    legend: legend(runEntries(runs)),
    extra: (x, y) => bins(runs, x, y),
    across: {
      label: "vote share of the chosen patch (%)",
      whole: true,
      ticks: [0, 0.25, 0.5, 0.75, 1],
      write: (tick) => 100 * tick,
    },
    note: "Dotted: where the vote share equals the share that is right. Numbers at the bottom: instances in the bin. Whiskers: 95 % intervals (Wilson).",
    headings: ["run", "vote share", "instances", "resolved", "rate", "95 %"],
    rows: series.flatMap(({ points }) => points.map((point) => point.row)),
  });
}

/** Draws the diagonal, the bounds of the bins and how many instances are in each. */
function bins(runs, x, y) {
  const bottom = HEIGHT - MARGIN.bottom,
    edges = new Set(runs.flatMap((run) => run.results.calibration.map((bin) => bin.high)).filter((edge) => edge < 1));
  const number = (bin, at) => {
    const place = { x: x((bin.low + bin.high) / 2), y: bottom - 6 - 14 * (runs.length - 1 - at) },
      text = runs.length > 1 ? `${letter(at)} ${bin.instances}` : `n = ${bin.instances}`;
    return el("text.value", { ...place, "text-anchor": "middle" }, text);
  };
  return [
    el("line.ideal", { x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    [...edges].map((edge) => el("line.grid", { x1: x(edge), x2: x(edge), y1: MARGIN.top, y2: bottom })),
    runs.map((run, at) => run.results.calibration.map((bin) => number(bin, at))),
  ];
}

/** The rounds of evolutions: how many of their samples are valid, distinct and new, and how good these are. */
function byRound(runs) {
  const shown = runs.flatMap((run, at) => (inRounds(run) ? [{ at, told: run.results.evolution }] : [])),
    parts = shown.some(({ told }) => told.score === "tests") ? [...PARTS, ...PASSED] : PARTS;
  const point = (at, told, { name, key, isScore }, one) => {
    const y = !isScore ? one[key] / one.samples : told.score === "tests" ? one[key] : null;
    return { x: one.round, y, tip: `${runName(runs, at)}\nround ${one.round}: ${name} ${percent(y)}` };
  };
  const line = (at, told, part, row) => ({
    ...part,
    color: runs.length > 1 ? at % COLORS : row,
    points: told.rounds.map((one) => point(at, told, part, one)),
  });
  const scales = [...new Set(shown.map(({ told }) => SCORES[told.score]))].join(" ");
  return linesPlot({
    id: "rounds",
    title: "Rounds: what their samples are",
    series: shown.flatMap(({ at, told }) => parts.map((part, row) => line(at, told, part, row))),
    legend: methodLegend(runs, parts),
    across: { label: "round" },
    up: "share (%)",
    note: `Means over instances; scores over the instances that have one in the round. Valid, distinct and new are shares of a round's samples. ${scales}`,
    headings: ["run", ...ROUND_HEADINGS],
    rows: shown.flatMap(({ at, told }) => roundRows(told.rounds).map((row) => [runName(runs, at), ...row])),
  });
}

const ROUND_HEADINGS = ["round", "samples", "valid", "distinct", "new", "best score", "mean score"];

function roundRows(rounds) {
  const number = (value) => (Number.isInteger(value) ? value : decimal(value));
  return rounds.map((one) => [
    one.round,
    ...["samples", "valid", "distinct", "new"].map((key) => number(one[key])),
    decimal(one.best, 3),
    decimal(one.mean, 3),
  ]);
}

// --- bars ------------------------------------------------------------------------------------------------------------

function ratesBy(runs, id, key, name, title) {
  const rateText = (rate) => (known(rate) ? percent(rate) : "not all are graded");
  const bar = (item, at) => {
    const { instances, resolved, rate } = item,
      value = resolved / instances,
      [low, high] = known(rate) ? wilson(resolved, instances) : [null, null],
      told = `${visible(item[name])}: ${resolved} of ${instances} resolved, ${rateText(rate)}`;
    return {
      value,
      low,
      high,
      text: `${known(rate) ? "" : "\u2265 "}${percent(value, 0)} of ${instances}`,
      tip: `${runName(runs, at)}\n${told}\n95 %: ${range(low, high)}`,
      cells: [instances, resolved, rateText(rate), range(low, high)],
    };
  };
  return barsPlot({
    id,
    title: `Resolved by ${title}`,
    ...grouped(runs, (run) => run.results[key], (item) => item[name] || "(none)", bar),
    shares: true,
    label: "instances resolved (%)",
    note: "Whiskers: 95 % intervals (Wilson).",
    headings: [name, "run", "instances", "resolved", "rate", "95 %"],
  });
}

function countsBy(runs, { id, title, label, note, list, name, whole }) {
  const bar = (item, at) => {
    const share = percent(item.count / whole(runs[at]), 2),
      told = `${visible(name(item))}: ${plural(item.count, label.slice(0, -1))}, ${share} of all`;
    return {
      value: item.count,
      text: count(item.count),
      tip: `${runName(runs, at)}\n${told}`,
      cells: [count(item.count), share],
    };
  };
  const headings = ["", "run", label, "of all"];
  return barsPlot({ id, title, label, note, headings, ...grouped(runs, list, name, bar) });
}

/** Returns the groups of a plot of bars in the order of first appearance, with its legend and the rows of its table. */
function grouped(runs, list, name, bar) {
  const groups = new Map();
  runs.forEach((run, at) =>
    list(run).forEach((item) => {
      if (!groups.has(name(item))) groups.set(name(item), { name: name(item), bars: runs.map(() => null) });
      groups.get(name(item)).bars[at] = bar(item, at);
    }),
  );
  const rows = [...groups.values()].flatMap((group) =>
    group.bars.flatMap((one, at) => (one ? [[visible(group.name), runName(runs, at), ...one.cells]] : [])),
  );
  return { groups: [...groups.values()], legend: legend(runEntries(runs)), rows };
}
