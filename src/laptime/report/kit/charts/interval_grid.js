"use strict";
// Intervals against one line, in rows and panels: whether each dot keeps what was asked is seen at a glance. A value that
// lies left of the shared scale is an arrow at its edge.

const GRID_ROW = 24;
const HEAD_ROW = 20;
const PANEL_LEAST = 148;

/** What to draw: {rows: [{title, head}], panels: [{title, cells}], line, domain, tick(value)};
 *  cells[row] is null or {value, low, high, tone, words, describe()}. `head`: a line above the row that names what
 *  follows, or null. */
function intervalGrid(container, width, { rows, panels, line, domain, tick }) {
  const letters = width < 640 ? 14 : 26;
  const named = rows.flatMap(({ title, head }) => [title, head ?? ""]);
  const left = 12 + 7 * Math.max(...named.map((words) => Math.min(letters, words.length)));
  const least = Math.max(PANEL_LEAST, 18 + 7.6 * Math.max(...panels.map(({ title }) => Math.min(30, title.length))));
  const most = Math.max(1, Math.min(panels.length, Math.floor((width - left) / least)));
  const perLine = Math.ceil(panels.length / Math.ceil(panels.length / most)); // no line with a lone panel
  const panelWidth = (width - left) / perLine;
  let next = 26;
  const tops = rows.map(({ head }) => (next += GRID_ROW + (head ? HEAD_ROW : 0)) - GRID_ROW);
  const bottom = next + 2;
  const lineHeight = bottom + 34;
  const places = [];
  const height = Math.ceil(panels.length / perLine) * lineHeight - 10;
  const drawing = svg("svg", { height, role: "img", class: "interval-grid" }, panels.map((panel, i) =>
    onePanel(panel, left + (i % perLine) * panelWidth, Math.floor(i / perLine) * lineHeight, i % perLine === 0)));
  tooltipOver(drawing, (px, py) => {
    const place = places.find((one) => px >= one.x && px < one.x + panelWidth && py >= one.y && py < one.y + GRID_ROW);
    return place ? place.cell.describe() : null;
  });
  container.replaceChildren(drawing);

  function onePanel({ title, cells }, x0, y0, first) {
    const [start, end] = [x0 + 10, x0 + panelWidth - 52];
    const x = linearScale(domain, [start, end]);
    const inside = (value) => Math.max(start, Math.min(end, x(value)));
    const level = (height) => ({ y1: height, y2: height });
    const ticks = roundTicks(...domain, Math.max(2, (end - start) / 46));
    return svg("g", { "data-panel": title, transform: `translate(0,${y0})` },
      svg("text", { class: "name", x: start, y: 13 }, shortLabel(title, (panelWidth - 12) / 7.4)),
      ticks.map((at) => svg("line", { class: "grid", x1: x(at), x2: x(at), y1: 26, y2: bottom })),
      svg("line", { class: "asked", x1: x(line), x2: x(line), y1: 20, y2: bottom }),
      cells.map((cell, row) => {
        const middle = tops[row] + GRID_ROW / 2;
        const label = first ? [
          rows[row].head ? svg("text", { x: 0, y: tops[row] - 4 }, shortLabel(rows[row].head, letters)) : null,
          svg("text", { class: "level", x: 0, y: middle + 4 }, shortLabel(rows[row].title, letters)),
        ] : null;
        if (cell === null) return label;
        places.push({ x: x0, y: y0 + tops[row], cell });
        const beyond = cell.value < domain[0];
        return [
          label,
          cell.low === null || cell.high < domain[0] ? null
            : svg("line", { class: `reach ${cell.tone}`, x1: inside(cell.low), x2: inside(cell.high), ...level(middle) }),
          beyond
            ? svg("path", { class: `spot ${cell.tone}`, d: `M${start - 2},${middle}l8,-5v10Z` })
            : svg("circle", { class: `spot ${cell.tone}`, cx: inside(cell.value).toFixed(1), cy: middle, r: 4.5 }),
          svg("text", { class: `spot-words ${cell.tone}`, x: end + 8, y: middle + 4 }, cell.words),
        ];
      }),
      svg("line", { class: "axis", x1: start, x2: end, y1: bottom, y2: bottom }),
      xAxis(ticks, x, bottom, tick));
  }
}
