// One instance in depth: the issue once, then what each run made of it: files, patches, answers.

const PATCH_ROWS = 12;

/** Returns what a packed block holds, or null where the page has none of this instance. */
async function unpacked(run, place) {
  const block = place < 0 ? null : byId(`depth-${run}-${place}`);
  if (!block) return null;
  const bytes = Uint8Array.from(atob(block.textContent), (letter) => letter.charCodeAt(0)),
    stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** Fills the place of the view with an instance; `neighbours` are the ids before and after it in the table. */
async function showInstance(place, { runs, depth }, row, neighbours) {
  const found = await Promise.all(runs.map((run, at) => unpacked(at, (depth[at] ?? []).indexOf(row.id))));
  if (view().get("instance") !== row.id) return; // another one was asked for meanwhile
  const issue = found.find(known)?.issue;
  place.replaceChildren(
    navigation(neighbours),
    el("h1", visible(row.id)),
    el("p", visible([row.repo, row.difficulty].filter(Boolean).join(" \u00b7 "))),
    known(issue) ? issueCard(issue) : "",
    ...runs.map((run, at) => runSection(runs, at, row.runs[at], found[at])),
  );
  scrollTo(0, 0);
}

/** Shows the page of one run, as an instance of an evaluation is shown. */
async function showRun(place) {
  const run = await unpacked(0, 0);
  document.title = `amini: ${visible(run.id)}`;
  place.replaceChildren(
    el("h1", visible(run.id)),
    el("dl.facts", run.facts.map(([name, text]) => el("div", el("dt", visible(name)), el("dd", visible(text))))),
    issueCard(run.issue),
    el("section.depth.c0", { id: "depth-of-0" }, depthOf(run)),
    disclosure("Settings and versions", () => settingsTable([{ run: { ...run.settings, name: run.id } }])),
  );
  place.hidden = false;
}

/** Returns foreign text as it is written. */
const textBlock = (text) => el("div.issue", visible(text.replaceAll("\r\n", "\n")));
const issueCard = (issue) => disclosure("Issue", () => textBlock(issue), "details.card", { open: true });

function navigation([before, after]) {
  const link = (id, text) => (id ? el("a", { href: address({ instance: id }) }, text) : null),
    back = el("a", { href: address({ instance: "" }), id: "back" }, "\u2190 all instances");
  return el("nav", { "aria-label": "instances" }, back, link(before, "previous"), link(after, "next"));
}

function runSection(runs, at, item, instance) {
  const chip = runs.length > 1 ? el("span.chip", letter(at)) : null,
    absent = item ? "The report holds nothing more of this instance." : "This run has no such instance.";
  const title = el(`h2.run.c${at % COLORS}`, chip, visible(runs[at].run.name), " ", badge(item)),
    failure = item?.failure ? el("p.message", visible(item.failure)) : null,
    shown = instance ? depthOf(instance) : el("p.note", absent);
  return el("section.depth", { id: `depth-of-${at}` }, title, failure, shown);
}

function depthOf(instance) {
  const { patches, tests, evolution, best_at_n: growth, answers, rejected, notes, choice } = instance,
    place = el("div.chosen-diff");
  const show = (at) => place.replaceChildren(...patchView(patches, at, choice?.normal, show));
  const choose = (at) => {
    show(at);
    place.scrollIntoView({ block: "nearest" });
  };
  const part = (title, there, make) => (there ? el("div.part", el("h3", title), make()) : null),
    roundsTable = () => table("table.growth", ROUND_HEADINGS, roundRows(evolution.rounds));
  if (patches.length) show(Math.max(0, placeOf(patches, choice?.normal)));
  return [
    choiceText(instance),
    regressionsText(instance),
    part("Files", true, () => filesTable(instance)),
    part("Patches", patches.length, () => patchesView(instance, choice?.normal, choose)),
    place,
    part("Tests", tests.length, () => matrixView(instance, choice?.normal, choose)),
    part("Rounds", evolution, () => [roundsTable(), el("p.note", SCORES[evolution.score])]),
    part("Chosen among the first n samples", growth?.length, () => growthTable(growth, patches)),
    part("Prompts and answers", answers?.length, () => answersView(instance)),
    part("Rejected samples", rejected.length, () => rejectedView(rejected)),
    part("Notes", notes.length, () => el("ul", notes.map((note) => el("li", visible(note))))),
  ];
}

const placeOf = (patches, normal) => patches.findIndex((patch) => patch.normal === normal);
const nameOf = (patches, normal) => (placeOf(patches, normal) < 0 ? null : `P${placeOf(patches, normal) + 1}`);
const resolvedText = ({ resolved }) => ({ true: "resolved", false: "not resolved" })[resolved] ?? "not graded";

function choiceText({ choice, patches }) {
  if (!choice) return el("p", `No patch was chosen${patches.length ? "" : ": no sample was valid"}.`);
  return el("p", `Chosen with a confidence of ${percent(choice.probability, 0)}: ${visible(choice.reason)}.`);
}

/** What became of the repository's own tests; null where none was wanted. */
function regressionsText({ regressions: told }) {
  if (!told) return null;
  const { found, run, lost } = told,
    why = visible(told.why);
  const some = `${run} run, ${lost} lost${why ? ` (${why})` : ""}`,
    none = `none run. None tells what a patch breaks: ${why}`;
  return el(run ? "p" : "p.message", `Regression tests: ${found} found, ${run ? some : none}.`);
}

/** Files by list, the true ones marked; then those that no list has. */
function filesTable({ files, gold_files: gold = [] }) {
  const tip = { "data-tip": "the true patch changes it" };
  const name = (path) => (gold.includes(path) ? el("b.gold", tip, `\u2713 ${visible(path)}`) : visible(path));
  const list = (paths) => el("ul.paths", paths.map((path) => el("li", name(path)))),
    missed = gold.filter((path) => !files.some(({ paths }) => paths.includes(path))),
    title = `files${gold.length ? " (\u2713: the true patch changes it)" : ""}`;
  return [
    table("table.files", ["list", "votes", title], files.map(({ paths, votes }, at) => [at + 1, votes, list(paths)])),
    missed.length ? el("p.missed", `In no list: ${visible(missed.join(", "))}`) : null,
  ];
}

function patchesView({ patches, tests, evolution, gold_files: gold }, chosen, choose) {
  const body = el("tbody"),
    votes = patches.reduce((sum, patch) => sum + patch.votes, 0),
    titles = { given: "given passed", generated: "generated passed", regression: "regression broken" },
    there = Object.keys(titles).filter((origin) => tests.some((test) => test.origin === origin));
  const resolved = gold ? ["resolved"] : [], // a run on a user's issue has no true patch to be compared with
    [from, rounds] = [patches[0].from ? ["from"] : [], evolution ? ["round", "score"] : []],
    passed = there.map((origin) => titles[origin]);
  const rowOf = (patch, at) => {
    const isChosen = patch.normal === chosen,
      samples = `samples ${patch.orders.slice(0, 40).join(", ")}${patch.orders.length > 40 ? ", \u2026" : ""}`,
      word = { true: " yes", false: " no" }[patch.resolved] ?? " not graded";
    return el(
      isChosen ? "tr.chosen" : "tr",
      el("th", { scope: "row" }, patchButton(at, choose), isChosen ? " chosen" : ""),
      gold ? el("td", verdictDot(patch.resolved), word) : null,
      el("td.number", { "data-tip": samples }, patch.votes),
      el("td", shareBar(patch.votes / votes)),
      patch.from ? el("td", visible(patch.from)) : null,
      evolution ? [patch.round, decimal(patch.score, 3)].map((text) => el("td.number", text)) : null,
      there.map((origin) => el("td.number", passedText(patch, tests, origin))),
      el("td", visible(patch.paths?.join(", "))),
    );
  };
  const more = capped(patches, PATCH_ROWS, body, rowOf);
  const headings = ["patch", ...resolved, "votes", "", ...from, ...rounds, ...passed, "files"];
  return [table("table.patches", headings, body), more];
}

const patchButton = (at, choose) => el("button", { type: "button", click: () => choose(at) }, `P${at + 1}`);

/** Returns how many of the tests of an origin pass with the patch; of regression tests, how many break. */
function passedText(patch, tests, origin) {
  if (!patch.verdicts.length) return patch.refusal ? "refused" : NOTHING;
  const told = patch.verdicts.filter((verdict, at) => tests[at].origin === origin);
  if (!told.length) return "not run";
  const passed = told.filter((verdict) => verdict === "pass").length;
  return `${origin === "regression" ? told.length - passed : passed} / ${told.length}`;
}

function verdictDot(resolved) {
  const [kind, sign] = { true: ["yes", "\u2713"], false: ["no", "\u2717"] }[resolved] ?? ["none", "?"];
  return el(`span.dot.${kind}`, sign);
}

function shareBar(share) {
  const told = { viewBox: "0 0 90 10", "data-tip": `${percent(share)} of the votes` };
  return el("svg.share", told, svgRect("whole", 0, 0, 90, 10), svgRect("part", 0, 0, 90 * share, 10));
}

/** Returns the diff of one patch, with a list to take another. */
function patchView(patches, at, chosen, show) {
  const option = (patch, place) => {
    const name = `P${place + 1}${patch.normal === chosen ? " (chosen)" : ""}, ${plural(patch.votes, "vote")}`;
    return el("option", { value: place, selected: place === at }, name);
  };
  const list = { "aria-label": "patch", change: (event) => show(Number(event.target.value)) },
    title = el("h3", "Diff of ", el("select", list, patches.map(option))),
    { refusal, diff } = patches[at],
    untested = refusal ? el("p.message", `It was not tested: ${visible(refusal)}`) : null;
  return [title, untested, ...diffView(diff)].filter(known);
}

function growthTable(points, patches) {
  return table("table.growth", ["n", ...points.map((point) => point.n)], [
    ["patch", ...points.map(({ normal }) => nameOf(patches, normal) ?? NOTHING)],
    ["resolved", ...points.map((point) => verdictDot(point.resolved))],
  ]);
}

function rejectedView(rejected) {
  const reasons = [...Map.groupBy(rejected, (sample) => sample.reason)].sort((a, b) => b[1].length - a[1].length),
    details = (samples) => samples.map((sample) => [sample.order, visible(sample.detail)]);
  return reasons.map(([reason, samples]) => {
    const title = `${visible(reason)}: ${plural(samples.length, "sample")}`;
    return disclosure(title, () => table("table", ["sample", "detail"], details(samples)));
  });
}

/** Returns what was asked in one run and what was answered: prompts by stage, each with its samples. */
function answersView({ answers, prompts, patches }) {
  return [...Map.groupBy(answers, ({ stage, prompt }) => `${stage} ${prompt}`).values()].map((group) => {
    const [{ stage, prompt }] = group,
      title = `${visible(stage)}: ${plural(group.length, "answer")} to prompt ${visible(prompt).slice(0, 8)}`;
    const asked = () =>
      (prompts[prompt] ?? []).map(([role, text]) => disclosure(`prompt: ${visible(role)}`, () => textBlock(text)));
    return disclosure(title, () => [...asked(), ...group.map((one) => answerView(one, patches))], "details.card");
  });
}

function answerView({ sample, outcome, normal, finish, tokens, reasoning, text }, patches) {
  const ended = finish === "stop" ? "" : `ended by ${finish}`,
    told = [nameOf(patches, normal), outcome, known(tokens) ? plural(tokens, "token") : "", ended];
  return disclosure(`answer ${sample}: ${visible(told.filter(Boolean).join(", "))}`, () => [
    ...(reasoning ? [disclosure("reasoning", () => textBlock(reasoning))] : []),
    textBlock(text),
  ]);
}

// --- patches x tests, one letter for each outcome; and a diff with the numbers of both sides ---------------------

const LETTERS = { pass: "P", fail: "F", error: "E", timeout: "T", skip: "S", "not-collected": "N" };
const PATCHES = 40;
const TESTS = 150;
const DIFF_LINES = 2000;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)/;

/** Returns the matrix. Regression tests that pass with every patch say nothing and are only counted. */
function matrixView(instance, chosen, choose) {
  const patches = instance.patches.slice(0, PATCHES),
    graded = known(instance.gold_files),
    body = el("tbody");
  const isTelling = ({ origin, at }) =>
    origin !== "regression" || patches.some((patch) => (patch.verdicts[at] ?? "pass") !== "pass");
  const telling = instance.tests.map((test, at) => ({ ...test, at })).filter(isTelling),
    more = capped(telling, TESTS, body, (test) => testRow(test, patches, chosen)),
    signs = Object.entries(LETTERS).map(([name, sign]) => el("li", el(`span.cell.sample.${name}`, sign), name)),
    heads = patches.map((patch, at) => patchHead(patch, at, chosen, graded, choose)),
    [all, same] = [instance.patches.length, instance.tests.length - telling.length],
    tests = plural(same, "regression test passes", "regression tests pass"),
    left = same && `${tests} with every patch shown and ${same === 1 ? "is" : "are"} left out.`,
    cut = all > PATCHES && `The first ${PATCHES} of ${all} patches are shown.`,
    notes = el("p.note", [left, cut].filter(Boolean).join(" "));
  return [table("table.matrix", ["test", "from", "before", ...heads], body), more, notes, el("ul.legend", signs)];
}

function patchHead(patch, at, chosen, graded, choose) {
  const isChosen = patch.normal === chosen,
    told = [plural(patch.votes, "vote"), graded && resolvedText(patch), isChosen && "chosen"].filter(Boolean),
    refused = patch.refusal ? `\nrefused: ${visible(patch.refusal)}` : "",
    tip = { scope: "col", "data-tip": `P${at + 1}: ${told.join(", ")}${refused}` },
    dot = graded ? [el("br"), verdictDot(patch.resolved)] : null;
  return el(isChosen ? "th.chosen" : "th", tip, patchButton(at, choose), dot);
}

function testRow(test, patches, chosen) {
  const cell = (outcome, when, isChosen) => {
    const sign = Object.hasOwn(LETTERS, outcome) ? LETTERS[outcome] : null,
      kind = `td.cell.${sign ? outcome : "unknown"}${isChosen ? ".chosen" : ""}`;
    return el(kind, { "data-tip": `${visible(outcome || "not run")} ${when}` }, sign ?? "\u00b7");
  };
  const name = el("span.name", { "data-tip": visible(test.id) }, visible(test.id)),
    votes = test.votes > 1 ? small(plural(test.votes, "vote")) : null;
  return el(
    "tr",
    el("th", { scope: "row" }, name),
    el("td", visible(test.origin), votes),
    cell(test.before, "before any patch", false),
    patches.map((patch, place) => cell(patch.verdicts[test.at], `with P${place + 1}`, patch.normal === chosen)),
  );
}

/** Returns the lines of a diff: {kind, text, before, after}. Headers of files are told by where they stand. */
function diffLines(diff) {
  let [before, after, inHunk] = [0, 0, false];
  const read = (text) => {
    const hunk = HUNK.exec(text);
    if (hunk) {
      [before, after, inHunk] = [Number(hunk[1]), Number(hunk[2]), true];
      return { kind: "hunk", text };
    }
    if (text.startsWith("diff --git ")) inHunk = false;
    if (!inHunk || text.startsWith("\\")) return { kind: "file", text };
    if (text.startsWith("+")) return { kind: "added", text, after: after++ };
    if (text.startsWith("-")) return { kind: "removed", text, before: before++ };
    return { kind: "same", text, before: before++, after: after++ };
  };
  return diff.replace(/\n$/, "").split("\n").map(read);
}

function diffView(diff) {
  const body = el("tbody");
  const row = ({ kind, text, before, after }) =>
    el(`tr.${kind}`, el("td.at", before ?? ""), el("td.at", after ?? ""), el("td.code", visible(text)));
  const more = capped(diffLines(diff), DIFF_LINES, body, row);
  return [el("div.scroll.diff", el("table", body)), more];
}
