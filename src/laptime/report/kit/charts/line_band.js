"use strict";
// A line within its band: the median of something at each position, and how far it spreads.

/** What to draw: {x, low, mid, high, n, xName, title(i)}; all arrays of one length. Values in ms. */
function lineBand(container, width, { x: xs, low, mid, high, n, xName, title }) {
  const [left, right, top, bottom] = [52, width - 12, 16, 214];
  const [bottomValue, topValue] = airyExtent([...low, ...high]);
  const x = linearScale(extent(xs), [left, right]);
  const y = linearScale([bottomValue, topValue], [bottom, top]);
  const point = (values) => (i) => `${x(xs[i]).toFixed(1)},${y(values[i]).toFixed(1)}`;
  const forward = xs.map((_, i) => i);
  const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
  const spot = svg("circle", { class: "decode", r: 3.5, visibility: "hidden" });
  const drawing = svg(
    "svg",
    { height: bottom + 36, role: "img" },
    yAxis(roundTicks(bottomValue, topValue, 5), y, left, right),
    svg("text", { class: "aside", x: right, y: top - 8, "text-anchor": "end" }, "ms"),
    svg("path", { class: "band", d: `M${[...forward.map(point(high)), ...forward.toReversed().map(point(low))].join("L")}Z` }),
    svg("path", { class: "line", d: `M${forward.map(point(mid)).join("L")}` }),
    xs.length === 1 ? svg("circle", { class: "decode", cx: x(xs[0]), cy: y(mid[0]), r: 3.5 }) : null,
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(roundTicks(...extent(xs), width / 90).filter(Number.isInteger), x, bottom),
    svg("text", { x: (left + right) / 2, y: bottom + 32, "text-anchor": "middle" }, xName),
    cursor,
    spot,
  );
  tooltipOver(drawing, (px) => {
    const i = nearest(xs, extent(xs)[0] + ((px - left) / (right - left)) * (extent(xs)[1] - extent(xs)[0]));
    for (const [key, value] of [["x1", x(xs[i])], ["x2", x(xs[i])], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    for (const [key, value] of [["cx", x(xs[i])], ["cy", y(mid[i])], ["visibility", "visible"]]) spot.setAttribute(key, value);
    return {
      title: title(i),
      rows: [["p95", formatMs(high[i])], ["median", formatMs(mid[i]), "decode"], ["p5", formatMs(low[i])], ["samples", String(n[i])]],
    };
  });
  drawing.addEventListener("pointerleave", () => [cursor, spot].forEach((mark) => mark.setAttribute("visibility", "hidden")));
  container.replaceChildren(drawing);
}
