// What plots are drawn with: scales, axes, marks, legends; lines over a number, and horizontal bars.

const COLORS = 7;
const WIDTH = 560;
const HEIGHT = 330;
const MARGIN = { left: 58, right: 18, top: 14, bottom: 50 };
const BOTTOM = HEIGHT - MARGIN.bottom;
const BAR = 13;
const LABEL_LETTERS = 24;

/** Returns a function from values to places; `by` is the identity or Math.log2. */
function scale([low, high], [from, to], by = (value) => value) {
  const width = by(high) - by(low) || 1;
  return (value) => from + ((by(value) - by(low)) / width) * (to - from);
}

/** Returns round numbers that cover the values, some `wanted` of them. */
function ticks(low, high, wanted = 5) {
  const rough = Math.max(high - low, 1e-9) / wanted,
    power = 10 ** Math.floor(Math.log10(rough)),
    step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999),
    first = Math.floor(low / step + 1e-6),
    last = Math.ceil(high / step - 1e-6);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
}

/** Returns the numbers of an ascending list that fit side by side on an axis: the first, then from the right. */
function spaced([first, ...others], place, least = 26) {
  const kept = [];
  for (const number of others.reverse()) {
    const fits = !kept.length || place(kept[0]) - place(number) >= least;
    if (fits && place(number) - place(first) >= least) kept.unshift(number);
  }
  return [first, ...kept];
}

/** Returns a mark of a point. */
function mark(shape, x, y, kind) {
  if (shape === "square") return svgRect(kind, x - 4, y - 4, 8, 8);
  if (shape === "diamond") return el(`path.${kind}`, { d: `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z` });
  if (shape === "triangle") return el(`path.${kind}`, { d: `M${x} ${y - 5}l5 9h-10z` });
  return el(`circle.${kind}`, { cx: x, cy: y, r: 4.2 });
}

/** Returns a legend: entries are {name, color, shape?, dash?}. */
function legend(entries) {
  const swatch = { viewBox: "0 0 28 12", "aria-hidden": "true" };
  const entry = ({ name, color, shape, dash }) => {
    const line = () => svgLine("line", 0, 6, 28, 6, { "stroke-dasharray": dash }),
      sign = shape ? [line(), mark(shape, 14, 6, "mark")] : svgRect("bar", 6, 1, 16, 10);
    return el("li", el(`svg.swatch.c${color}`, swatch, sign), visible(name));
  };
  return el("ul.legend", entries.map(entry));
}

const runName = (runs, at) => (runs.length > 1 ? `${letter(at)} ` : "") + visible(runs[at].run.name);

/** Returns the entries of a legend of runs; none is needed for a single one. */
const runEntries = (runs) =>
  runs.length > 1 ? runs.map((run, at) => ({ name: runName(runs, at), color: at % COLORS })) : [];

/** Returns a plot with its title, legend, notes, and its values as a table for who cannot see or wants to copy them. */
function figure({ id, title, note, legend: shown, headings, rows }, height, content) {
  const start = [{ id: `plot-${id}` }, el("figcaption", title)];
  if (!content || !rows.length) return el("figure.empty", ...start, el("p.note", `Nothing to show. ${note ?? ""}`));
  const said = { role: "img", "aria-label": `${title}. The values are in the table below.` },
    values = disclosure("Values", () => table("table.values", headings, rows));
  const drawn = el("svg", { viewBox: `0 0 ${WIDTH} ${height}`, ...said }, content);
  return el("figure", ...start, shown, drawn, note ? el("p.note", note) : null, values);
}

// --- lines -----------------------------------------------------------------------------------------------------------

/**
 * Returns a plot of series, each {color, shape, dash, bare?, points: [{x, y, low?, high?, hollow?, tip}]}. A point
 * whose y is null is left out and interrupts its line; a bare line has no whiskers. `across` is {label, log?, whole?,
 * ticks?, write?}, `up` the label of the other axis; `extra` draws under it all.
 */
function linesPlot({ series, across, up = "instances resolved (%)", extra, ...frame }) {
  const points = series.flatMap((one) => one.points).filter((point) => known(point.y));
  if (!points.length) return figure(frame);
  const [x, alongX] = xAxis(across, points),
    [y, alongY] = yAxis(points, across.whole, up),
    lines = series.map((one) => lineOf(one, x, y));
  return figure(frame, HEIGHT, [alongY, alongX, extra ? extra(x, y) : null, lines]);
}

/** Returns the scale of an axis and what is drawn of it, as `yAxis`. */
function xAxis({ log, ticks: wanted, whole, label, write = String }, points) {
  const numbers = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b),
    [inset, ends] = whole ? [0, [0, 1]] : [14, [numbers[0], numbers.at(-1)]],
    right = WIDTH - MARGIN.right,
    place = scale(ends, [MARGIN.left + inset, right - inset], log ? Math.log2 : undefined);
  const drawn = (wanted ?? spaced(numbers, place)).map((tick) => [
    svgLine("axis", place(tick), BOTTOM, place(tick), BOTTOM + 5),
    svgText("tick", place(tick), BOTTOM + 19, write(tick)),
  ]);
  const axis = svgLine("axis", MARGIN.left, BOTTOM, right, BOTTOM);
  return [place, [drawn, axis, svgText("label", (MARGIN.left + right) / 2, HEIGHT - 10, label)]];
}

/** The axis of rates starts at 0 where all of the range is asked for, else below the least value. */
function yAxis(points, whole, label) {
  const ends = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]),
    [least, most] = [Math.min(...ends), Math.max(...ends)],
    pad = Math.max(0.01, 0.06 * (most - least)),
    steps = whole ? ticks(0, 1) : ticks(Math.max(0, least - pad), Math.min(1, most + pad)),
    place = scale([steps[0], steps.at(-1)], [BOTTOM, MARGIN.top]),
    digits = steps[1] - steps[0] < 0.0099 ? 1 : 0,
    turned = { transform: `translate(14 ${(MARGIN.top + BOTTOM) / 2}) rotate(-90)` };
  const drawn = steps.map((tick) => [
    svgLine("grid", MARGIN.left, place(tick), WIDTH - MARGIN.right, place(tick)),
    svgText("tick", MARGIN.left - 8, place(tick) + 4, (100 * tick).toFixed(digits), "end"),
  ]);
  return [place, [drawn, svgText("label", 0, 0, label, "middle", turned)]];
}

function lineOf({ color, shape, dash, points, bare }, x, y) {
  const shown = points.filter((point) => known(point.y)),
    step = (point, at) => (known(points[at - 1]?.y) ? "L" : "M") + `${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`,
    d = points.map((point, at) => (known(point.y) ? step(point, at) : "")).join("");
  const whiskers = bare ? [] : shown.filter((point) => known(point.low));
  return el(
    `g.c${color}`,
    el("path.line", { d, "stroke-dasharray": dash }),
    whiskers.map((point) => svgLine("whisker", x(point.x), y(point.low), x(point.x), y(point.high))),
    shown.map((point) => mark(shape, x(point.x), y(point.y), point.hollow ? "mark.hollow" : "mark")),
    shown.map((point) => el("circle.touch", { cx: x(point.x), cy: y(point.y), r: 9, "data-tip": point.tip })),
  );
}

// --- bars ------------------------------------------------------------------------------------------------------------

/**
 * Returns a plot of bars, one group for each name, in it one bar for each run. `groups` are [{name, bars: [{value,
 * low?, high?, text, tip} or null]}]; values are shares where `shares` is set, else counts.
 */
function barsPlot({ groups, shares, label, ...frame }) {
  const bars = groups.flatMap((group) => group.bars).filter(known);
  if (!bars.length) return figure(frame);
  const step = groups[0].bars.length * BAR + 9,
    [top, left] = [8, 158],
    bottom = top + groups.length * step,
    steps = ticks(0, Math.max(...bars.map((bar) => bar.high ?? bar.value), shares ? 0.05 : 1), 4),
    x = scale([0, steps.at(-1)], [left, WIDTH - 92]),
    written = steps.filter((tick) => shares || Number.isInteger(tick));
  return figure(frame, bottom + 46, [
    written.map((tick) => [
      svgLine("grid", x(tick), top, x(tick), bottom),
      svgText("tick", x(tick), bottom + 17, shares ? (100 * tick).toFixed(0) : count(tick)),
    ]),
    svgLine("axis", left, top, left, bottom),
    svgText("label", (left + x(steps.at(-1))) / 2, bottom + 40, label),
    groups.map((group, at) => barGroup(group, top + at * step, x, left)),
  ]);
}

function barGroup({ name, bars }, top, x, left) {
  const text = visible(name),
    short = text.length > LABEL_LETTERS ? `${text.slice(0, LABEL_LETTERS - 1)}\u2026` : text,
    middle = top + (bars.length * BAR) / 2 + 8;
  return [
    svgText("tick", left - 8, middle, short, "end", { "data-tip": text }),
    bars.map((bar, run) => (bar ? barOf(bar, run, top + 4 + run * BAR, x, left) : null)),
  ];
}

function barOf({ value, low, high, text, tip }, run, top, x, left) {
  const middle = top + BAR / 2,
    end = Math.max(x(value), known(high) ? x(high) : 0);
  return el(
    `g.c${run % COLORS}`,
    { "data-tip": tip },
    svgRect("touch", left, top, WIDTH - left, BAR),
    svgRect("bar", left, top + 1, Math.max(x(value) - left, 0.5), BAR - 2),
    known(low) ? svgLine("whisker", x(low), middle, x(high), middle) : null,
    svgText("value", end + 6, middle + 4, text, "start"),
  );
}
