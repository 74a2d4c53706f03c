// Numbers for people, and the statistics that compare what is shown side by side.

const NOTHING = "\u2013";

const known = (value) => value !== null && value !== undefined;
const percent = (share, digits = 1) => (known(share) ? `${(100 * share).toFixed(digits)} %` : NOTHING);
const range = (low, high, digits = 1) => `${percent(low, digits)} to ${percent(high, digits)}`;
const count = (number) => (known(number) ? number.toLocaleString("en") : NOTHING);
const decimal = (number, digits = 2) => (known(number) ? number.toFixed(digits) : NOTHING);
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
/** Returns the letter of a run by its place: A, B, ... */
const letter = (run) => (run < 26 ? String.fromCharCode(65 + run) : `#${run + 1}`);

/** Returns a large number in three digits: 1.25 M. */
function brief(number) {
  if (!known(number)) return NOTHING;
  const [unit, name] = [[1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => number >= size) ?? [];
  return name ? `${(number / unit).toPrecision(3)}\u00a0${name}` : String(Math.round(number));
}

function duration(seconds) {
  if (!known(seconds)) return NOTHING;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return seconds < 3600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Returns the 95 % interval of Wilson for a share. */
function wilson(successes, trials) {
  if (!trials) return [null, null];
  const z = 1.959964,
    share = successes / trials,
    norm = 1 + (z * z) / trials,
    middle = (share + (z * z) / (2 * trials)) / norm,
    half = (z / norm) * Math.sqrt((share * (1 - share)) / trials + (z * z) / (4 * trials * trials));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** Returns the p of McNemar's exact test, two-sided: how likely a split at least as uneven is by chance. */
function mcnemar(onlyFirst, onlySecond) {
  const trials = onlyFirst + onlySecond;
  let term = -trials * Math.LN2,
    total = 0;
  for (let hits = 0; hits <= Math.min(onlyFirst, onlySecond); hits += 1) {
    total += Math.exp(term);
    term += Math.log(trials - hits) - Math.log(hits + 1);
  }
  return Math.min(1, 2 * total);
}
