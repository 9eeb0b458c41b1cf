"use strict";
// How a stage's time ranges within each tier: a thin line from the least to the most, a bar over the middle nine tenths,
// a mark at the median. One small plot a stage, each on its own axis from zero.

const RANGE_ROW = 34;

/** What to draw: {name, swatch, rows: [{tier, n, min, low, median, high, max}]}, in ms. */
function rangeRows(container, width, { name, swatch, rows }) {
  const labels = rows.map(({ tier }) => shortLabel(tier, 14));
  const left = Math.max(24, ...labels.map((label) => label.length * 7.8 + 14));
  const right = width - 66;
  const top = 24;
  const bottom = top + rows.length * RANGE_ROW;
  const most = Math.max(...rows.map((row) => row.max), 1e-6);
  const framed = Math.min(most, 1.7 * Math.max(...rows.map((row) => row.high), 1e-6)); // one stray call squeezes nothing
  const x = linearScale([0, framed * 1.02], [left, right]);
  const end = (value) => Math.min(x(value), right);
  const drawing = svg(
    "svg",
    { height: bottom + 22, role: "img" },
    svg("text", { class: "name", x: 0, y: 13 }, name),
    roundTicks(0, framed, right / 90).map((tick) => svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom })),
    rows.map((row, i) => {
      const middle = top + (i + 0.5) * RANGE_ROW;
      return [
        svg("text", { class: "level", x: left - 9, y: middle + 4, "text-anchor": "end" }, labels[i]),
        svg("line", { class: "range-all", x1: x(row.min), x2: end(row.max), y1: middle, y2: middle }),
        svg("rect", { class: swatch, x: x(row.low), width: Math.max(2, end(row.high) - x(row.low)), y: middle - 8, height: 16, rx: 3 }),
        svg("line", { class: "range-median", x1: x(row.median), x2: x(row.median), y1: middle - 11, y2: middle + 11 }),
        svg("text", { class: "aside", x: width, y: middle + 4, "text-anchor": "end" }, formatMs(row.median)),
      ];
    }),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(roundTicks(0, framed, right / 90), x, bottom),
  );
  tooltipOver(drawing, (_, py) => {
    const row = rows[Math.floor((py - top) / RANGE_ROW)];
    return row && py >= top ? {
      title: `${name}, ${row.tier}`,
      rows: [["median", formatMs(row.median), swatch], ["5th to 95th percentile", `${formatMs(row.low)} to ${formatMs(row.high)}`],
        ["least to most", `${formatMs(row.min)} to ${formatMs(row.max)}`], ["samples", formatTick(row.n)]],
    } : null;
  });
  container.replaceChildren(drawing);
}
