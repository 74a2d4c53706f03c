// Elements. Foreign text gets into the page as text nodes only: nothing here or elsewhere parses markup.

/** Returns a new HTML element. Children may be nodes, texts, numbers, or null for nothing. */
function element(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

/** Returns a new SVG element. */
function drawn(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnished(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Returns the text with every letter that hides or turns what stands beside it as its escape: `\u{202e}`. */
function visible(text) {
  return String(text ?? "").replace(HIDDEN, (letter) =>
    letter === "\n" || letter === "\t" ? letter : `\\u{${letter.codePointAt(0).toString(16)}}`,
  );
}

/** Returns a table of texts or nodes; the first column has the headings of the rows. */
function plainTable(headings, rows, attributes = {}) {
  const head = element(
    "tr",
    {},
    headings.map((heading) => element("th", { scope: "col" }, heading)),
  );
  const body = rows.map(([first, ...others]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, first),
      others.map((cell) => element("td", {}, cell)),
    ),
  );
  return element("table", attributes, element("thead", {}, head), element("tbody", {}, body));
}

/** Returns what opens and closes at a click; `make` is called when it is opened first. */
function disclosure(title, make, attributes = {}) {
  const node = element("details", attributes, element("summary", {}, title));
  const fill = () => {
    if (node.open && node.children.length === 1) node.append(...[make()].flat());
  };
  node.addEventListener("toggle", fill);
  fill();
  return node;
}

/** Shows the first items, and the others at a click: `render` makes a node of one. */
function capped(items, most, container, render) {
  container.append(...items.slice(0, most).map(render));
  if (items.length <= most) return null;
  const button = element(
    "button",
    {
      type: "button",
      class: "more",
      click: () => {
        container.append(...items.slice(most).map(render));
        button.remove();
      },
    },
    `show ${count(items.length - most)} more`,
  );
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
    const box = tooltip.getBoundingClientRect();
    tooltip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tooltip.style.top = `${event.clientY + box.height + 24 > innerHeight ? event.clientY - box.height - 10 : event.clientY + 16}px`;
  });
  document.addEventListener(
    "scroll",
    () => {
      tooltip.hidden = true;
    },
    { passive: true, capture: true },
  );
}
