"use strict";
// Two measurements of the same thing against each other: a dot for each pair, and the line on which they would agree.

/** What to draw: {pairs: [{name, direct, subtracted, clamped}], xName, yName}. Values in ms; both axes from 0. */
function pairScatter(container, width, { pairs, xName, yName }) {
  const [left, right, top, bottom] = [52, width - 12, 22, 250];
  const most = Math.max(...pairs.flatMap((pair) => [pair.direct, pair.subtracted]), 1e-9) * 1.06;
  const [least, largest] = airyExtent(pairs.map((pair) => pair.direct));
  const x = linearScale([least, largest], [left, right]);
  const y = linearScale([0, most], [bottom, top]);
  const drawing = svg(
    "svg",
    { height: bottom + 38, role: "img" },
    yAxis(roundTicks(0, most, 4), y, left, right),
    svg("text", { x: left, y: top - 10 }, yName),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    svg("path", { class: "agree", d: `M${x(least)},${y(least)}L${x(largest)},${y(Math.min(largest, most))}` }),
    svg("text", { class: "aside", x: right, y: y(Math.min(largest, most)) - 8, "text-anchor": "end" }, "where both would agree"),
    pairs.map((pair) =>
      svg("circle", { class: pair.clamped ? "dot clamped" : "dot", cx: x(pair.direct), cy: y(pair.subtracted), r: 3.2 }),
    ),
    xAxis(roundTicks(least, largest, right / 100), x, bottom),
    svg("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, xName),
  );
  tooltipOver(drawing, (px, py) => {
    const distance = (pair) => Math.hypot(x(pair.direct) - px, y(pair.subtracted) - py);
    const closest = pairs.reduce((best, pair) => (distance(pair) < distance(best) ? pair : best));
    if (distance(closest) > 24) return null;
    return {
      title: closest.name,
      rows: [
        ["decode, direct", formatMs(closest.direct)],
        ["decode, by subtraction", closest.clamped ? "0 (clamped)" : formatMs(closest.subtracted)],
      ],
    };
  });
  container.replaceChildren(drawing);
}
