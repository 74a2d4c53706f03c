// The table of instances: columns, filters, sorting.

/** Returns the columns: {key, title, value, cell, run?, hint?}; those of a run repeat for each. */
function columns(runs) {
  const several = runs.length > 1;
  const text = (name, title) => ({ key: name, title, value: (row) => row[name], cell: (row) => visible(row[name]) });
  const shared = [
    {
      ...text("id", "instance"),
      cell: (row) => element("a", { href: address({ instance: row.id }) }, visible(row.id)),
    },
    text("repo", "repository"),
    text("difficulty", "difficulty"),
  ];
  const difference = {
    key: "difference",
    title: "resolved by",
    value: verdictText,
    cell: (row) => (differing(row) ? element("b", {}, verdictText(row)) : verdictText(row)),
  };
  return [...shared, ...(several ? [difference] : []), ...runs.flatMap((run, at) => runColumns(at, several))];
}

const SCORE = new Map([
  ["resolved", 5],
  ["not resolved", 4],
  ["ungraded", 3],
  ["failed", 2],
  ["infrastructure", 1],
]);

function runColumns(at, several) {
  const prefix = several ? `${letter(at)} ` : "";
  const score = (item) =>
    item &&
    SCORE.get(
      item.state !== "done"
        ? item.state
        : !known(item.resolved)
          ? "ungraded"
          : item.resolved
            ? "resolved"
            : "not resolved",
    );
  const number = (key, title, hint, write) => ({
    key: `${key}-${at}`,
    title: prefix + title,
    hint,
    run: at,
    number: true,
    value: (row) => row.runs[at]?.[key],
    cell: (row) => write(row.runs[at]?.[key], row.runs[at]),
  });
  return [
    {
      key: `outcome-${at}`,
      title: `${prefix}outcome`,
      run: at,
      value: (row) => score(row.runs[at]),
      cell: (row) => badge(row.runs[at]),
    },
    number("confidence", "vote share", "votes of the chosen patch among the valid samples", (value) =>
      percent(value, 0),
    ),
    number("valid", "valid", "valid samples of all", (value, item) => (item ? `${value} / ${item.samples}` : NOTHING)),
    ...(several ? [] : [number("distinct", "distinct", "patches that differ in more than formatting", count)]),
    number("recall", "recall", "share of the true files in the first list", (value) => percent(value, 0)),
  ];
}

/** Returns the table with its filters. Every change of them is kept in the address. */
function instancesView(runs, rows) {
  const all = columns(runs),
    body = element("tbody"),
    counted = element("p", { id: "counted", role: "status" });
  const draw = () => {
    const shown = shownRows(rows, all);
    body.replaceChildren(...shown.map((row) => rowOf(row, all)));
    counted.textContent = `${count(shown.length)} of ${plural(rows.length, "instance")}`;
  };
  const head = element(
    "tr",
    {},
    all.map((column) =>
      headingOf(column, () => {
        markSorted(head, all);
        draw();
      }),
    ),
  );
  markSorted(head, all);
  draw();
  return [
    filtersOf(runs, rows, draw),
    counted,
    element(
      "div",
      { class: "scroll" },
      element("table", { class: "instances", id: "instances-table" }, element("thead", {}, head), body),
    ),
  ];
}

/** Returns the rows as the address filters and sorts them: what the table shows, and what "next" leads through. */
function shownRows(rows, all) {
  const filters = view(),
    column = all.find((one) => one.key === filters.get("sort")) ?? all[0];
  return sorted(kept(rows, filters), column.value, filters.get("order") === "desc");
}

function rowOf(row, all) {
  return element(
    "tr",
    { class: differing(row) ? "differs" : null },
    all.map((column) => element("td", { class: classOf(column) }, column.cell(row))),
  );
}

function classOf(column) {
  return (
    [known(column.run) ? `run c${column.run % COLORS}` : "", column.number ? "number" : ""].join(" ").trim() || null
  );
}

/** A first click on a number sorts the largest first, on a text the first of the alphabet. */
function headingOf(column, changed) {
  const click = () => {
    const now = view(),
      same = (now.get("sort") ?? "id") === column.key,
      down = now.get("order") === "desc";
    remember({ sort: column.key, order: (same ? !down : column.number || known(column.run)) ? "desc" : "" });
    changed();
  };
  return element(
    "th",
    { scope: "col", class: classOf(column) },
    element("button", { type: "button", "data-sort": column.key, "data-tip": column.hint, click }, column.title),
  );
}

function markSorted(head, all) {
  const now = view(),
    direction = now.get("order") === "desc" ? "descending" : "ascending";
  all.forEach((column, at) =>
    head.children[at].setAttribute("aria-sort", column.key === (now.get("sort") ?? "id") ? direction : "none"),
  );
}

function filtersOf(runs, rows, draw) {
  const values = (read) =>
    [...new Set(rows.flatMap(read))]
      .filter(Boolean)
      .sort()
      .map((value) => [value, visible(value)]);
  const search = element("input", {
    type: "search",
    id: "filter-text",
    placeholder: "part of a name",
    value: view().get("text"),
    input: (event) => {
      remember({ text: event.target.value });
      draw();
    },
  });
  return element(
    "form",
    { class: "filters", role: "search", submit: (event) => event.preventDefault() },
    element("label", {}, "instance", search),
    choice(
      "repo",
      "repository",
      values((row) => row.repo),
      draw,
    ),
    choice(
      "difficulty",
      "difficulty",
      values((row) => row.difficulty),
      draw,
    ),
    choice(
      "state",
      "state",
      values((row) => row.runs.map(stateOf)),
      draw,
    ),
    choice("resolved", "resolved", verdictOptions(runs), draw),
  );
}

function verdictOptions(runs) {
  if (runs.length === 1)
    return [
      ["all", "resolved"],
      ["none", "not resolved"],
      ["unknown", "unknown"],
    ];
  return [
    ["differs", "runs differ"],
    ...runs.map((run, at) => [`only-${at}`, `only by ${letter(at)}`]),
    ["all", "by all"],
    ["none", "by none"],
    ["unknown", "unknown"],
  ];
}

function choice(key, title, options, draw) {
  const now = view().get(key) ?? "";
  const made = [["", "any"], ...options].map(([value, text]) =>
    element("option", { value, selected: value === now }, text),
  );
  return element(
    "label",
    {},
    title,
    element(
      "select",
      {
        id: `filter-${key}`,
        change: (event) => {
          remember({ [key]: event.target.value });
          draw();
        },
      },
      made,
    ),
  );
}
