// Elements and the address. Foreign text gets into the page as text nodes only: nothing of the script parses markup.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = new Set(["svg", "g", "line", "rect", "circle", "path", "text"]);
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/**
 * Returns a new element of a kind, which is a tag and its classes: `td.number`. An object of attributes may come first;
 * functions in it listen to events. Children are nodes, texts, numbers, lists of these, or null for nothing.
 */
function el(kind, ...content) {
  const [tag, ...classes] = kind.split("."),
    node = SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  const attributes = content[0]?.constructor === Object ? content.shift() : {};
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (known(value) && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...content.flat(Infinity).filter(known));
  return node;
}

const byId = (id) => document.getElementById(id);
const small = (text) => el("small", text);
const svgLine = (kind, x1, y1, x2, y2, more) => el(`line.${kind}`, { x1, y1, x2, y2, ...more });
const svgRect = (kind, x, y, width, height) => el(`rect.${kind}`, { x, y, width, height });
const svgText = (kind, x, y, text, anchor = "middle", more = {}) =>
  el(`text.${kind}`, { x, y, "text-anchor": anchor, ...more }, text);

/** Returns the text with every character that hides or reorders others as its escape: `\u{202e}`. */
function visible(text) {
  const escaped = (letter) => (/[\n\t]/.test(letter) ? letter : `\\u{${letter.codePointAt(0).toString(16)}}`);
  return String(text ?? "").replace(HIDDEN, escaped);
}

/** Returns a table that scrolls sideways; its body is rows, the first cell of which is a heading, or made already. */
function table(kind, headings, body) {
  const cell = (content) => (content instanceof HTMLTableCellElement ? content : el("td", content)),
    row = ([first, ...others]) => el("tr", el("th", { scope: "row" }, first), others.map(cell)),
    head = headings.map((one) => (one instanceof HTMLTableCellElement ? one : el("th", { scope: "col" }, one)));
  const rows = Array.isArray(body) ? el("tbody", body.map(row)) : body;
  return el("div.scroll", el(kind, el("thead", el("tr", head)), rows));
}

/** Returns what opens and closes at a click; `make` is called when it is opened first. */
function disclosure(title, make, kind = "details", attributes = {}) {
  const toggle = () => node.open && node.children.length === 1 && node.append(...[make()].flat()),
    node = el(kind, { ...attributes, toggle }, el("summary", title));
  toggle();
  return node;
}

/** Puts the first items into the container, and the others at a click on the button that it returns, if any. */
function capped(items, most, container, render) {
  container.append(...items.slice(0, most).map(render));
  if (items.length <= most) return null;
  const click = () => {
    container.append(...items.slice(most).map((item, at) => render(item, most + at)));
    button.remove();
  };
  const button = el("button.more", { type: "button", click }, `show ${count(items.length - most)} more`);
  return button;
}

/** Makes one tooltip serve every element that has `data-tip`. */
function serveTooltips() {
  const tooltip = byId("tooltip");
  document.addEventListener("pointermove", ({ target, clientX, clientY }) => {
    const marked = target instanceof Element ? target.closest("[data-tip]") : null;
    tooltip.hidden = !marked;
    if (!marked) return;
    tooltip.textContent = marked.getAttribute("data-tip");
    const { width, height } = tooltip.getBoundingClientRect(),
      isLow = clientY + height + 24 > innerHeight;
    tooltip.style.left = `${Math.max(4, Math.min(clientX + 14, innerWidth - width - 8))}px`;
    tooltip.style.top = `${clientY + (isLow ? -height - 10 : 16)}px`;
  });
  document.addEventListener("scroll", () => (tooltip.hidden = true), { passive: true, capture: true });
}

/** Returns the view that the fragment of the address names, so that a link or a reload leads to it again. */
const view = () => new Map(new URLSearchParams(location.hash.slice(1)));

/** Returns the address of the present view with some of its parts changed; empty ones are left out. */
const address = (changes) =>
  `#${new URLSearchParams(Object.entries({ ...Object.fromEntries(view()), ...changes }).filter(([, value]) => value))}`;

/** Changes the address without a step in the history: for filters and sorting. */
const remember = (changes) => history.replaceState(null, "", address(changes));

// --- numbers for people, and the statistics that compare what is shown side by side --------------------------------

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
