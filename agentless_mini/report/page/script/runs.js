// The runs side by side: one column each, then who resolved what the other did not, then their settings.

function runsView(runs) {
  return [
    ...(runs.length > 1
      ? [element("div", { class: "scroll" }, runsTable(runs)), ...sameData(runs), pairsTable(runs)]
      : [factsOf(runs[0])]),
    disclosure("Settings and versions", () => element("div", { class: "scroll" }, settingsTable(runs))),
  ];
}

const FACTS = [
  ["resolved", resolvedCell],
  ["dataset", ({ run }) => [visible(run.dataset), small(`fingerprint ${visible(run.fingerprint).slice(0, 12)}`)]],
  ["model", ({ run }) => visible(run.model)],
  ["started", ({ run }) => visible(run.started).replace("T", " ").slice(0, 16)],
  [
    "instances",
    ({ results }) => [
      count(results.instances),
      small(`${count(results.attempted)} attempted, ${count(results.done)} done, ${count(results.graded)} graded`),
    ],
  ],
  [
    "infrastructure failures",
    ({ results }) => count(total(results.failures.filter((item) => item.state === "infrastructure"))),
  ],
  [
    "localization: recall of files",
    ({ results: { localization: found } }) => [
      percent(found.recall),
      small(`${percent(found.recall_any)} in any list`),
    ],
  ],
  [
    "localization: all files found",
    ({ results: { localization: found } }) => [
      percent(found.all_found),
      small(`${percent(found.all_found_any)} in any list`),
    ],
  ],
  [
    "valid samples",
    ({ results: { format } }) => [percent(format.rate), small(`${count(format.valid)} of ${count(format.samples)}`)],
  ],
  ["oracle (pass@k)", ({ results }) => oracleCell(results)],
  ["samples saved by stopping early", ({ results }) => savedCell(results.stopping), ({ results }) => results.stopping],
  [
    "tokens",
    ({ cost }) => [
      `${brief(cost.prompt_tokens)} prompt, ${brief(cost.completion_tokens)} completion`,
      small(`${brief(cost.cached_tokens)} of the prompt cached; prefill ratio ${decimal(cost.prefill_ratio)}`),
      ...(isUntold(cost) ? [small("sums of what the server told: some samples came without")] : []),
    ],
  ],
  [
    "time",
    ({ cost }) => [
      duration(cost.wall_seconds),
      small(
        `model ${duration(cost.model_seconds)}, boxes ${duration(cost.sandbox_seconds)}, grading ${duration(cost.grading_seconds)}`,
      ),
    ],
  ],
  ["price", ({ cost }) => priceCell(cost)],
];

/** Returns the facts that there are of some run: one that has a third part is left out where that is so of none. */
function factsFor(runs) {
  return FACTS.filter(([, , there]) => !there || runs.some(there));
}

function small(text) {
  return element("small", {}, text);
}

function total(items) {
  return items.reduce((sum, item) => sum + item.count, 0);
}

/** Returns the facts of a single run, which has nothing to stand beside. */
function factsOf(run) {
  return element(
    "dl",
    { class: "facts" },
    factsFor([run]).map(([name, cell]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, cell(run, intervalScope([run])))),
    ),
  );
}

function runsTable(runs) {
  const scope = intervalScope(runs);
  const heading = (run, at) =>
    element(
      "span",
      { class: `run c${at % COLORS}` },
      element("span", { class: "chip" }, letter(at)),
      visible(run.run.name),
    );
  return plainTable(
    ["", ...runs.map(heading)],
    factsFor(runs).map(([name, cell]) => [name, ...runs.map((run) => cellOf(cell(run, scope)))]),
    { class: "runs" },
  );
}

function cellOf(content) {
  return element("span", {}, ...[content].flat());
}

/** Returns the range in which the intervals of all runs are drawn, so that they can be compared by eye. */
function intervalScope(runs) {
  const ends = runs.flatMap(({ results: { resolved } }) => [resolved.low, resolved.high]).filter(known);
  return ends.length ? [Math.max(0, Math.min(...ends) - 0.02), Math.min(1, Math.max(...ends) + 0.02)] : [0, 1];
}

function resolvedCell({ results: { resolved } }, scope) {
  const interval = known(resolved.low) ? `95 %: ${percent(resolved.low)} to ${percent(resolved.high)}` : "";
  return [
    element("strong", { class: "big" }, percent(resolved.rate)),
    small(
      `${known(resolved.rate) ? "" : "at least "}${count(resolved.count)} of ${count(resolved.of)}${known(resolved.rate) ? "" : ", not all graded"}`,
    ),
    known(resolved.low) ? intervalBar(resolved, scope) : null,
    small(interval),
  ];
}

function intervalBar({ rate, low, high }, scope) {
  const x = scale(scope, [0, 160]);
  return drawn(
    "svg",
    { class: "interval", viewBox: "0 0 160 12", "aria-hidden": "true" },
    drawn("line", { class: "grid", x1: 0, x2: 160, y1: 6, y2: 6 }),
    drawn("line", { class: "range", x1: x(low), x2: x(high), y1: 6, y2: 6 }),
    drawn("circle", { class: "middle", cx: x(rate), cy: 6, r: 4 }),
  );
}

function oracleCell({ pass_at_k: points, oracle_at_n: ends }) {
  if (!ends) return passAtCell(points);
  const last = ends[ends.length - 1];
  return [`any of ${last.n} `, element("b", {}, percent(last.rate)), small("of round 0:"), passAtCell(points)];
}

function savedCell(stopping) {
  if (!stopping) return NOTHING;
  return [
    percent(stopping.share),
    small(`${count(stopping.saved)} of ${count(stopping.wanted)}; ${count(stopping.stopped)} of ${plural(stopping.instances, "instance")} ended early`),
  ];
}

function passAtCell(points) {
  const exact = points.filter((point) => known(point.value));
  if (!exact.length) return [NOTHING, small("not every patch was graded")];
  return [...new Set([exact[0], exact[exact.length - 1]])].map((point) =>
    element("span", { class: "pair" }, `pass@${point.k} `, element("b", {}, percent(point.value))),
  );
}

/** Returns whether some samples came without a number of tokens. */
function isUntold({ untold }) {
  return Boolean(untold && (untold.prompt_tokens || untold.completion_tokens));
}

function priceCell(cost) {
  const { price } = cost;
  if (!price) return NOTHING;
  const parts = Object.entries(price)
    .filter(([name]) => name !== "total")
    .map(([name, value]) => `${visible(name)} ${decimal(value)}`);
  return [`${isUntold(cost) ? "at least " : ""}${decimal(price.total)}`, small(parts.join(", "))];
}

function sameData(runs) {
  if (new Set(runs.map(({ run }) => run.fingerprint)).size < 2) return [];
  return [
    element(
      "p",
      { class: "message" },
      "These runs are of different data: compare them by the instances that they share.",
    ),
  ];
}

/** Returns how each later run stands to the first one, over the instances that both have graded. */
function pairsTable(runs) {
  const verdicts = runs.map(({ results }) => new Map(results.per_instance.map((item) => [item.id, item.resolved])));
  const rows = runs.slice(1).map((run, at) => pairRow(verdicts[0], verdicts[at + 1], letter(at + 1)));
  const headings = [
    "pair",
    "graded by both",
    "both resolved",
    "only the first",
    "only the second",
    "neither",
    "McNemar's exact test",
  ];
  return element("div", { class: "scroll" }, plainTable(headings, rows, { class: "pairs", id: "pairs" }));
}

function pairRow(first, second, name) {
  const shared = [...first.keys()].filter((id) => known(first.get(id)) && known(second.get(id)));
  const number = (a, b) => shared.filter((id) => first.get(id) === a && second.get(id) === b).length;
  const onlyFirst = number(true, false),
    onlySecond = number(false, true);
  return [
    `A and ${name}`,
    ...[shared.length, number(true, true), onlyFirst, onlySecond, number(false, false)].map(count),
    chance(mcnemar(onlyFirst, onlySecond)),
  ];
}

/** Returns every setting and version; what differs between the runs is marked and stands first. */
function settingsTable(runs) {
  const flat = runs.map(({ run }) => new Map([...leaves(run.settings, ""), ...leaves(run.versions, "version of ")]));
  const names = [...new Set(flat.flatMap((settings) => [...settings.keys()]))];
  const differs = (name) => new Set(flat.map((settings) => settings.get(name))).size > 1;
  const ordered = [...names.filter(differs), ...names.filter((name) => !differs(name))];
  const rows = ordered.map((name) => [
    differs(name) ? element("mark", {}, visible(name)) : visible(name),
    ...flat.map((settings) => visible(settings.get(name) ?? NOTHING)),
  ]);
  return plainTable(["", ...runs.map((run, at) => `${runs.length > 1 ? `${letter(at)} ` : ""}${visible(run.run.name)}`)], rows, {
    class: "settings",
  });
}

function leaves(value, name) {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return [[name, typeof value === "string" ? value : JSON.stringify(value)]];
  return Object.entries(value).flatMap(([key, inner]) =>
    leaves(inner, name && !name.endsWith(" ") ? `${name}.${key}` : name + key),
  );
}
