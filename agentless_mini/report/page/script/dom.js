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

function byId(id) {
  return document.getElementById(id);
}

/** Returns the text with every character that hides or reorders others as its escape: `\u{202e}`. */
function visible(text) {
  return String(text ?? "").replace(HIDDEN, (letter) =>
    letter === "\n" || letter === "\t" ? letter : `\\u{${letter.codePointAt(0).toString(16)}}`,
  );
}

/** Returns a table that scrolls sideways; the first cell of a row is its heading, and a cell may be a `td` itself. */
function plainTable(kind, headings, rows) {
  const cell = (content) => (content instanceof HTMLTableCellElement ? content : el("td", content));
  const body = rows.map(([first, ...others]) => el("tr", el("th", { scope: "row" }, first), others.map(cell)));
  return el("div.scroll", el(kind, headRow(headings), el("tbody", body)));
}

function headRow(headings) {
  return el("thead", el("tr", headings.map((heading) => el("th", { scope: "col" }, heading))));
}

/** Returns what opens and closes at a click; `make` is called when it is opened first. */
function disclosure(title, make, kind = "details", attributes = {}) {
  const node = el(kind, attributes, el("summary", title));
  const fill = () => {
    if (node.open && node.children.length === 1) node.append(...[make()].flat());
  };
  node.addEventListener("toggle", fill);
  fill();
  return node;
}

/** Puts the first items into the container, and the others at a click on the button that it returns, if any. */
function capped(items, most, container, render) {
  container.append(...items.slice(0, most).map(render));
  if (items.length <= most) return null;
  const click = () => {
    container.append(...items.slice(most).map(render));
    button.remove();
  };
  const button = el("button.more", { type: "button", click }, `show ${count(items.length - most)} more`);
  return button;
}

/** Makes one tooltip serve every element that has `data-tip`. */
function serveTooltips() {
  const tooltip = byId("tooltip");
  document.addEventListener("pointermove", (event) => {
    const marked = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tooltip.hidden = !marked;
    if (!marked) return;
    tooltip.textContent = marked.getAttribute("data-tip");
    const { width, height } = tooltip.getBoundingClientRect(),
      isLow = event.clientY + height + 24 > innerHeight;
    tooltip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tooltip.style.top = `${event.clientY + (isLow ? -height - 10 : 16)}px`;
  });
  const hide = () => {
    tooltip.hidden = true;
  };
  document.addEventListener("scroll", hide, { passive: true, capture: true });
}

/** Returns the view that the fragment of the address names, so that a link or a reload leads to it again. */
function view() {
  return new Map(new URLSearchParams(location.hash.slice(1)));
}

/** Returns the address of the present view with some of its parts changed; empty ones are left out. */
function address(changes) {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) {
    if (value) parts.set(name, value);
    else parts.delete(name);
  }
  return `#${parts}`;
}

/** Changes the address without a step in the history: for filters and sorting. */
function remember(changes) {
  history.replaceState(null, "", address(changes));
}
