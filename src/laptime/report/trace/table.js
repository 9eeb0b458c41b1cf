"use strict";
// Long tables (kernels, launchers): each sorts by any column, filters by name and family, shows the full name of a row on a click.

const SHOWN_AT_FIRST = 40;

/** columns: [title, key, numeric, format]. The first column shows `short` with `name` beneath. `noun`: what rows are. */
function kernelTable(container, search, count, rows, columns, noun = "kernels") {
  let [key, down, limit] = ["total_ms", true, SHOWN_AT_FIRST];

  function wanted() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = rows.filter((row) => {
      const text = `${row.short} ${row.family} ${row.name}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? -1) - (b ?? -1));
    return kept.sort((a, b) => (down ? -1 : 1) * order(a[key], b[key]));
  }

  function draw() {
    const kept = wanted();
    count.textContent = kept.length === rows.length ? `${rows.length} ${noun}` : `${kept.length} of ${rows.length} ${noun}`;
    const head = columns.map(([title, column, numeric]) => {
      const button = node("button", { type: "button" }, title, column === key ? (down ? " ↓" : " ↑") : "");
      button.addEventListener("click", () => {
        if (key === column) down = !down;
        else [key, down] = [column, Boolean(numeric)];
        draw();
      });
      const sorted = column !== key ? "none" : down ? "descending" : "ascending";
      return node("th", { scope: "col", class: numeric ? "num" : null, "aria-sort": sorted, "data-key": column }, button);
    });
    const body = kept.slice(0, limit).map((row) => {
      const line = node("tr", {}, columns.map(([, column, numeric, format], i) =>
        i === 0
          ? node("td", {}, row.short, row.name === row.short ? null : node("span", { class: "full" }, row.name))
          : node("td", { class: numeric ? "num" : null }, format ? format(row[column], row) : row[column])));
      line.addEventListener("click", () => line.classList.toggle("open"));
      return line;
    });
    const more = node("button", { type: "button" }, `Show all ${kept.length}`);
    more.addEventListener("click", () => { limit = Infinity; draw(); });
    container.replaceChildren(
      node("table", { "aria-label": container.getAttribute("aria-label") || "Table" }, node("thead", {}, node("tr", {}, head)), node("tbody", {}, body)),
      ...(kept.length > limit ? [node("div", { class: "toolbar more" }, more)] : []),
    );
  }

  search.addEventListener("input", draw);
  draw();
}
