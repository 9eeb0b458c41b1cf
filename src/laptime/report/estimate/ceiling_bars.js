"use strict";
// R2 beside the best that any predictor could reach: a bar for each way of holding out; its frame is the ceiling.

/** What to draw: {splits: [{name, r2, r2_low, r2_high, reachable}], ceiling: {value, low, high} | null}. */
function ceilingBars(container, width, { splits, ceiling }) {
  const rows = splits.filter((split) => split.r2 !== null);
  const [left, right, height] = [Math.min(190, Math.max(width * 0.34, 150)), width - 128, 38];
  const x = linearScale([0, 1], [left, right]);
  const bottom = rows.length * height + 6;
  const drawn = rows.map((split, i) => {
    const y = i * height + 8;
    const value = Math.max(0, Math.min(1, split.r2));
    const top = split.reachable;
    const reached = top ? `${formatPercent(split.r2 / top)} of ${top.toFixed(3)}` : "ceiling unknown";
    const share = split.r2 < 0 ? "worse than the mean" : reached;
    return [
      svg("text", { class: "name", x: 0, y: y + 17 }, split.name),
      svg("rect", { class: "bar-frame", x: left, y, width: x(top ?? 1) - left, height: 24 }),
      svg("rect", { class: "bar-solid", x: left, y: y + 4, width: Math.max(x(value) - left, 0.5), height: 16 }),
      split.n > 1 && split.r2_high > 0
        ? svg("line", { class: "whisker", x1: x(clampShare(split.r2_low)), x2: x(clampShare(split.r2_high)), y1: y + 12, y2: y + 12 })
        : null,
      svg("text", { class: "bar-value", x: right + 10, y: y + 10 }, `R² ${split.r2.toFixed(3).replace("-", "−")}`),
      svg("text", { x: right + 10, y: y + 24 }, share),
    ];
  });
  const band = ceiling && ceiling.low !== null
    ? svg("rect", { class: "ceiling-band", x: x(ceiling.low), width: Math.max(x(ceiling.high) - x(ceiling.low), 1), y: 0, height: bottom })
    : null;
  const line = ceiling ? svg("line", { class: "ceiling-line", x1: x(ceiling.value), x2: x(ceiling.value), y1: 0, y2: bottom }) : null;
  container.replaceChildren(
    svg("svg", { height: bottom + 24, role: "img" }, band, drawn, line,
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      xAxis([0, 0.25, 0.5, 0.75, 1], x, bottom)),
  );
}

function clampShare(value) {
  return Math.max(0, Math.min(1, value));
}
