"use strict";
// Several ranks: one bar each, all to one scale.

const ranks = pageData();

function rankBars(container, width) {
  const names = { compute: "compute", communication: "exposed communication", copy: "only copies and memsets", idle: "idle" };
  const longest = Math.max(1, ...ranks.map((row) => row.span));
  const [left, step] = [58, ranks.length > 64 ? 12 : 26];
  const scale = linearScale([0, longest], [0, width - left]);
  const drawn = ranks.map((row, i) => {
    let at = 0;
    const parts = Object.keys(names).map((kind) => {
      const from = scale(at);
      at += row[kind];
      const wide = scale(at) - from;
      return row[kind] ? svg("rect", { class: `work-${kind}`, x: left + from, y: i * step + 2, width: Math.max(wide, 0.5), height: step - 5 }) : null;
    });
    const label = step > 12 ? svg("text", { class: "bar-value", x: 0, y: i * step + 17 }, `rank ${row.rank}`) : null;
    return [label, parts];
  });
  const drawing = svg("svg", { height: ranks.length * step + 4, role: "img" }, drawn);
  const legend = node("ul", { class: "legend" }, Object.entries(names).map(([kind, name]) =>
    node("li", {}, node("span", { class: `swatch work-${kind}` }), name)));
  container.replaceChildren(drawing, legend);
}

drawInto(document.getElementById("rank-bars"), (width) => rankBars(document.getElementById("rank-bars"), width));
