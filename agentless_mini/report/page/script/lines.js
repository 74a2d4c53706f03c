// Plots of lines over a number: samples, tests, vote share.

/**
 * Returns a plot of series, each {name, color, shape, dash, bare?, points: [{x, y, low?, high?, hollow?, tip}]}. A point
 * whose y is null is left out and interrupts its line; a bare line has no whiskers. `across` is {label, log?, ticks?, write?}, `up` the label of the other axis; `extra` draws under it all.
 */
function linesPlot({ id, title, note, series, across, up = "instances resolved (%)", legend: shown, headings, rows, extra }) {
  const height = 330,
    points = series.flatMap((one) => one.points).filter((point) => known(point.y));
  if (!points.length) return emptyFigure(id, title, note);
  const x = xAxis(across, points),
    y = yAxis(points, height, up, across.whole);
  const content = [
    ...axes(x, y, height),
    ...(extra ? extra(x.place, y.place, height) : []),
    ...series.map((one) => lineOf(one, x.place, y.place)),
  ];
  return figure({ id, title, note, legend: shown, height, content, headings, rows });
}

function xAxis({ label, log, ticks: wanted, write = String, whole }, points) {
  const numbers = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b);
  const domain = whole ? [0, 1] : [numbers[0], numbers[numbers.length - 1]];
  const inset = whole ? 0 : 14;
  const place = scale(domain, [MARGIN.left + inset, WIDTH - MARGIN.right - inset], log ? Math.log2 : undefined);
  return { place, label, write, ticks: wanted ?? spaced(numbers, place) };
}

/** The axis of rates starts at 0 where all of the range is asked for, else below the least value. */
function yAxis(points, height, label, whole) {
  const ends = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
  const pad = Math.max(0.01, 0.06 * (Math.max(...ends) - Math.min(...ends)));
  const low = whole ? 0 : Math.max(0, Math.min(...ends) - pad),
    high = whole ? 1 : Math.min(1, Math.max(...ends) + pad);
  const steps = ticks(low, high);
  const place = scale([steps[0], steps[steps.length - 1]], [height - MARGIN.bottom, MARGIN.top]);
  const digits = steps[1] - steps[0] < 0.0099 ? 1 : 0;
  return { place, ticks: steps, label, write: (tick) => (100 * tick).toFixed(digits) };
}

function lineOf({ color, shape, dash, points, bare }, x, y) {
  const shown = points.filter((point) => known(point.y));
  return drawn(
    "g",
    { class: `c${color}` },
    drawn("path", { class: "line", d: path(points, x, y), "stroke-dasharray": dash }),
    shown
      .filter((point) => known(point.low) && !bare)
      .map((point) => whisker(x(point.x), y(point.low), x(point.x), y(point.high))),
    shown.map((point) => mark(shape, x(point.x), y(point.y), { class: point.hollow ? "mark hollow" : "mark" })),
    shown.map((point) =>
      drawn("circle", { class: "touch", cx: x(point.x), cy: y(point.y), r: 9, "data-tip": point.tip }),
    ),
  );
}

function path(points, x, y) {
  let pen = "M";
  return points
    .map((point) => {
      if (!known(point.y)) {
        pen = "M";
        return "";
      }
      const step = `${pen}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
      pen = "L";
      return step;
    })
    .join("");
}
