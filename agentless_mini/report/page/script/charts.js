// Which plots there are: from the documents of the runs to lines and bars.

const COLORS = 7;

/** Returns all plots in two columns: lines, and bars. */
function charts(runs) {
  return [
    [bestAtSamples, ...(runs.some(inRounds) ? [byRound] : []), bestAtTests, calibration],
    [byDifficulty, byRepository, failures, rejections],
  ].map((column) =>
    element(
      "div",
      {},
      column.map((make) => make(runs)),
    ),
  );
}

/** Returns the entries of a legend of runs; none is needed for a single one. */
function runEntries(runs) {
  return runs.length > 1 ? runs.map((run, at) => ({ name: runName(runs, at), color: at % COLORS })) : [];
}

function runName(runs, at) {
  const name = visible(runs[at].run.name);
  return runs.length > 1 ? `${letter(at)} ${name}` : name;
}
