"use strict";
// Measured over predicted, against one feature: a pattern shows that the estimator has not learnt something.

/** rows: [{actual, median, bound, ...}], values: the feature of each row. */
function residualPanel(container, width, { name, rows, values, describe }) {
  const [left, right, top, bottom] = [52, width - 10, 26, 170];
  const log = asksForLog(values);
  const [low, high] = log ? logExtent(values) : airyExtent(values);
  const x = log ? logScale([low, high], [left, right]) : linearScale([low, high], [left, right]);
  const ratios = rows.map((row) => row.actual / row.median);
  const most = Math.max(1.02, ...ratios.map((ratio) => Math.max(ratio, 1 / ratio)));
  const y = logScale([1 / most, most], [bottom, top]);
  const ticks = [1 / most ** 0.8, 1, most ** 0.8];
  const drawing = svg("svg", { height: bottom + 22, role: "img" },
    svg("text", { class: "name", x: 0, y: 13 }, name.length > 44 ? `${name.slice(0, 43)}…` : name),
    yAxis(ticks, y, left, right, (ratio) => signedPercent(ratio - 1)),
    svg("line", { class: "agree", x1: left, x2: right, y1: y(1), y2: y(1) }),
    rows.map((row, i) => svg("circle", {
      class: `dot ${row.bound !== null && row.actual > row.bound ? "missed" : row.support === "inside" ? "" : "beyond"}`, cx: x(values[i]).toFixed(1), cy: y(ratios[i]).toFixed(1), r: 2.2,
    })),
    xAxis(log ? logTicks(low, high) : roundTicks(low, high, Math.max(2, (right - left) / 90)), x, bottom),
  );
  tooltipOver(drawing, (px, py) => {
    let [best, least] = [-1, 16];
    rows.forEach((_, i) => {
      const distance = Math.hypot(x(values[i]) - px, y(ratios[i]) - py);
      if (distance < least) [best, least] = [i, distance];
    });
    return best < 0 ? null : describe(rows[best]);
  });
  container.replaceChildren(drawing);
}

function signedPercent(share) {
  if (Math.abs(share) < 1e-9) return "0 %";
  return `${share > 0 ? "+" : "−"}${formatNumber(Math.abs(share) * 100, 2)} %`;
}
