// The runs side by side: one column each, then who resolved what the other did not, then their settings.

function runsView(runs) {
  const differ = new Set(runs.map(({ run }) => run.fingerprint)).size > 1,
    told = "These runs are of different data: compare them by the instances that they share.",
    compared = () => [runsTable(runs), differ ? el("p.message", told) : "", pairsTable(runs)];
  const settings = disclosure("Settings and versions", () => settingsTable(runs));
  return [...(runs.length > 1 ? compared() : [factsOf(runs[0])]), settings];
}

// Names and cells; a fact that has a third part is left out where that is so of no run.
const FACTS = [
  ["resolved", resolvedCell, isRepaired],
  ["dataset", ({ run }) => [visible(run.dataset), small(`fingerprint ${visible(run.fingerprint).slice(0, 12)}`)]],
  ["model", ({ run }) => visible(run.model)],
  ["started", ({ run }) => visible(run.started).replace("T", " ").slice(0, 16)],
  ["instances", instancesCell],
  ["infrastructure failures", failuresCell],
  ["localization: recall of files", foundCell("recall", "recall_any")],
  ["localization: all files found", foundCell("all_found", "all_found_any")],
  ["valid samples", ({ results: { format: told } }) => [percent(told.rate), ofAll(told.valid, told.samples)], isRepaired],
  ["oracle (pass@k)", oracleCell, isRepaired],
  ["systems: mean, oracle, chosen", systemsCell, ({ results }) => results.systems],
  ["samples saved by stopping early", savedCell, ({ results }) => results.stopping],
  ["tokens", tokensCell],
  ["time", timeCell],
  ["price", priceCell],
];

/** Tells whether more was wanted of a run than files: else there is nothing to be resolved. */
function isRepaired({ run }) {
  return run.settings.until !== "localize";
}

const factsFor = (runs) => FACTS.filter(([, , there]) => !there || runs.some(there));
const ofAll = (number, all) => small(`${count(number)} of ${count(all)}`);

/** Returns the facts of a single run, which has nothing to stand beside. */
function factsOf(run) {
  const scope = intervalScope([run]);
  return el("dl.facts", factsFor([run]).map(([name, cell]) => el("div", el("dt", name), el("dd", cell(run, scope)))));
}

function runsTable(runs) {
  const scope = intervalScope(runs);
  const heading = (run, at) => el(`span.run.c${at % COLORS}`, el("span.chip", letter(at)), visible(run.run.name));
  // Where the screen is narrow, cells stand below each other, each with the letter of its run.
  const cellOf = (run, at, cell) => el(`td.c${at % COLORS}`, { "data-run": letter(at) }, cell(run, scope));
  const rows = factsFor(runs).map(([name, cell]) => [name, ...runs.map((run, at) => cellOf(run, at, cell))]);
  return table("table.runs", ["", ...runs.map(heading)], rows);
}

/** Returns the range in which the intervals of all runs are drawn, so that they can be compared by eye. */
function intervalScope(runs) {
  const ends = runs.flatMap(({ results: { resolved } }) => [resolved.low, resolved.high]).filter(known);
  return ends.length ? [Math.max(0, Math.min(...ends) - 0.02), Math.min(1, Math.max(...ends) + 0.02)] : [0, 1];
}

function systemsCell({ results: { systems } }) {
  if (!systems) return NOTHING;
  const { mean, oracle, chosen, gap } = systems;
  const won = gap ? `${percent(gap.share)} of the gap (${range(gap.low, gap.high)})` : "no gap";
  return [[mean, oracle, chosen].map((share) => percent(share)).join(", "), small(won)];
}

function resolvedCell({ results: { resolved } }, scope) {
  const { count: number, of, rate, low, high } = resolved,
    told = `${count(number)} of ${count(of)}`,
    x = scale(scope, [0, 160]);
  const marks = () => [svgLine("range", x(low), 6, x(high), 6), el("circle.middle", { cx: x(rate), cy: 6, r: 4 })],
    hidden = { viewBox: "0 0 160 12", "aria-hidden": "true" };
  return [
    el("strong.big", percent(rate)),
    small(known(rate) ? told : `at least ${told}, not all graded`),
    known(low) ? el("svg.interval", hidden, svgLine("grid", 0, 6, 160, 6), marks()) : null,
    small(known(low) ? `95 %: ${range(low, high)}` : ""),
  ];
}

function instancesCell({ results: { instances, attempted, done, graded } }) {
  return [count(instances), small(`${count(attempted)} attempted, ${count(done)} done, ${count(graded)} graded`)];
}

function failuresCell({ results: { failures } }) {
  return count(failures.reduce((sum, item) => sum + (item.state === "infrastructure" ? item.count : 0), 0));
}

function foundCell(first, any) {
  return ({ results: { localization: found } }) => [percent(found[first]), small(`${percent(found[any])} in any list`)];
}

function oracleCell({ results: { pass_at_k: points, oracle_at_n: ends } }) {
  const exact = points.filter((point) => known(point.value)),
    shown = exact.length ? [...new Set([exact[0], exact.at(-1)])] : [],
    pairs = shown.map((point) => el("span.pair", `pass@${point.k} `, el("b", percent(point.value)))),
    told = shown.length ? pairs : [NOTHING, small("not every patch was graded")],
    last = ends?.at(-1);
  return last ? [`any of ${last.n} `, el("b", percent(last.rate)), small("of round 0:"), told] : told;
}

function savedCell({ results: { stopping } }) {
  if (!stopping) return NOTHING;
  const ended = `${count(stopping.stopped)} of ${plural(stopping.instances, "instance")} ended early`;
  return [percent(stopping.share), small(`${count(stopping.saved)} of ${count(stopping.wanted)}; ${ended}`)];
}

/** Returns whether some samples came without a number of tokens. */
const isUntold = ({ untold }) => Boolean(untold && (untold.prompt_tokens || untold.completion_tokens));

function tokensCell({ cost }) {
  const told = `${brief(cost.prompt_tokens)} prompt, ${brief(cost.completion_tokens)} completion`,
    cached = `${brief(cost.cached_tokens)} of the prompt cached; prefill ratio ${decimal(cost.prefill_ratio)}`,
    untold = "the server did not report the tokens of some samples: these are not in the sums";
  return [told, small(cached), isUntold(cost) ? small(untold) : null];
}

function timeCell({ cost }) {
  const [model, boxes, grading] = [cost.model_seconds, cost.sandbox_seconds, cost.grading_seconds].map(duration);
  return [duration(cost.wall_seconds), small(`model ${model}, boxes ${boxes}, grading ${grading}`)];
}

function priceCell({ cost }) {
  if (!cost.price) return NOTHING;
  const { total, ...parts } = cost.price,
    told = Object.entries(parts).map(([name, value]) => `${visible(name)} ${decimal(value)}`);
  return [`${isUntold(cost) ? "at least " : ""}${decimal(total)}`, small(told.join(", "))];
}

/** Returns how each later run stands to the first one, over the instances that both have graded. */
function pairsTable(runs) {
  const verdicts = ({ results }) => new Map(results.per_instance.map(({ id, resolved }) => [id, resolved])),
    [first, ...others] = runs.map(verdicts);
  const rows = others.map((second, at) => {
    const shared = [...first.keys()].filter((id) => known(first.get(id)) && known(second.get(id)));
    const number = (a, b) => shared.filter((id) => first.get(id) === a && second.get(id) === b).length,
      [onlyFirst, onlySecond] = [number(true, false), number(false, true)],
      numbers = [shared.length, number(true, true), onlyFirst, onlySecond, number(false, false)],
      p = mcnemar(onlyFirst, onlySecond);
    return [`A and ${letter(at + 1)}`, ...numbers.map(count), p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`];
  });
  const resolved = ["both resolved", "only the first", "only the second", "neither"];
  return table("table.pairs", ["pair", "graded by both", ...resolved, "McNemar's exact test"], rows);
}

/** Returns every setting and version; what differs between the runs is marked and stands first. */
function settingsTable(runs) {
  const flat = runs.map(({ run }) => new Map([...leaves(run.settings, ""), ...leaves(run.versions, "version of ")])),
    names = [...new Set(flat.flatMap((settings) => [...settings.keys()]))];
  const differs = (name) => new Set(flat.map((settings) => settings.get(name))).size > 1;
  const rows = [...names.filter(differs), ...names.filter((name) => !differs(name))].map((name) => [
    differs(name) ? el("mark", visible(name)) : visible(name),
    ...flat.map((settings) => visible(settings.get(name) ?? NOTHING)),
  ]);
  return table("table.settings", ["", ...runs.map((run, at) => runName(runs, at))], rows);
}

function leaves(value, name) {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return [[name, typeof value === "string" ? value : JSON.stringify(value)]];
  const below = (key) => (name && !name.endsWith(" ") ? `${name}.${key}` : name + key);
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, below(key)));
}
