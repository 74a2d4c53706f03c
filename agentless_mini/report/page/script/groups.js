// The plots of bars: rates by repository and difficulty, failures, rejections.

function byRepository(runs) {
  return ratesBy(runs, { id: "by-repo", key: "by_repo", name: "repo", title: "Resolved by repository" });
}

function byDifficulty(runs) {
  return ratesBy(runs, {
    id: "by-difficulty",
    key: "by_difficulty",
    name: "difficulty",
    title: "Resolved by difficulty",
  });
}

function ratesBy(runs, { id, key, name, title }) {
  const groups = grouped(
    runs,
    (run) => run.results[key],
    (item) => item[name] || "(none)",
    (item, at) => {
      const [low, high] = known(item.rate) ? wilson(item.resolved, item.instances) : [null, null];
      return {
        run: at,
        value: item.resolved / item.instances,
        low,
        high,
        instances: item.instances,
        resolved: item.resolved,
        rate: item.rate,
        text: `${known(item.rate) ? "" : "\u2265 "}${percent(item.resolved / item.instances, 0)} of ${item.instances}`,
        tip: `${runName(runs, at)}\n${visible(item[name])}: ${item.resolved} of ${item.instances} resolved, ${rateText(item.rate)}\n95 %: ${percent(low)} to ${percent(high)}`,
      };
    },
  );
  const rows = tableOf(runs, groups, (bar) => [
    bar.instances,
    bar.resolved,
    rateText(bar.rate),
    `${percent(bar.low)} to ${percent(bar.high)}`,
  ]);
  return barsPlot({
    id,
    title,
    groups,
    shares: true,
    label: "instances resolved (%)",
    legend: legend(runEntries(runs)),
    rows,
    note: "Whiskers: 95 % intervals (Wilson).",
    headings: [name, "run", "instances", "resolved", "rate", "95 %"],
  });
}

function rateText(rate) {
  return known(rate) ? percent(rate) : "not all are graded";
}

function failures(runs) {
  return countsBy(runs, {
    id: "failures",
    title: "Failures by stage",
    label: "instances",
    list: (run) => run.results.failures,
    name: (item) => `${item.stage || "unknown"} (${item.state})`,
    note: "Infrastructure failures are no wrong answers: the rates leave them out.",
    whole: (run) => run.results.instances,
  });
}

function rejections(runs) {
  return countsBy(runs, {
    id: "rejections",
    title: "Rejected samples, by reason",
    label: "samples",
    list: (run) => run.results.format.rejected,
    name: (item) => item.reason,
    whole: (run) => run.results.format.samples,
  });
}

function countsBy(runs, { id, title, label, note, list, name, whole }) {
  const groups = grouped(runs, list, name, (item, at) => {
    const share = item.count / whole(runs[at]);
    return {
      run: at,
      value: item.count,
      share,
      text: count(item.count),
      tip: `${runName(runs, at)}\n${visible(name(item))}: ${plural(item.count, label.slice(0, -1))}, ${percent(share, 2)} of all`,
    };
  });
  const rows = tableOf(runs, groups, (bar) => [count(bar.value), percent(bar.share, 2)]);
  return barsPlot({
    id,
    title,
    groups,
    label,
    note,
    legend: legend(runEntries(runs)),
    rows,
    headings: ["", "run", label, "of all"],
  });
}

/** Returns groups by name, each with a bar or null for every run, in the order of first appearance. */
function grouped(runs, list, name, bar) {
  const groups = new Map();
  runs.forEach((run, at) =>
    list(run).forEach((item) => {
      if (!groups.has(name(item))) groups.set(name(item), { name: name(item), bars: runs.map(() => null) });
      groups.get(name(item)).bars[at] = bar(item, at);
    }),
  );
  return [...groups.values()];
}

function tableOf(runs, groups, cells) {
  return groups.flatMap((group) =>
    group.bars.flatMap((bar, at) => (bar ? [[visible(group.name), runName(runs, at), ...cells(bar)]] : [])),
  );
}
