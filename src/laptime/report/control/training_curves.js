"use strict";
// How policies were trained: one small plot for each figure, a line for each policy over the decisions that were drawn.

/** What to draw: {name, curves: [{title, hue, decisions, values}], share}: `share` when the figure is one of 0..1. */
function trainingCurve(container, width, { name, curves, share }) {
  const [left, right, top, bottom] = [44, width - 10, 26, 132];
  const domain = airyExtent(curves.flatMap(({ values }) => values));
  if (share) domain[1] = Math.min(1, domain[1]);
  const furthest = Math.max(...curves.map(({ decisions }) => decisions.at(-1)));
  const units = [["million decisions", 1e6], ["thousand decisions", 1e3], ["decisions", 1]];
  const [unit, size] = units.find(([, many]) => furthest >= 2 * many) ?? units.at(-1);
  const x = linearScale([0, furthest / size], [left, right]);
  const y = linearScale(domain, [bottom, top]);
  const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
  const format = (value) => (share ? `${formatTick(value * 100)} %` : formatTick(value));
  const drawing = svg("svg", { height: bottom + 36, role: "img" },
    svg("text", { class: "name", x: 0, y: 13 }, name),
    yAxis(roundTicks(...domain, 3), y, left, right, format),
    curves.toReversed().map(({ hue, decisions, values }) => svg("g", { class: hue },
      svg("path", { class: "curve", d: gappedLine(values, (i) => x(decisions[i] / size), y) }))),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(roundTicks(0, furthest / size, Math.max(2.5, (right - left) / 60)), x, bottom),
    svg("text", { x: (left + right) / 2, y: bottom + 32, "text-anchor": "middle" }, unit),
    cursor);
  tooltipOver(drawing, (px) => {
    const wanted = Math.max(0, Math.min(1, (px - left) / (right - left))) * furthest;
    const at = x(wanted / size);
    for (const [key, value] of [["x1", at], ["x2", at], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    return {
      title: name,
      rows: curves.map(({ title, hue, decisions, values }) => {
        const value = values[nearest(decisions, wanted)];
        return [title, share && value !== null ? formatPercent(value) : formatNumber(value), hue];
      }),
      text: `after ${formatTick(Math.round(wanted))} decisions`,
    };
  });
  drawing.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
  container.replaceChildren(drawing);
}
