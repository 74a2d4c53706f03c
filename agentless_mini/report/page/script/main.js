// Starts the page: reads the data, draws the overview once, and follows the address.

const DATA = JSON.parse(byId("data").textContent);
const RUNS = DATA.documents;
const ROWS = instanceRows(RUNS);

function drawOverview() {
  const names = RUNS.map((run) => visible(run.run.name));
  document.title = `amini: ${names.join(", ")}`;
  byId("title").textContent = RUNS.length === 1 ? names[0] : `${RUNS.length} runs compared`;
  byId("subtitle").textContent = [...new Set(RUNS.map(({ run }) => visible(run.dataset)))].join(", ");
  byId("runs").replaceChildren(...runsView(RUNS));
  byId("plots").replaceChildren(...(RUNS.some(isRepaired) ? charts(RUNS) : []));
}

let overviewAt = 0;

/** Shows the overview or the instance that the address names. */
function follow() {
  const id = view().get("instance"),
    row = ROWS.find((one) => one.id === id),
    [overview, place] = [byId("overview"), byId("instance")];
  if (!overview.hidden) overviewAt = scrollY;
  overview.hidden = Boolean(id);
  place.hidden = !id;
  if (!id) {
    byId("instances").replaceChildren(...instancesView(RUNS, ROWS));
    scrollTo(0, overviewAt);
  } else if (!row) {
    place.replaceChildren(navigation([]), el("p.message", `There is no instance ${visible(id)} in this report.`));
  } else {
    const shown = shownRows(ROWS, columns(RUNS)),
      at = shown.indexOf(row);
    showInstance(place, { runs: RUNS, depth: DATA.depth }, row, at < 0 ? [] : [shown[at - 1]?.id, shown[at + 1]?.id]);
  }
}

serveTooltips();
if (DATA.run) {
  showRun(byId("instance"));
} else {
  drawOverview();
  addEventListener("hashchange", follow);
  follow();
}
