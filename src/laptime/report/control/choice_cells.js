"use strict";
// Whole choices by type of question: a column for each combination of the knobs' levels, those with the same level of
// the first knob together; a cell's colour is the share of the type's questions that got it.

const CELL_ROW = 32;
const CELL_WIDE = [26, 62];

/** What to draw: {rows: [{title, count}], knobs: [{title, levels}], columns, counts}; columns: lists of one level's
 *  place for each knob, in order; counts[row][column], how many questions. */
function choiceCells(container, width, { rows, knobs, columns, counts }) {
  const letters = width < 640 ? 14 : 28;
  const left = 16 + 6.9 * Math.max(8, ...rows.map(({ title }) => Math.min(letters, title.length)));
  const groups = columns.reduce((found, [first]) => found.add(first), new Set()).size;
  const gap = 12;
  const wide = Math.floor((width - left - (groups - 1) * gap) / columns.length);
  const cell = Math.max(CELL_WIDE[0], Math.min(CELL_WIDE[1], wide));
  let [across, before] = [left, columns[0][0]];
  const places = columns.map(([first]) => {
    if (first !== before) across += gap;
    [across, before] = [across + cell, first];
    return across - cell;
  });
  const shares = counts.map((line, row) => line.map((count) => count / rows[row].count));
  const most = Math.max(0.25, ...shares.flat());
  const [top, bottom] = [26, 26 + rows.length * CELL_ROW];
  const others = knobs.slice(1);
  const drawing = svg("svg", { height: bottom + 10 + 18 * others.length, role: "img", class: "choice-cells" },
    columns.map(([first], column) => column > 0 && columns[column - 1][0] === first ? null
      : svg("text", { class: "name", x: places[column], y: 13 }, `${knobs[0].title} ${knobs[0].levels[first]}`)),
    rows.map((row, i) => [
      svg("text", { class: "level", x: 0, y: top + (i + 0.5) * CELL_ROW + 4 }, shortLabel(row.title, letters)),
      shares[i].map((share, column) => oneCell(share, places[column], top + i * CELL_ROW)),
    ]),
    others.map((knob, k) => [
      svg("text", { x: left - 9, y: bottom + 16 + k * 18, "text-anchor": "end" }, knob.title),
      columns.map((levels, column) => svg("text", {
        class: "aside", x: places[column] + cell / 2, y: bottom + 16 + k * 18, "text-anchor": "middle",
      }, shortLabel(knob.levels[levels[k + 1]], cell / 6.4))),
    ]));
  drawing.style.width = `${Math.max(width, across)}px`;
  tooltipOver(drawing, (px, py) => {
    const [row, column] = [Math.floor((py - top) / CELL_ROW), places.findIndex((x) => px >= x && px < x + cell)];
    if (column < 0 || !rows[row] || py < top) return null;
    return {
      title: rows[row].title,
      rows: [
        ...knobs.map(({ title, levels }, k) => [title, levels[columns[column][k]]]),
        ["share", formatPercent(shares[row][column])],
        ["questions", `${formatTick(counts[row][column])} of ${formatTick(rows[row].count)}`],
      ],
    };
  });
  container.replaceChildren(drawing);

  function oneCell(share, x, y) {
    const size = { x: x + 1, y: y + 1, width: cell - 2, height: CELL_ROW - 2, rx: 3 };
    if (share === 0) return svg("rect", { class: "cell-none", ...size });
    const ground = svg("rect", { class: "cell", ...size });
    const heat = 0.08 + (0.92 * share) / most;
    ground.style.fill = heatColour(heat);
    const words = share < 0.005 ? null : svg("text", {
      class: `cell-text ${inkOn(heat)}`, x: x + cell / 2, y: y + CELL_ROW / 2 + 4, "text-anchor": "middle",
    }, String(Math.round(share * 100)));
    return [ground, words];
  }
}
