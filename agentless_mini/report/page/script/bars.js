// Horizontal bars: one group for each name, in it one bar for each run.

const BAR = 13;
const LABEL_LETTERS = 24;

/**
 * Returns a plot of bars. `groups` are [{name, bars: [{run, value, low?, high?, text, tip} or null]}]; values are
 * shares where `shares` is set, else counts.
 */
function barsPlot({ id, title, note, groups, shares, label, legend: shown, headings, rows }) {
  const bars = groups.flatMap((group) => group.bars).filter(known);
  if (!bars.length) return emptyFigure(id, title, note);
  const several = Math.max(...groups.map((group) => group.bars.length)),
    step = several * BAR + 9;
  const top = 8,
    bottom = top + groups.length * step,
    height = bottom + 46,
    left = 158;
  const most = Math.max(...bars.map((bar) => bar.high ?? bar.value), shares ? 0.05 : 1);
  const steps = ticks(0, most, 4),
    x = scale([0, steps[steps.length - 1]], [left, WIDTH - 92]);
  const content = [
    ...barAxis(steps, x, { top, bottom, height, left }, shares, label),
    ...groups.map((group, at) => groupOf(group, top + at * step, x, left)),
  ];
  return figure({ id, title, note, legend: shown, height, content, headings, rows });
}

function barAxis(steps, x, { top, bottom, height, left }, shares, label) {
  const marks = steps
    .filter((tick) => shares || Number.isInteger(tick))
    .map((tick) =>
      drawn(
        "g",
        {},
        drawn("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
        said(x(tick), bottom + 17, shares ? (100 * tick).toFixed(0) : count(tick), {
          class: "tick",
          "text-anchor": "middle",
        }),
      ),
    );
  const middle = (left + x(steps[steps.length - 1])) / 2;
  return [
    ...marks,
    drawn("line", { class: "axis", x1: left, x2: left, y1: top, y2: bottom }),
    said(middle, height - 6, label, { class: "label", "text-anchor": "middle" }),
  ];
}

function groupOf({ name, bars }, top, x, left) {
  const text = visible(name),
    height = bars.length * BAR;
  return drawn(
    "g",
    {},
    said(
      left - 8,
      top + height / 2 + 8,
      text.length > LABEL_LETTERS ? `${text.slice(0, LABEL_LETTERS - 1)}\u2026` : text,
      { class: "tick", "text-anchor": "end", "data-tip": text },
    ),
    bars.map((bar, at) => (bar ? barOf(bar, top + 4 + at * BAR, x, left) : null)),
  );
}

function barOf({ run, value, low, high, text, tip }, top, x, left) {
  const middle = top + BAR / 2,
    end = Math.max(x(value), known(high) ? x(high) : 0);
  return drawn(
    "g",
    { class: `c${run % COLORS}`, "data-tip": tip },
    drawn("rect", { class: "touch", x: left, y: top, width: WIDTH - left, height: BAR }),
    drawn("rect", { class: "bar", x: left, y: top + 1, width: Math.max(x(value) - left, 0.5), height: BAR - 2 }),
    known(low) ? whisker(x(low), middle, x(high), middle) : null,
    said(end + 6, middle + 4, text, { class: "value" }),
  );
}
