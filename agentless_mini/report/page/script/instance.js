// One instance in depth: the issue once, then what each run made of it.

const PATCH_ROWS = 12;

/** Returns what a packed block holds, or null where the page has none of this instance. */
async function unpacked(run, place) {
  const block = place < 0 ? null : byId(`depth-${run}-${place}`);
  if (!block) return null;
  const bytes = Uint8Array.from(atob(block.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** Fills the place of the view with an instance; `neighbours` are the ids before and after it in the table. */
async function showInstance(place, { runs, depth }, row, neighbours) {
  const found = await Promise.all(runs.map((run, at) => unpacked(at, (depth[at] ?? []).indexOf(row.id))));
  if (view().get("instance") !== row.id) return; // another one was asked for meanwhile
  const issue = found.find(known)?.issue;
  place.replaceChildren(
    navigation(neighbours),
    element("h1", {}, visible(row.id)),
    element("p", {}, visible([row.repo, row.difficulty].filter(Boolean).join(" \u00b7 "))),
    known(issue) ? issueCard(issue) : "",
    ...runs.map((run, at) => runSection(run, at, row.runs[at], found[at], runs.length > 1)),
  );
  scrollTo(0, 0);
}

function issueCard(issue) {
  return disclosure("Issue", () => textBlock(issue), { open: true, class: "card" });
}

/** Returns foreign text as it is written. */
function textBlock(text) {
  return element("div", { class: "issue" }, visible(text.replaceAll("\r\n", "\n")));
}

/** Returns whether there is a true patch that files and patches are held against: not so of a run on a user's issue. */
function isGraded(instance) {
  return known(instance.gold_files);
}

function navigation([before, after]) {
  const link = (id, text) => (id ? element("a", { href: address({ instance: id }) }, text) : null);
  return element(
    "nav",
    { "aria-label": "instances" },
    element("a", { href: address({ instance: "" }), id: "back" }, "\u2190 all instances"),
    link(before, "previous"),
    link(after, "next"),
  );
}

function runSection(run, at, item, instance, several) {
  const title = element(
    "h2",
    { class: `run c${at % COLORS}` },
    several ? element("span", { class: "chip" }, letter(at)) : null,
    visible(run.run.name),
    " ",
    badge(item),
  );
  const parts = instance
    ? depthOf(instance)
    : [
        element(
          "p",
          { class: "note" },
          item ? "The report holds nothing more of this instance." : "This run has no such instance.",
        ),
      ];
  return element("section", { class: "depth", id: `depth-of-${at}` }, title, failureText(item), ...parts);
}

function failureText(item) {
  return item?.failure ? element("p", { class: "message" }, visible(item.failure)) : null;
}

function depthOf(instance) {
  const chosen = instance.choice?.normal,
    place = element("div", { class: "chosen-diff" });
  const choose = (at) => place.replaceChildren(...patchView(instance.patches, at, chosen, choose));
  if (instance.patches.length)
    choose(
      Math.max(
        0,
        instance.patches.findIndex((patch) => patch.normal === chosen),
      ),
    );
  return [
    choiceText(instance),
    part("Files", filesTable(instance)),
    instance.patches.length
      ? part(
          "Patches",
          ...patchesView(instance, chosen, (at) => {
            choose(at);
            place.scrollIntoView({ block: "nearest" });
          }),
        )
      : null,
    place,
    instance.tests.length
      ? part(
          "Tests",
          ...matrixView(instance, chosen, (at) => {
            choose(at);
            place.scrollIntoView({ block: "nearest" });
          }),
        )
      : null,
    instance.evolution ? part("Rounds", ...instanceRounds(instance.evolution)) : null,
    instance.best_at_n?.length
      ? part("Chosen among the first n samples", element("div", { class: "scroll" }, growthTable(instance)))
      : null,
    instance.answers?.length ? part("Prompts and answers", ...answersView(instance)) : null,
    instance.rejected.length ? part("Rejected samples", ...rejectedView(instance.rejected)) : null,
    instance.notes.length
      ? part(
          "Notes",
          element(
            "ul",
            {},
            instance.notes.map((note) => element("li", {}, visible(note))),
          ),
        )
      : null,
  ].filter(known);
}

function part(title, ...content) {
  return element("div", { class: "part" }, element("h3", {}, title), content);
}

function choiceText({ choice, patches }) {
  if (!choice) return element("p", {}, patches.length ? "No patch was chosen." : "No patch was chosen: no sample was valid.");
  const share = known(choice.share) ? ` It has ${percent(choice.share)} of the votes.` : "";
  return element("p", {}, `The chosen patch ${visible(choice.reason)}.${share}`);
}

/** Files by list, the true ones marked; then those that no list has. */
function filesTable({ files, gold_files: gold = [] }) {
  const shown = (path) =>
    element(
      "li",
      {},
      gold.includes(path)
        ? element("b", { class: "gold", "data-tip": "the true patch changes it" }, `\u2713 ${visible(path)}`)
        : visible(path),
    );
  const missed = gold.filter((path) => !files.some((list) => list.paths.includes(path)));
  const rows = files.map((list, at) => [at + 1, list.votes, element("ul", { class: "paths" }, list.paths.map(shown))]);
  const table = plainTable(["list", "votes", `files${gold.length ? " (\u2713: the true patch changes it)" : ""}`], rows, { class: "files" });
  return [
    element("div", { class: "scroll" }, table),
    missed.length ? element("p", { class: "missed" }, `In no list: ${visible(missed.join(", "))}`) : null,
  ];
}

function patchesView(instance, chosen, choose) {
  const body = element("tbody"),
    votes = instance.patches.reduce((sum, patch) => sum + patch.votes, 0);
  const counts = testCounts(instance),
    rounds = instance.evolution ? ["round", "score"] : [],
    graded = isGraded(instance),
    head = ["patch", ...(graded ? ["resolved"] : []), "votes", "", ...rounds, ...counts.map(({ title }) => title), "files"];
  const more = capped(
    instance.patches.map((patch, at) => ({ patch, at })),
    PATCH_ROWS,
    body,
    ({ patch, at }) => patchRow(patch, at, { chosen, choose, votes, rounds, counts, graded }),
  );
  return [
    element(
      "div",
      { class: "scroll" },
      element(
        "table",
        { class: "patches" },
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            head.map((text) => element("th", { scope: "col" }, text)),
          ),
        ),
        body,
      ),
    ),
    more,
  ];
}

/** Returns what is counted of each patch, for the kinds of tests that there are. */
function testCounts({ tests }) {
  const kinds = [
    ["given", "given passed"],
    ["generated", "generated passed"],
    ["regression", "regression broken"],
  ];
  return kinds
    .map(([origin, title]) => ({
      title,
      places: tests.flatMap((test, at) => (test.origin === origin ? [at] : [])),
      broken: origin === "regression",
    }))
    .filter(({ places }) => places.length);
}

function patchRow(patch, at, { chosen, choose, votes, rounds, counts, graded }) {
  const passed = (places) => places.filter((place) => patch.verdicts[place] === "pass").length;
  const numbers = counts.map(({ places, broken }) =>
    element(
      "td",
      { class: "number" },
      patch.verdicts.length
        ? `${broken ? places.length - passed(places) : passed(places)} / ${places.length}`
        : patch.refusal
          ? "refused"
          : NOTHING,
    ),
  );
  return element(
    "tr",
    { class: patch.normal === chosen ? "chosen" : null },
    element(
      "th",
      { scope: "row" },
      element("button", { type: "button", click: () => choose(at) }, `P${at + 1}`),
      patch.normal === chosen ? " chosen" : "",
    ),
    graded
      ? element(
          "td",
          {},
          element("span", { class: `dot ${verdictClass(patch.resolved)}` }, verdictSign(patch.resolved)),
          { true: " yes", false: " no" }[patch.resolved] ?? " not graded",
        )
      : null,
    element(
      "td",
      {
        class: "number",
        "data-tip": `samples ${patch.orders.slice(0, 40).join(", ")}${patch.orders.length > 40 ? ", \u2026" : ""}`,
      },
      patch.votes,
    ),
    element("td", {}, shareBar(patch.votes / votes)),
    rounds.length
      ? [patch.round, decimal(patch.score, 3)].map((text) => element("td", { class: "number" }, text))
      : null,
    numbers,
    element("td", {}, visible(patch.paths?.join(", "))),
  );
}

function shareBar(share) {
  return drawn(
    "svg",
    { class: "share", viewBox: "0 0 90 10", "data-tip": `${percent(share)} of the votes` },
    drawn("rect", { class: "whole", width: 90, height: 10 }),
    drawn("rect", { class: "part", width: 90 * share, height: 10 }),
  );
}

/** Returns the diff of one patch, with a list to take another. */
function patchView(patches, at, chosen, choose) {
  const options = patches.map((patch, place) =>
    element(
      "option",
      { value: place, selected: place === at },
      `P${place + 1}${patch.normal === chosen ? " (chosen)" : ""}, ${plural(patch.votes, "vote")}`,
    ),
  );
  const list = element(
    "select",
    { "aria-label": "patch", change: (event) => choose(Number(event.target.value)) },
    options,
  );
  const refusal = patches[at].refusal
    ? element("p", { class: "message" }, `It was not tested: ${visible(patches[at].refusal)}`)
    : null;
  return [element("h3", {}, "Diff of ", list), refusal, ...diffView(patches[at].diff)].filter(known);
}

function growthTable({ best_at_n: points, patches }) {
  const name = (normal) => {
    const at = patches.findIndex((patch) => patch.normal === normal);
    return at < 0 ? NOTHING : `P${at + 1}`;
  };
  return plainTable(
    ["n", ...points.map((point) => point.n)],
    [
      ["patch", ...points.map((point) => name(point.normal))],
      [
        "resolved",
        ...points.map((point) =>
          element("span", { class: `dot ${verdictClass(point.resolved)}` }, verdictSign(point.resolved)),
        ),
      ],
    ],
    { class: "growth" },
  );
}

function rejectedView(rejected) {
  const reasons = new Map();
  for (const sample of rejected) reasons.set(sample.reason, [...(reasons.get(sample.reason) ?? []), sample]);
  return [...reasons]
    .sort((a, b) => b[1].length - a[1].length)
    .map(([reason, samples]) =>
      disclosure(`${visible(reason)}: ${plural(samples.length, "sample")}`, () =>
        element(
          "div",
          { class: "scroll" },
          plainTable(
            ["sample", "detail"],
            samples.map((sample) => [sample.order, visible(sample.detail)]),
          ),
        ),
      ),
    );
}
