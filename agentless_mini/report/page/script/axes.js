// What all plots share: the frame, scales, ticks, swatches, and a table of the same values.

const WIDTH = 560;
const MARGIN = { left: 58, right: 18, top: 14, bottom: 50 };
const MARKS = ["circle", "square", "triangle"];

/** Returns a function from values to places; `by` is the identity or Math.log2. */
function scale([low, high], [from, to], by = (value) => value) {
  const start = by(low),
    width = by(high) - start || 1;
  return (value) => from + ((by(value) - start) / width) * (to - from);
}

/** Returns round numbers that cover the values, some `wanted` of them. */
function ticks(low, high, wanted = 5) {
  const rough = Math.max(high - low, 1e-9) / wanted,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.floor(low / step + 1e-6),
    last = Math.ceil(high / step - 1e-6);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
}

/** Returns the numbers of an ascending list that fit side by side on an axis: both ends, and from the right what fits. */
function spaced(numbers, place, least = 26) {
  const [first, ...others] = numbers,
    kept = [];
  for (const number of others.reverse()) {
    const fits = !kept.length || place(kept[0]) - place(number) >= least;
    if (fits && place(number) - place(first) >= least) kept.unshift(number);
  }
  return [first, ...kept];
}

function said(x, y, text, attributes = {}) {
  return drawn("text", { x, y, ...attributes }, text);
}

/** Returns the grid, the axes and their labels. `x` and `y` are {place, ticks, label, write}. */
function axes(x, y, height) {
  const bottom = height - MARGIN.bottom,
    right = WIDTH - MARGIN.right;
  const across = y.ticks.map((tick) =>
    drawn(
      "g",
      {},
      drawn("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y.place(tick), y2: y.place(tick) }),
      said(MARGIN.left - 8, y.place(tick) + 4, y.write(tick), { class: "tick", "text-anchor": "end" }),
    ),
  );
  const along = x.ticks.map((tick) =>
    drawn(
      "g",
      {},
      drawn("line", { class: "axis", x1: x.place(tick), x2: x.place(tick), y1: bottom, y2: bottom + 5 }),
      said(x.place(tick), bottom + 19, x.write(tick), { class: "tick", "text-anchor": "middle" }),
    ),
  );
  return [
    ...across,
    ...along,
    drawn("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    said((MARGIN.left + right) / 2, height - 10, x.label, { class: "label", "text-anchor": "middle" }),
    said(0, 0, y.label, {
      class: "label",
      "text-anchor": "middle",
      transform: `translate(14 ${(MARGIN.top + bottom) / 2}) rotate(-90)`,
    }),
  ];
}

/** Returns the mark of a point: shape by method, filled where the value is fully known. */
function mark(shape, x, y, attributes) {
  if (shape === "square") return drawn("rect", { x: x - 4, y: y - 4, width: 8, height: 8, ...attributes });
  if (shape === "diamond") return drawn("path", { d: `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z`, ...attributes });
  if (shape === "triangle") return drawn("path", { d: `M${x} ${y - 5}l5 9h-10z`, ...attributes });
  return drawn("circle", { cx: x, cy: y, r: 4.2, ...attributes });
}

/** Returns a legend: entries are {name, color, shape?, dash?}. */
function legend(entries) {
  const items = entries.map(({ name, color, shape, dash }) =>
    element(
      "li",
      {},
      drawn(
        "svg",
        { class: `swatch c${color}`, viewBox: "0 0 28 12", "aria-hidden": "true" },
        shape
          ? [
              drawn("line", { class: "line", x1: 0, x2: 28, y1: 6, y2: 6, "stroke-dasharray": dash }),
              mark(shape, 14, 6, { class: "mark" }),
            ]
          : drawn("rect", { class: "bar", x: 6, y: 1, width: 16, height: 10 }),
      ),
      visible(name),
    ),
  );
  return element("ul", { class: "legend" }, items);
}

function whisker(x1, y1, x2, y2) {
  return drawn("line", { class: "whisker", x1, y1, x2, y2 });
}

/** Returns a plot with its title, legend, notes, and its values as a table for who cannot see or wants to copy them. */
function figure({ id, title, note, legend: shown, height, content, headings, rows }) {
  if (!rows.length) return emptyFigure(id, title, note);
  const picture = drawn(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": `${title}. The values are in the table below.` },
    content,
  );
  return element(
    "figure",
    { id: `plot-${id}` },
    element("figcaption", {}, title),
    shown,
    picture,
    note ? element("p", { class: "note" }, note) : null,
    disclosure("Values", () => element("div", { class: "scroll" }, plainTable(headings, rows, { class: "values" }))),
  );
}

function emptyFigure(id, title, note) {
  return element(
    "figure",
    { id: `plot-${id}`, class: "empty" },
    element("figcaption", {}, title),
    element("p", { class: "note" }, `Nothing to show. ${note ?? ""}`),
  );
}
