// The table of instances: what each run came to, how the runs differ; its columns, filters and order.

/** Returns one row for each instance of any run: {id, repo, difficulty, runs: [what the run has of it, if any]}. */
function instanceRows(runs) {
  const items = runs.flatMap((run, at) => run.results.per_instance.map((item) => ({ at, item })));
  return [...Map.groupBy(items, ({ item }) => item.id).values()].map((found) => {
    const { id, repo, difficulty } = found[0].item;
    return { id, repo, difficulty, runs: runs.map((_, run) => found.find(({ at }) => at === run)?.item) };
  });
}

/** Returns who resolved it: "all", "none", "only-1" (by its place), "some", or "unknown" where a run does not say. */
function verdictOf(row) {
  const told = row.runs.map((item) => item?.resolved);
  if (!told.every(known)) return "unknown";
  const winners = told.flatMap((resolved, at) => (resolved ? [at] : []));
  if (winners.length === told.length) return "all";
  return ["none", `only-${winners[0]}`][winners.length] ?? "some";
}

function verdictText(row) {
  const verdict = verdictOf(row);
  if (!differing(row)) return verdict === "all" && row.runs.length === 2 ? "both" : verdict;
  const winners = row.runs.flatMap((item, at) => (item.resolved ? [letter(at)] : [])).join(", ");
  return verdict === "some" ? winners : `only ${winners}`;
}

const differing = (row) => /^only|^some/.test(verdictOf(row));

/** Returns one word on what a run came to with an instance; it is what filters by state know. */
function stateOf(item) {
  if (!item) return "absent";
  if (item.state !== "done") return item.state || "not attempted";
  return known(item.resolved) ? "graded" : "ungraded";
}

function badge(item) {
  const state = stateOf(item);
  if (state === "graded") return item.resolved ? el("span.badge.yes", "resolved") : el("span.badge.no", "not resolved");
  if (!item?.state || state === "ungraded") return el("span.badge.none", state);
  const tip = visible([item.stage, item.failure].filter(Boolean).join(": ")) || null,
    kind = state === "infrastructure" ? "infra" : "failed";
  return el(`span.badge.${kind}`, { "data-tip": tip }, visible([state, item.stage].filter(Boolean).join(": ")));
}

// --- columns ---------------------------------------------------------------------------------------------------------

/** Returns the columns: {key, title, value, cell, run?, number?, hint?}; those of a run repeat for each. */
function columns(runs) {
  const text = (key, title) => ({ key, title, value: (row) => row[key], cell: (row) => visible(row[key]) });
  const link = (row) => el("a", { href: address({ instance: row.id }) }, visible(row.id)),
    resolvers = (row) => (differing(row) ? el("b", verdictText(row)) : verdictText(row)),
    several = runs.length > 1;
  const own = [{ ...text("id", "instance"), cell: link }, text("repo", "repository"), text("difficulty", "difficulty")],
    difference = { key: "difference", title: "resolved by", value: verdictText, cell: resolvers };
  return [...own, ...(several ? [difference] : []), ...runs.flatMap((run, at) => runColumns(at, several))];
}

/** The best outcomes have the highest numbers. */
function rankOf(item) {
  const last = ["infrastructure", "failed", "ungraded", "graded"].indexOf(stateOf(item));
  return last < 0 ? undefined : last + Number(item.resolved === true);
}

/** How many of the regression tests that were found were run; an instance without one is marked. */
function regressionsCell(item) {
  const told = item?.regressions;
  if (!told) return NOTHING;
  const text = told.run ? `${told.run} / ${told.found}` : "none run";
  return told.why ? el(told.run ? "span" : "span.badge.failed", { "data-tip": visible(told.why) }, text) : text;
}

function runColumns(run, several) {
  const column = (key, title, value, cell) => ({
    key: `${key}-${run}`,
    title: several ? `${letter(run)} ${title}` : title,
    run,
    value: (row) => value(row.runs[run]),
    cell: (row) => cell(row.runs[run]),
  });
  const number = (key, title, hint, write) => {
    const shown = column(key, title, (item) => item?.[key], (item) => write(item?.[key], item));
    return { ...shown, number: true, hint };
  };
  const whole = (share) => percent(share, 0),
    ofSamples = (value, item) => (item ? `${value} / ${item.samples}` : NOTHING);
  return [
    column("outcome", "outcome", rankOf, badge),
    number("confidence", "confidence", "probability that the chosen patch is right, of votes and tests", whole),
    number("valid", "valid", "valid samples of all", ofSamples),
    ...(several ? [] : [number("distinct", "distinct", "patches that differ in more than formatting", count)]),
    { ...column("regressions", "regression tests", (item) => item?.regressions?.run, regressionsCell), number: true },
    number("recall", "recall", "share of the true files in the first list", whole),
  ];
}

// --- the table -------------------------------------------------------------------------------------------------------

/** Returns the table with its filters. Every change of them is kept in the address. */
function instancesView(runs, rows) {
  const all = columns(runs),
    body = el("tbody"),
    counted = el("p", { id: "counted", role: "status" });
  const kind = (tag, { run, number }) => `${tag}${known(run) ? `.run.c${run % COLORS}` : ""}${number ? ".number" : ""}`,
    rowOf = (row) => el(differing(row) ? "tr.differs" : "tr", all.map((one) => el(kind("td", one), one.cell(row))));
  const heading = (column) => {
    const click = () => {
      sortBy(column);
      draw();
    };
    const button = { type: "button", "data-sort": column.key, "data-tip": column.hint, click };
    return el(kind("th", column), { scope: "col" }, el("button", button, column.title));
  };
  const heads = all.map(heading);
  const draw = () => {
    const shown = shownRows(rows, all),
      now = view(),
      direction = now.get("order") === "desc" ? "descending" : "ascending";
    body.replaceChildren(...shown.map(rowOf));
    counted.textContent = `${count(shown.length)} of ${plural(rows.length, "instance")}`;
    const order = (key) => (key === (now.get("sort") ?? "id") ? direction : "none");
    all.forEach(({ key }, at) => heads[at].setAttribute("aria-sort", order(key)));
  };
  draw();
  const shown = table("table.instances", heads, body);
  shown.firstChild.id = "instances-table";
  return [filtersOf(runs, rows, draw), counted, shown];
}

/** A first click on a number sorts the largest first, on a text the first of the alphabet. */
function sortBy({ key, number, run }) {
  const now = view(),
    same = (now.get("sort") ?? "id") === key,
    down = same ? now.get("order") !== "desc" : number || known(run);
  remember({ sort: key, order: down ? "desc" : "" });
}

/** Returns the rows as the address filters and sorts them: what the table shows, and what "next" leads through. */
function shownRows(rows, all) {
  const filters = view(),
    { value } = all.find((one) => one.key === filters.get("sort")) ?? all[0],
    direction = filters.get("order") === "desc" ? -1 : 1,
    found = rows.filter((row) => isKept(row, filters)),
    [named, empty] = [true, false].map((has) => found.filter((row) => known(value(row)) === has));
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  // What has no value stands last either way.
  return [...named.sort((a, b) => order(value(a), value(b)) * direction), ...empty];
}

function isKept(row, filters) {
  const verdict = filters.get("resolved");
  return (
    row.id.toLowerCase().includes((filters.get("text") ?? "").toLowerCase()) &&
    [undefined, row.repo].includes(filters.get("repo")) &&
    [undefined, row.difficulty].includes(filters.get("difficulty")) &&
    (!filters.has("state") || row.runs.some((item) => stateOf(item) === filters.get("state"))) &&
    (!verdict || verdict === verdictOf(row) || (verdict === "differs" && differing(row)))
  );
}

function filtersOf(runs, rows, draw) {
  const now = view();
  const changed = (key) => (event) => {
    remember({ [key]: event.target.value });
    draw();
  };
  const choice = (key, title, options) => {
    const option = ([value, text]) => el("option", { value, selected: value === (now.get(key) ?? "") }, text),
      made = [["", "any"], ...options].map(option);
    return el("label", title, el("select", { id: `filter-${key}`, change: changed(key) }, made));
  };
  const values = (read) => [...new Set(rows.flatMap(read))].filter(Boolean).sort().map((one) => [one, visible(one)]),
    search = { type: "search", id: "filter-text", placeholder: "part of a name", value: now.get("text") };
  return el(
    "form.filters",
    { role: "search", submit: (event) => event.preventDefault() },
    el("label", "instance", el("input", { ...search, input: changed("text") })),
    choice("repo", "repository", values((row) => row.repo)),
    choice("difficulty", "difficulty", values((row) => row.difficulty)),
    choice("state", "state", values((row) => row.runs.map(stateOf))),
    choice("resolved", "resolved", verdictOptions(runs)),
  );
}

function verdictOptions(runs) {
  if (runs.length === 1) return [["all", "resolved"], ["none", "not resolved"], ["unknown", "unknown"]];
  const single = runs.map((run, at) => [`only-${at}`, `only by ${letter(at)}`]);
  return [["differs", "runs differ"], ...single, ["all", "by all"], ["none", "by none"], ["unknown", "unknown"]];
}
