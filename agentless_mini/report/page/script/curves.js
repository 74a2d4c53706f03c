// The plots of lines: best of n samples or tests, and calibration.

const METHODS = [
  { name: "rerank", key: "best_at_n", value: "rate", shape: "circle", dash: null },
  { name: "vote", key: "vote_at_n", value: "rate", shape: "square", dash: "6 3", bare: true },
  { name: "oracle (pass@k)", key: "pass_at_k", value: "value", shape: "triangle", dash: "2 3", bare: true },
];

// Of a run in rounds a point is the end of a round; pass@k is an estimate for samples drawn alike, which they are not.
const ROUND_METHODS = [
  METHODS[0],
  METHODS[1],
  { name: "oracle (any right)", key: "oracle_at_n", value: "rate", shape: "triangle", dash: "2 3", bare: true },
  { name: "rerank of round 0 (plain sampling)", key: "plain_at_n", value: "rate", shape: "diamond", dash: "1 4", bare: true },
];
const IN_ROUNDS =
  "Of a run in rounds a point is the end of a round: what a run that ended there chooses. Its later samples were shown earlier ones, so plain sampling is known from its round 0 alone; a run without rounds beside it has the rest.";
const STOPPED =
  "Where sampling stopped early, larger n stand for what was drawn, and pass@k is no fair estimate: when to stop hung on the samples.";

function methodsOf(run) {
  return inRounds(run) ? ROUND_METHODS : METHODS;
}

/** Several runs differ by colour and methods by shape and dash; methods of a single run differ by colour, too. */
function bestAtSamples(runs) {
  const alone = runs.length === 1;
  const series = runs.flatMap((run, at) =>
    methodsOf(run).map((method, row) => ({
      ...method,
      color: alone ? row : at % COLORS,
      points: curve(runs, at, method, "n"),
    })),
  );
  const methods = [...new Map(runs.flatMap(methodsOf).map((method) => [method.name, method])).values()];
  const entries = [...runEntries(runs), ...methods.map((method, row) => ({ ...method, color: alone ? row : "none" }))];
  return linesPlot({
    id: "best-at-n",
    title: "Resolved by number of samples",
    series,
    legend: legend(entries),
    across: { label: "samples per instance (log 2)", log: true },
    note: [
      ...(runs.some(inRounds) ? [IN_ROUNDS] : []),
      ...(runs.some((run) => run.results.stopping) ? [STOPPED] : []),
      curveNote(series),
    ].join(" "),
    ...curveTable(runs, methodsOf, "n", "samples"),
  });
}

function bestAtTests(runs) {
  const method = { name: "rerank", key: "best_at_tests", value: "rate", shape: "circle", dash: null };
  const series = runs.map((run, at) => ({ ...method, color: at % COLORS, points: curve(runs, at, method, "tests") }));
  return linesPlot({
    id: "best-at-tests",
    title: "Resolved by number of generated tests",
    series,
    legend: legend(runEntries(runs)),
    across: { label: "generated tests kept per instance" },
    note: curveNote(series),
    ...curveTable(runs, () => [method], "tests", "tests"),
  });
}

function curve(runs, at, { name, key, value }, count) {
  return runs[at].results[key].map((point) => {
    const x = point.n ?? point.k ?? point.tests,
      graded = point.graded ?? (point.exact === false ? 0 : 1);
    const interval = known(point.low) ? `\n95 %: ${percent(point.low)} to ${percent(point.high)}` : "";
    const unknown = graded < 1 ? `\nknown for ${percent(graded)} of the instances` : "";
    return {
      x,
      y: point[value],
      low: point.low,
      high: point.high,
      hollow: graded < 1,
      tip: `${runName(runs, at)}\n${name} at ${x} ${count === "n" ? "samples" : "tests"}: ${percent(point[value])}${interval}${unknown}`,
    };
  });
}

function curveNote(series) {
  const points = series.flatMap((one) => one.points);
  const parts = [];
  if (points.some((point) => known(point.low) && known(point.y)))
    parts.push(
      `Whiskers: 95 % intervals over instances${series.some((one) => one.bare) ? ", of rerank; those of the others are among the values" : ""}.`,
    );
  if (points.some((point) => known(point.y) && point.hollow))
    parts.push("Hollow: some of these patches were not graded.");
  if (points.some((point) => !known(point.y)))
    parts.push("Some points are not known, since not every patch was graded (--grade all).");
  return parts.join(" ");
}

/** Returns headings and rows: the numbers down, runs and methods across; `methods` returns those of a run. */
function curveTable(runs, methods, count, heading) {
  const columns = runs.flatMap((run, at) =>
    methods(run).map((method) => ({ at, method, points: curve(runs, at, method, count) })),
  );
  const numbers = [...new Set(columns.flatMap((column) => column.points.map((point) => point.x)))].sort(
    (a, b) => a - b,
  );
  const name = ({ at, method }) => (runs.length > 1 ? `${letter(at)} ${method.name}` : method.name);
  const cell = (point) =>
    !point ? "" : percent(point.y, 2) + (known(point.low) ? ` (${percent(point.low)} to ${percent(point.high)})` : "");
  const rows = numbers.map((number) => [
    number,
    ...columns.map(({ points }) => cell(points.find((point) => point.x === number))),
  ]);
  return { headings: [heading, ...columns.map(name)], rows };
}

function calibration(runs) {
  const shape = "circle";
  const series = runs.map((run, at) => ({
    shape,
    dash: null,
    color: at % COLORS,
    points: run.results.calibration.map((bin) => {
      const [low, high] = wilson(bin.resolved, bin.instances),
        bounds = `${percent(bin.low, 0)} to ${percent(bin.high, 0)}`;
      const aside = (at - (runs.length - 1) / 2) * 0.02; // runs of one bin stand side by side
      return {
        x: (bin.low + bin.high) / 2 + aside,
        y: bin.instances ? bin.rate : null,
        low,
        high,
        bounds,
        bin,
        tip: `${runName(runs, at)}\nvote share ${bounds}: ${percent(bin.rate)}\n${bin.resolved} of ${plural(bin.instances, "instance")}\n95 %: ${percent(low)} to ${percent(high)}`,
      };
    }),
  }));
  const rows = series.flatMap((one, at) =>
    one.points.map((point) => [
      runName(runs, at),
      point.bounds,
      point.bin.instances,
      point.bin.resolved,
      percent(point.bin.rate),
      `${percent(point.low)} to ${percent(point.high)}`,
    ]),
  );
  return linesPlot({
    id: "calibration",
    title: "Calibration: vote share of the chosen patch and what it is worth",
    series,
    legend: legend(runEntries(runs)),
    extra: (x, y, height) => bins(runs, x, y, height),
    across: {
      label: "vote share of the chosen patch (%)",
      whole: true,
      ticks: [0, 0.25, 0.5, 0.75, 1],
      write: (tick) => 100 * tick,
    },
    note: "Dotted: a vote share that is the probability itself. Numbers at the bottom: instances in the bin. Whiskers: 95 % intervals (Wilson).",
    headings: ["run", "vote share", "instances", "resolved", "rate", "95 %"],
    rows,
  });
}

/** Draws the diagonal, the bounds of the bins and how many instances are in each. */
function bins(runs, x, y, height) {
  const bottom = height - MARGIN.bottom;
  const edges = [...new Set(runs.flatMap((run) => run.results.calibration.map((bin) => bin.high)))].filter(
    (edge) => edge < 1,
  );
  const numbers = runs.flatMap((run, at) =>
    run.results.calibration.map((bin) =>
      said(
        x((bin.low + bin.high) / 2),
        bottom - 6 - 14 * (runs.length - 1 - at),
        runs.length > 1 ? `${letter(at)} ${bin.instances}` : `n = ${bin.instances}`,
        { class: "value", "text-anchor": "middle" },
      ),
    ),
  );
  return [
    drawn("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    ...edges.map((edge) => drawn("line", { class: "grid", x1: x(edge), x2: x(edge), y1: MARGIN.top, y2: bottom })),
    ...numbers,
  ];
}
