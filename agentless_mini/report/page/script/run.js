// The page of one run, which is shown as an instance of an evaluation is.

async function showRun(place) {
  const run = await unpacked(0, 0);
  const facts = run.facts.map(([name, text]) =>
    element("div", {}, element("dt", {}, visible(name)), element("dd", {}, visible(text))),
  );
  document.title = `amini: ${visible(run.id)}`;
  place.replaceChildren(
    element("h1", {}, visible(run.id)),
    element("dl", { class: "facts" }, facts),
    issueCard(run.issue),
    element("section", { class: "depth c0", id: "depth-of-0" }, depthOf(run)),
    disclosure("Settings and versions", () =>
      element("div", { class: "scroll" }, settingsTable([{ run: { ...run.settings, name: run.id } }])),
    ),
  );
  place.hidden = false;
}
