// A unified diff, line by line, with the numbers of both sides.

const DIFF_LINES = 2000;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)/;

/** Returns the lines of a diff: {kind, text, before, after}. Headers of files are told by where they stand. */
function diffLines(diff) {
  let before = 0,
    after = 0,
    inHunk = false;
  return diff
    .replace(/\n$/, "")
    .split("\n")
    .map((text) => {
      const hunk = HUNK.exec(text);
      if (hunk) {
        [before, after, inHunk] = [Number(hunk[1]), Number(hunk[2]), true];
        return { kind: "hunk", text };
      }
      if (text.startsWith("diff --git ")) inHunk = false;
      if (!inHunk) return { kind: "file", text };
      if (text.startsWith("+")) return { kind: "added", text, after: after++ };
      if (text.startsWith("-")) return { kind: "removed", text, before: before++ };
      return text.startsWith("\\") ? { kind: "file", text } : { kind: "same", text, before: before++, after: after++ };
    });
}

function diffView(diff) {
  const body = element("tbody");
  const more = capped(diffLines(diff), DIFF_LINES, body, ({ kind, text, before, after }) =>
    element(
      "tr",
      { class: kind },
      element("td", { class: "at" }, before ?? ""),
      element("td", { class: "at" }, after ?? ""),
      element("td", { class: "code" }, visible(text)),
    ),
  );
  return [element("div", { class: "scroll diff" }, element("table", {}, body)), more];
}
