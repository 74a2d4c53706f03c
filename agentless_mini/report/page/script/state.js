// What is looked at, kept in the fragment of the address, so that a link or a reload leads to the same view.

/** Returns the view that the address names, as a Map of texts. */
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
