"use strict";
// A quantity over two knobs: a cell for each pair of levels, its number in it, its colour between the lowest and the
// highest shown. Levels of a third knob stand side by side on the same colours.

const CELL_LEAST = 54;
const CELL_MOST = 148;

/** What to draw: {columns: {title, labels}, rows: {title, labels}, panels: [{title, cells}], format, logarithmic}.
 *  cells[row][column] is null (nothing was asked for there) or {value, failed, partly, describe()}: `value` null with
 *  `failed`, the word to print, where nothing could be measured; `partly` where something is missing in the number. */
function heatMap(container, width, { columns, rows, panels, format, logarithmic }) {
  const rowNames = rows.labels.map((label) => shortLabel(label, 16));
  const left = Math.max(40, ...rowNames.map((label) => label.length * 7.2 + 14), rows.title.length * 6.6 + 8);
  const cellHeight = rows.labels.length > 10 ? 30 : 44;
  const [perLine, cell] = fit(width, left, columns.labels.length, panels.length);
  const panelWidth = columns.labels.length * cell;
  const lineHeight = rows.labels.length * cellHeight + (panels[0].title ? 26 : 0) + 44;
  const values = panels.flatMap(({ cells }) => cells.flat()).filter((one) => one && one.value !== null).map((one) => one.value);
  const share = colourShare(values, logarithmic);
  const places = [];
  const units = new Set(values.map((value) => format(value).split(" ").at(1)));
  const inCell = (value) => (cell < 74 && units.size === 1 ? format(value).split(" ")[0] : format(value)); // the legend has the unit
  const drawn = panels.map((panel, i) => {
    const x = left + (i % perLine) * (panelWidth + 22);
    const y = Math.floor(i / perLine) * (lineHeight + 16) + (panel.title ? 26 : 0);
    return onePanel(panel, x, y, i % perLine === 0);
  });
  const needed = left + Math.min(perLine, panels.length) * (panelWidth + 22) - 22;
  const height = Math.ceil(panels.length / perLine) * (lineHeight + 16) - 8;
  const drawing = svg("svg", { height, role: "img" }, hatching(), drawn);
  drawing.style.width = `${Math.max(needed, width)}px`;
  tooltipOver(drawing, (px, py) => {
    const place = places.find(({ x, y }) => px >= x && px < x + cell && py >= y && py < y + cellHeight);
    return place ? place.describe() : null;
  });
  container.replaceChildren(legend(), drawing);

  function onePanel({ title, cells }, x, y, first) {
    const bottom = y + rows.labels.length * cellHeight;
    return svg(
      "g",
      { "data-panel": title ?? "" },
      title ? svg("text", { class: "name", x: x + panelWidth / 2, y: y - 10, "text-anchor": "middle" }, shortLabel(title, panelWidth / 7)) : null,
      first ? rowNames.map((label, row) =>
        svg("text", { class: "level", x: x - 9, y: y + (row + 0.5) * cellHeight + 4, "text-anchor": "end" }, label)) : null,
      first ? svg("text", { x: x - 9, y: bottom + 18, "text-anchor": "end" }, rows.title) : null,
      columns.labels.map((label, column) =>
        svg("text", { class: "level", x: x + (column + 0.5) * cell, y: bottom + 18, "text-anchor": "middle" }, shortLabel(label, cell / 7.4))),
      svg("text", { x: x + panelWidth / 2, y: bottom + 35, "text-anchor": "middle" }, columns.title),
      cells.map((line, row) => line.map((one, column) => oneCell(one, x + column * cell, y + row * cellHeight))),
    );
  }

  function oneCell(one, x, y) {
    const size = { x: x + 1, y: y + 1, width: cell - 2, height: cellHeight - 2, rx: 4 };
    const centre = { x: x + cell / 2, y: y + cellHeight / 2 + 5, "text-anchor": "middle" };
    if (one === null) return svg("rect", { class: "cell missing", ...size });
    places.push({ x, y, describe: one.describe });
    if (one.value === null) {
      return [svg("rect", { class: "cell failed", fill: "url(#hatch)", ...size }), svg("text", { class: "cell-text failed", ...centre }, one.failed)];
    }
    const ground = svg("rect", { class: "cell", ...size });
    ground.style.fill = heatColour(share(one.value));
    return [
      ground,
      svg("text", { class: `cell-text ${inkOn(share(one.value))}`, ...centre }, inCell(one.value)),
      one.partly ? svg("path", { class: "cell-partly", d: `M${x + cell - 14},${y + 1}h9q4,0 4,4v9Z` }) : null,
    ];
  }

  function legend() {
    if (values.length === 0) return node("div", { class: "heat-legend" });
    const [low, high] = extent(values);
    const bar = node("span", { class: "heat-bar" });
    const stops = Array.from({ length: 9 }, (_, i) => heatColour(i / 8));
    bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    return node("div", { class: "heat-legend" }, node("span", {}, format(low)), bar, node("span", {}, format(high)),
      node("span", { class: "faint" }, low > 0 && high > low ? `highest is ${formatNumber(high / low)}× the lowest` : ""));
  }
}

/** Panels in a line and a cell's width: as many as fit with readable cells, the map scrolls sideways when none do. */
function fit(width, left, columns, panels) {
  for (let perLine = Math.max(1, panels); ; perLine -= 1) {
    const cell = Math.floor((width - left - 22 * (perLine - 1)) / (perLine * columns));
    if (cell >= CELL_LEAST || perLine === 1) return [perLine, Math.max(CELL_LEAST, Math.min(CELL_MOST, cell))];
  }
}

/** From a value to its place between the lowest (0) and the highest (1), by ratio where all are above zero. */
function colourShare(values, logarithmic) {
  const [low, high] = extent(values);
  if (!(high > low)) return () => 0.25;
  return logarithmic && low > 0 ? logScale([low, high], [0, 1]) : linearScale([low, high], [0, 1]);
}

/** Even steps look even: three colours of the style sheet, mixed in a perceptually uniform space. */
function heatColour(share) {
  const [from, to, part] = share < 0.5 ? ["low", "mid", share * 2] : ["mid", "high", share * 2 - 1];
  return `color-mix(in oklab, var(--heat-${to}) ${(part * 100).toFixed(1)}%, var(--heat-${from}))`;
}

/** Which ink can be read on the colour of this share: dark on the middle ones in both schemes. */
function inkOn(share) {
  return share < 0.43 ? "low" : share < 0.66 ? "mid" : "high";
}

function hatching() {
  return svg("defs", {}, svg("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { class: "hatch-ground", width: 7, height: 7 }), svg("rect", { class: "hatch-line", width: 2, height: 7 })));
}

/** A label cut to about `most` characters. */
function shortLabel(text, most) {
  const limit = Math.max(3, Math.floor(most));
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}
