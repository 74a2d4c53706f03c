// What plots are drawn with: scales, axes, marks, legends; lines over a number, and horizontal bars.

const COLORS = 7;
const WIDTH = 560;
const HEIGHT = 330;
const MARGIN = { left: 58, right: 18, top: 14, bottom: 50 };
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
function spaced(numbers, place, least = 26) {
  const [first, ...others] = numbers,
    kept = [];
  for (const number of others.reverse()) {
    const fits = !kept.length || place(kept[0]) - place(number) >= least;
    if (fits && place(number) - place(first) >= least) kept.unshift(number);
  }
  return [first, ...kept];
}

/** Returns a mark of a point. */
function mark(shape, x, y, kind) {
  if (shape === "square") return el(`rect.${kind}`, { x: x - 4, y: y - 4, width: 8, height: 8 });
  if (shape === "diamond") return el(`path.${kind}`, { d: `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z` });
  if (shape === "triangle") return el(`path.${kind}`, { d: `M${x} ${y - 5}l5 9h-10z` });
  return el(`circle.${kind}`, { cx: x, cy: y, r: 4.2 });
}

/** Returns a legend: entries are {name, color, shape?, dash?}. */
function legend(entries) {
  const sign = (shape, dash) => [
    el("line.line", { x1: 0, x2: 28, y1: 6, y2: 6, "stroke-dasharray": dash }),
    mark(shape, 14, 6, "mark"),
  ];
  const items = entries.map(({ name, color, shape, dash }) =>
    el(
      "li",
      el(
        `svg.swatch.c${color}`,
        { viewBox: "0 0 28 12", "aria-hidden": "true" },
        shape ? sign(shape, dash) : el("rect.bar", { x: 6, y: 1, width: 16, height: 10 }),
      ),
      visible(name),
    ),
  );
  return el("ul.legend", items);
}

/** Returns the entries of a legend of runs; none is needed for a single one. */
function runEntries(runs) {
  return runs.length > 1 ? runs.map((run, at) => ({ name: runName(runs, at), color: at % COLORS })) : [];
}

function runName(runs, at) {
  const name = visible(runs[at].run.name);
  return runs.length > 1 ? `${letter(at)} ${name}` : name;
}

function whisker(x1, y1, x2, y2) {
  return el("line.whisker", { x1, y1, x2, y2 });
}

/** Returns a plot with its title, legend, notes, and its values as a table for who cannot see or wants to copy them. */
function figure({ id, title, note, legend: shown, headings, rows }, height, content) {
  const named = { id: `plot-${id}` },
    caption = el("figcaption", title),
    nothing = `Nothing to show. ${note ?? ""}`;
  if (!content || !rows.length) return el("figure.empty", named, caption, el("p.note", nothing));
  const said = `${title}. The values are in the table below.`;
  return el(
    "figure",
    named,
    caption,
    shown,
    el("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": said }, content),
    note ? el("p.note", note) : null,
    disclosure("Values", () => plainTable("table.values", headings, rows)),
  );
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
  const x = xAxis(across, points),
    y = yAxis(points, across.whole);
  return figure(frame, HEIGHT, [
    axes(x, across, y, up),
    extra ? extra(x.place, y.place) : null,
    series.map((one) => lineOf(one, x.place, y.place)),
  ]);
}

function xAxis({ log, ticks: wanted, whole }, points) {
  const numbers = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b),
    inset = whole ? 0 : 14,
    ends = whole ? [0, 1] : [numbers[0], numbers.at(-1)],
    place = scale(ends, [MARGIN.left + inset, WIDTH - MARGIN.right - inset], log ? Math.log2 : undefined);
  return { place, ticks: wanted ?? spaced(numbers, place) };
}

/** The axis of rates starts at 0 where all of the range is asked for, else below the least value. */
function yAxis(points, whole) {
  const ends = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]),
    [least, most] = [Math.min(...ends), Math.max(...ends)],
    pad = Math.max(0.01, 0.06 * (most - least)),
    steps = whole ? ticks(0, 1) : ticks(Math.max(0, least - pad), Math.min(1, most + pad));
  return { place: scale([steps[0], steps.at(-1)], [HEIGHT - MARGIN.bottom, MARGIN.top]), ticks: steps };
}

/** Returns the grid, the axes and their labels. */
function axes(x, { label, write = String }, y, up) {
  const bottom = HEIGHT - MARGIN.bottom,
    right = WIDTH - MARGIN.right,
    digits = y.ticks[1] - y.ticks[0] < 0.0099 ? 1 : 0,
    turned = `translate(14 ${(MARGIN.top + bottom) / 2}) rotate(-90)`;
  return [
    y.ticks.map((tick) => [
      el("line.grid", { x1: MARGIN.left, x2: right, y1: y.place(tick), y2: y.place(tick) }),
      el("text.tick", { x: MARGIN.left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, (100 * tick).toFixed(digits)),
    ]),
    x.ticks.map((tick) => [
      el("line.axis", { x1: x.place(tick), x2: x.place(tick), y1: bottom, y2: bottom + 5 }),
      el("text.tick", { x: x.place(tick), y: bottom + 19, "text-anchor": "middle" }, write(tick)),
    ]),
    el("line.axis", { x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    el("text.label", { x: (MARGIN.left + right) / 2, y: HEIGHT - 10, "text-anchor": "middle" }, label),
    el("text.label", { x: 0, y: 0, "text-anchor": "middle", transform: turned }, up),
  ];
}

function lineOf({ color, shape, dash, points, bare }, x, y) {
  const shown = points.filter((point) => known(point.y));
  return el(
    `g.c${color}`,
    el("path.line", { d: path(points, x, y), "stroke-dasharray": dash }),
    shown
      .filter((point) => known(point.low) && !bare)
      .map((point) => whisker(x(point.x), y(point.low), x(point.x), y(point.high))),
    shown.map((point) => mark(shape, x(point.x), y(point.y), point.hollow ? "mark.hollow" : "mark")),
    shown.map((point) => el("circle.touch", { cx: x(point.x), cy: y(point.y), r: 9, "data-tip": point.tip })),
  );
}

function path(points, x, y) {
  const step = (point, at) => {
    if (!known(point.y)) return "";
    return `${known(points[at - 1]?.y) ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
  };
  return points.map(step).join("");
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
    top = 8,
    left = 158,
    bottom = top + groups.length * step,
    steps = ticks(0, Math.max(...bars.map((bar) => bar.high ?? bar.value), shares ? 0.05 : 1), 4),
    x = scale([0, steps.at(-1)], [left, WIDTH - 92]);
  const write = (tick) => (shares ? (100 * tick).toFixed(0) : count(tick));
  const along = steps
    .filter((tick) => shares || Number.isInteger(tick))
    .map((tick) => [
      el("line.grid", { x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
      el("text.tick", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, write(tick)),
    ]);
  return figure(frame, bottom + 46, [
    along,
    el("line.axis", { x1: left, x2: left, y1: top, y2: bottom }),
    el("text.label", { x: (left + x(steps.at(-1))) / 2, y: bottom + 40, "text-anchor": "middle" }, label),
    groups.map((group, at) => barGroup(group, top + at * step, x, left)),
  ]);
}

function barGroup({ name, bars }, top, x, left) {
  const text = visible(name),
    short = text.length > LABEL_LETTERS ? `${text.slice(0, LABEL_LETTERS - 1)}\u2026` : text,
    middle = top + (bars.length * BAR) / 2 + 8;
  return [
    el("text.tick", { x: left - 8, y: middle, "text-anchor": "end", "data-tip": text }, short),
    bars.map((bar, run) => (bar ? barOf(bar, run, top + 4 + run * BAR, x, left) : null)),
  ];
}

function barOf({ value, low, high, text, tip }, run, top, x, left) {
  const middle = top + BAR / 2,
    end = Math.max(x(value), known(high) ? x(high) : 0);
  return el(
    `g.c${run % COLORS}`,
    { "data-tip": tip },
    el("rect.touch", { x: left, y: top, width: WIDTH - left, height: BAR }),
    el("rect.bar", { x: left, y: top + 1, width: Math.max(x(value) - left, 0.5), height: BAR - 2 }),
    known(low) ? whisker(x(low), middle, x(high), middle) : null,
    el("text.value", { x: end + 6, y: middle + 4 }, text),
  );
}
