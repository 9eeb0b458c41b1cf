"use strict";
// Every configuration in a table: sorts by any column, filters by words, marks the rows chosen in a chart. Only the first
// rows are in the document until the reader asks for all.

const CONFIGS_AT_FIRST = 60;

/** columns: [{title, numeric, rare, key(i), cell(i)}]; `key` sorts (null goes last), `cell` is what the cell shows, `rare`
 *  ones stand there when `all` is pressed. A number in the filter is a whole word: 8 does not find 128; so haystack(i) has
 *  a space before and after each word. Returns {show(i)}, which brings the row of configuration i into view. */
function configTable({ place, search, count, all, total, columns, haystack, chosen, sortAt, noun = "configuration" }) {
  let [sorted, down, limit] = [sortAt, false, CONFIGS_AT_FIRST];
  const everything = Array.from({ length: total }, (_, i) => i);
  const collator = new Intl.Collator(undefined, { numeric: true });

  function wanted() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => (/^\d/.test(word) ? ` ${word} ` : word));
    const kept = everything.filter((i) => words.every((word) => haystack(i).includes(word)));
    const { key } = columns[sorted];
    const keys = new Map(kept.map((i) => [i, key(i)]));
    return kept.sort((a, b) => compare(keys.get(a), keys.get(b)) || a - b);
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return (down ? -1 : 1) * (typeof a === "string" ? collator.compare(a, b) : a - b);
  }

  function draw() {
    const kept = wanted();
    count.textContent = `${kept.length === total ? "" : `${formatTick(kept.length)} of `}${formatTick(total)} ${noun}${total === 1 ? "" : "s"}`;
    const shown = columns.map((_, i) => i).filter((i) => !columns[i].rare || all.getAttribute("aria-pressed") === "true");
    const head = shown.map((i) => {
      const { title, numeric } = columns[i];
      const button = node("button", { type: "button" }, title, i === sorted ? (down ? " ↓" : " ↑") : "");
      button.addEventListener("click", () => {
        [sorted, down] = [i, sorted === i ? !down : false];
        draw();
      });
      return node("th", { scope: "col", class: numeric ? "num" : null, "aria-sort": i !== sorted ? "none" : down ? "descending" : "ascending" }, button);
    });
    const body = kept.slice(0, limit).map((i) =>
      node("tr", { "data-i": i, class: chosen.has(i) ? "chosen" : null },
        shown.map((at) => node("td", { class: columns[at].numeric ? "num" : null }, columns[at].cell(i)))));
    const more = node("button", { type: "button" }, `Show all ${formatTick(kept.length)}`);
    more.addEventListener("click", () => { limit = Infinity; draw(); });
    place.replaceChildren(
      node("div", { class: "table-box", tabindex: "0" }, node("table", { "aria-label": "Configurations" }, node("thead", {}, node("tr", {}, head)), node("tbody", {}, body))),
      ...(kept.length > limit ? [node("div", { class: "toolbar more" }, more)] : []),
      ...(kept.length === 0 ? [node("p", { class: "empty" }, `No ${noun} matches.`)] : []),
    );
    return kept;
  }

  function show(i) {
    search.value = "";
    const at = draw().indexOf(i);
    if (at >= limit) { limit = Infinity; draw(); }
    place.querySelector(`tr[data-i="${i}"]`)?.scrollIntoView({ block: "center" });
  }

  search.addEventListener("input", () => { limit = CONFIGS_AT_FIRST; draw(); });
  all.addEventListener("click", () => {
    all.setAttribute("aria-pressed", String(all.getAttribute("aria-pressed") !== "true"));
    draw();
  });
  draw();
  return { show };
}
