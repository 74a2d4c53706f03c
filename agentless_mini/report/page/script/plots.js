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
const OVER_TESTS = [{ name: "rerank", key: "best_at_tests", value: "rate", shape: "circle" }];
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

const FAILURES = {
  id: "failures", title: "Failures by stage", label: "instances", list: (results) => results.failures,
  name: (item) => `${item.stage || "unknown"} (${item.state})`, whole: (results) => results.instances,
  note: "Infrastructure failures are not wrong answers, so the rates leave them out.",
};
const REJECTIONS = {
  id: "rejections", title: "Rejected samples, by reason", label: "samples",
  list: ({ format }) => format.rejected, name: (item) => item.reason, whole: ({ format }) => format.samples,
};

const inRounds = (run) => Boolean(run.results.evolution);

/** Returns all plots in two columns: lines, and bars. */
function charts(runs) {
  const mixed = runs.some(({ results }) => results.by_language.length > 1),
    languages = mixed ? [ratesBy(runs, "language", "language")] : [],
    rates = [ratesBy(runs, "difficulty", "difficulty"), ...languages, ratesBy(runs, "repo", "repository")],
    lines = [bestAtSamples(runs), runs.some(inRounds) ? byRound(runs) : null, bestAtTests(runs), calibration(runs)];
  return [el("div", lines), el("div", rates, countsBy(runs, FAILURES), countsBy(runs, REJECTIONS))];
}

// --- lines -----------------------------------------------------------------------------------------------------------

/** Several runs differ by color and methods by shape and dash; methods of a single run differ by color, too. */
const seriesColor = (runs, at, row) => (runs.length > 1 ? at % COLORS : row);

function bestAtSamples(runs) {
  const methods = (run) => (inRounds(run) ? ROUND_METHODS : METHODS),
    all = [...Map.groupBy(runs.flatMap(methods), (method) => method.name).values()].map(([method]) => method),
    stopped = runs.some((run) => run.results.stopping),
    notes = [...(runs.some(inRounds) ? [IN_ROUNDS] : []), ...(stopped ? [STOPPED] : [])],
    across = { label: "samples per instance (log 2)", log: true },
    frame = { id: "best-at-n", title: "Resolved by number of samples", legend: methodLegend(runs, all), across, notes };
  return curves(runs, methods, "samples", frame);
}

function bestAtTests(runs) {
  const title = "Resolved by number of generated tests",
    across = { label: "generated tests kept per instance" },
    frame = { id: "best-at-tests", title, legend: legend(runEntries(runs)), across, notes: [] };
  return curves(runs, () => OVER_TESTS, "tests", frame);
}

function methodLegend(runs, methods) {
  const color = (row) => (runs.length > 1 ? "none" : row);
  return legend([...runEntries(runs), ...methods.map((method, row) => ({ ...method, color: color(row) }))]);
}

/** Returns a plot of rates over a number; in its table the numbers are down, runs and methods across. */
function curves(runs, methods, unit, { notes, ...frame }) {
  const series = runs.flatMap((run, at) => methods(run).map((method, row) => curve(runs, at, method, unit, row))),
    numbers = new Set(series.flatMap(({ points }) => points.map((point) => point.x)));
  const cell = (point) => percent(point.y, 2) + (known(point.low) ? ` (${range(point.low, point.high)})` : ""),
    found = (number) => series.map(({ points }) => points.find(({ x }) => x === number)),
    cells = (number) => found(number).map((point) => (point ? cell(point) : ""));
  return linesPlot({
    ...frame,
    series,
    note: [...notes, ...curveNotes(series)].join(" "),
    headings: [unit, ...series.map(({ at, name }) => (runs.length > 1 ? `${letter(at)} ${name}` : name))],
    rows: [...numbers].sort((a, b) => a - b).map((number) => [number, ...cells(number)]),
  });
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
  return { ...method, at, color: seriesColor(runs, at, row), points };
}

function curveNotes(series) {
  const points = series.flatMap((one) => one.points),
    shown = points.filter((point) => known(point.y)),
    absent = "Some points are not known, since not every patch was graded (--grade all).",
    bare = series.some((one) => one.bare) ? ", of rerank; those of the others are among the values" : "";
  return [
    shown.some((point) => known(point.low)) && `Whiskers: 95 % intervals over instances${bare}.`,
    shown.some((point) => point.hollow) && "Hollow: some of these patches were not graded.",
    shown.length < points.length && absent,
  ].filter(Boolean);
}

function calibration(runs) {
  const point = (at, bin) => {
    const [low, high] = wilson(bin.resolved, bin.instances),
      bounds = range(bin.low, bin.high, 0),
      aside = (at - (runs.length - 1) / 2) * 0.02, // runs of one bin stand side by side
      of = `${bin.resolved} of ${plural(bin.instances, "instance")}`,
      tip = `${runName(runs, at)}\nconfidence ${bounds}: ${percent(bin.rate)}\n${of}\n95 %: ${range(low, high)}`,
      row = [runName(runs, at), bounds, bin.instances, bin.resolved, percent(bin.rate), range(low, high)];
    return { x: (bin.low + bin.high) / 2 + aside, y: bin.instances ? bin.rate : null, low, high, tip, row };
  };
  const points = (run, at) => run.results.calibration.map((bin) => point(at, bin)),
    series = runs.map((run, at) => ({ shape: "circle", color: at % COLORS, points: points(run, at) })),
    across = { whole: true, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], write: (tick) => 100 * tick };
  return linesPlot({
    id: "calibration",
    title: "Calibration: how often a patch with this confidence is right",
    series,
    legend: legend(runEntries(runs)),
    extra: (x, y) => bins(runs, x, y),
    across: { ...across, label: "confidence in the chosen patch (%)" },
    note: "Dotted: where the confidence equals the share that is right. Numbers at the bottom: instances in the bin. Whiskers: 95 % intervals (Wilson).",
    headings: ["run", "confidence", "instances", "resolved", "rate", "95 %"],
    rows: series.flatMap(({ points }) => points.map(({ row }) => row)),
  });
}

/** Draws the diagonal, the bounds of the bins and how many instances are in each. */
function bins(runs, x, y) {
  const all = runs.flatMap(({ results }, at) => results.calibration.map((bin) => ({ ...bin, at }))),
    edges = [...new Set(all.map((bin) => bin.high))].filter((edge) => edge < 1);
  const number = ({ low, high, at, instances }) => {
    const text = runs.length > 1 ? `${letter(at)} ${instances}` : `n = ${instances}`;
    return svgText("value", x((low + high) / 2), BOTTOM - 6 - 14 * (runs.length - 1 - at), text);
  };
  return [
    svgLine("ideal", x(0), y(0), x(1), y(1)),
    edges.map((edge) => svgLine("grid", x(edge), MARGIN.top, x(edge), BOTTOM)),
    all.map(number),
  ];
}

/** The rounds of evolutions: how many of their samples are valid, distinct and new, and how good these are. */
function byRound(runs) {
  const shown = runs.flatMap((run, at) => (inRounds(run) ? [{ at, told: run.results.evolution }] : [])),
    parts = shown.some(({ told }) => told.score === "tests") ? [...PARTS, ...PASSED] : PARTS,
    scales = [...new Set(shown.map(({ told }) => SCORES[told.score]))].join(" ");
  const line = (at, { score, rounds }, { name, key, isScore, ...drawn }, row) => {
    const share = (one) => (!isScore ? one[key] / one.samples : score === "tests" ? one[key] : null);
    const tip = (one) => `${runName(runs, at)}\nround ${one.round}: ${name} ${percent(share(one))}`,
      points = rounds.map((one) => ({ x: one.round, y: share(one), tip: tip(one) }));
    return { ...drawn, color: seriesColor(runs, at, row), points };
  };
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
  const counts = (one) => ["samples", "valid", "distinct", "new"].map((key) => number(one[key]));
  return rounds.map((one) => [one.round, ...counts(one), decimal(one.best, 3), decimal(one.mean, 3)]);
}

// --- bars ------------------------------------------------------------------------------------------------------------

function ratesBy(runs, name, title) {
  const bar = (item, at) => {
    const { instances, resolved, rate } = item,
      value = resolved / instances,
      [low, high] = known(rate) ? wilson(resolved, instances) : [null, null],
      [written, between] = [known(rate) ? percent(rate) : "not all are graded", range(low, high)],
      told = `${visible(item[name])}: ${resolved} of ${instances} resolved, ${written}`,
      tip = `${runName(runs, at)}\n${told}\n95 %: ${between}`,
      text = `${known(rate) ? "" : "\u2265 "}${percent(value, 0)} of ${instances}`;
    return { value, low, high, text, tip, cells: [instances, resolved, written, between] };
  };
  return barsPlot({
    id: `by-${name}`,
    title: `Resolved by ${title}`,
    ...barGroups(runs, (results) => results[`by_${name}`], (item) => item[name] || "(none)", bar),
    shares: true,
    label: "instances resolved (%)",
    note: "Whiskers: 95 % intervals (Wilson).",
    headings: [name, "run", "instances", "resolved", "rate", "95 %"],
  });
}

function countsBy(runs, { list, name, whole, ...frame }) {
  const bar = (item, at) => {
    const share = percent(item.count / whole(runs[at].results), 2),
      number = plural(item.count, frame.label.slice(0, -1)),
      tip = `${runName(runs, at)}\n${visible(name(item))}: ${number}, ${share} of all`;
    return { value: item.count, text: count(item.count), tip, cells: [count(item.count), share] };
  };
  return barsPlot({ ...frame, headings: ["", "run", frame.label, "of all"], ...barGroups(runs, list, name, bar) });
}

/** Returns the groups of a plot of bars in the order of first appearance, with its legend and the rows of its table. */
function barGroups(runs, list, name, bar) {
  const items = runs.flatMap((run, at) => list(run.results).map((item) => ({ at, item })));
  const groups = [...Map.groupBy(items, ({ item }) => name(item))].map(([title, found]) => {
    const here = (run) => found.find(({ at }) => at === run);
    return { name: title, bars: runs.map((_, at) => (here(at) ? bar(here(at).item, at) : null)) };
  });
  const row = (title, one, at) => (one ? [[visible(title), runName(runs, at), ...one.cells]] : []);
  const rows = groups.flatMap((group) => group.bars.flatMap((one, at) => row(group.name, one, at)));
  return { groups, legend: legend(runEntries(runs)), rows };
}
