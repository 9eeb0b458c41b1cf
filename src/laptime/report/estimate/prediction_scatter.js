"use strict";
// Predicted against measured: a dot for each held-out row, a thin line from the prediction up to its bound, and the
// dashed line on which both would agree. A row above its bound is drawn in another colour.

/** rows: [{actual, median, bound, group, support, kind}]; both axes logarithmic, one scale. */
function predictionScatter(container, width, { rows, target, q, describe }) {
  const [left, right, top, bottom] = [58, width - 12, 14, Math.min(430, Math.max(260, width * 0.55))];
  if (!rows.length) {
    container.replaceChildren(node("p", { class: "empty" }, "No row to show."));
    return;
  }
  const [low, high] = logExtent(rows.flatMap((row) => [row.actual, row.median, row.bound ?? row.median]));
  const x = logScale([low, high], [left, right]);
  const y = logScale([low, high], [bottom, top]);
  const ticks = logTicks(low, high);
  const missed = (row) => row.bound !== null && row.actual > row.bound;
  const hairs = rows.length <= 800
    ? rows.filter((row) => row.bound !== null).map((row) => `M${x(row.actual).toFixed(1)},${y(row.median).toFixed(1)}V${y(row.bound).toFixed(1)}`).join("")
    : "";
  const drawing = svg("svg", { height: bottom + 38, role: "img" },
    yAxis(ticks, y, left, right),
    svg("path", { class: "agree", d: `M${x(low)},${y(low)}L${x(high)},${y(high)}` }),
    svg("path", { class: "hairs", d: hairs }),
    rows.map((row) => svg("circle", {
      class: `dot ${missed(row) ? "missed" : row.support === "inside" ? "" : "beyond"}`, cx: x(row.actual).toFixed(1), cy: y(row.median).toFixed(1), r: rows.length > 800 ? 2 : 3,
    })),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(ticks, x, bottom),
    svg("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, `measured ${target}`),
    svg("text", { x: left + 6, y: top + 4 }, `predicted (thin line: up to the ${formatTick(q * 100)} % bound)`),
  );
  tooltipOver(drawing, (px, py) => {
    const distance = (row) => Math.hypot(x(row.actual) - px, y(row.median) - py);
    const closest = rows.reduce((best, row) => (distance(row) < distance(best) ? row : best));
    return distance(closest) > 20 ? null : describe(closest);
  });
  container.replaceChildren(drawing);
}
