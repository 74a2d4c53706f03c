// Instances of all runs as rows: what each run came to, how the runs differ, and which rows a filter keeps.

/** Returns one row for each instance of any run: {id, repo, difficulty, runs: [what the run has of it, or undefined]}. */
function instanceRows(runs) {
  const rows = new Map();
  runs.forEach((run, at) =>
    run.results.per_instance.forEach((item) => {
      if (!rows.has(item.id))
        rows.set(item.id, {
          id: item.id,
          repo: item.repo,
          difficulty: item.difficulty,
          runs: runs.map(() => undefined),
        });
      rows.get(item.id).runs[at] = item;
    }),
  );
  return [...rows.values()];
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
  if (verdict.startsWith("only-")) return `only ${letter(Number(verdict.slice(5)))}`;
  if (verdict === "some") return row.runs.flatMap((item, at) => (item.resolved ? [letter(at)] : [])).join(", ");
  return verdict === "all" && row.runs.length === 2 ? "both" : verdict;
}

function differing(row) {
  return /^only|^some/.test(verdictOf(row));
}

/** Returns one word on what a run came to with an instance; it is what filters by state know. */
function stateOf(item) {
  if (!item) return "absent";
  if (item.state !== "done") return item.state || "not attempted";
  return known(item.resolved) ? "graded" : "ungraded";
}

function badge(item) {
  if (!item) return element("span", { class: "badge none" }, "absent");
  const tip = visible([item.stage, item.failure].filter(Boolean).join(": "));
  if (!item.state) return element("span", { class: "badge none" }, "not attempted");
  if (item.state !== "done")
    return element(
      "span",
      { class: `badge ${item.state === "infrastructure" ? "infra" : "failed"}`, "data-tip": tip || null },
      visible([item.state, item.stage].filter(Boolean).join(": ")),
    );
  if (!known(item.resolved)) return element("span", { class: "badge none" }, "ungraded");
  return element(
    "span",
    { class: `badge ${item.resolved ? "yes" : "no"}` },
    item.resolved ? "resolved" : "not resolved",
  );
}

/** Returns the rows that the filters of the view keep. */
function kept(rows, filters) {
  const text = (filters.get("text") ?? "").toLowerCase(),
    verdict = filters.get("resolved");
  return rows.filter(
    (row) =>
      row.id.toLowerCase().includes(text) &&
      [undefined, row.repo].includes(filters.get("repo")) &&
      [undefined, row.difficulty].includes(filters.get("difficulty")) &&
      (!filters.has("state") || row.runs.some((item) => stateOf(item) === filters.get("state"))) &&
      (!verdict || verdict === verdictOf(row) || (verdict === "differs" && differing(row))),
  );
}

/** Returns the rows by the value of a column; what has none stands last either way. */
function sorted(rows, value, descending) {
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const [named, empty] = [rows.filter((row) => known(value(row))), rows.filter((row) => !known(value(row)))];
  named.sort((a, b) => order(value(a), value(b)) * (descending ? -1 : 1));
  return [...named, ...empty];
}
