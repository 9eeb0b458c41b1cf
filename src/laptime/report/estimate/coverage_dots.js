"use strict";
// How often the bound held in each group, with its 95 % interval. The dashed line is the share that was asked for.

/** groups: [{group, rows, coverage, low, high, width}], q: the coverage that was asked for. */
function coverageDots(container, width, { groups, q }) {
  const [left, right, height] = [Math.min(320, width * 0.4), width - 70, 24];
  const least = Math.min(q - 0.15, ...groups.map((group) => group.low ?? 1));
  const x = linearScale([Math.max(0, least), 1], [left, right]);
  const bottom = groups.length * height + 8;
  const letters = Math.floor(left / 6.6) - 2;
  const drawing = svg("svg", { height: bottom + 22, role: "img" },
    svg("line", { class: "ceiling-line", x1: x(q), x2: x(q), y1: 0, y2: bottom }),
    groups.map((group, i) => {
      const y = i * height + 16;
      const name = group.group.length > letters ? `${group.group.slice(0, letters - 1)}…` : group.group;
      if (group.coverage === null) return [svg("text", { class: "aside", x: 0, y: y + 4 }, name), svg("text", { x: left, y: y + 4 }, "no bound given")];
      const bad = group.high < q;
      return [
        svg("text", { class: "aside", x: 0, y: y + 4 }, name),
        svg("line", { class: bad ? "whisker bad" : "whisker", x1: x(Math.max(0, group.low)), x2: x(group.high), y1: y, y2: y }),
        svg("circle", { class: bad ? "dot missed" : "dot", cx: x(group.coverage), cy: y, r: 4 }),
        svg("text", { x: right + 10, y: y + 4 }, `${formatPercent(group.coverage)}`),
      ];
    }),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(roundTicks(Math.max(0, least), 1, 5), x, bottom, (share) => `${formatTick(share * 100)} %`),
  );
  tooltipOver(drawing, (_, py) => {
    const group = groups[Math.floor((py - 4) / height)];
    if (!group) return null;
    return {
      title: group.group,
      rows: [
        ["bound holds", group.coverage === null ? "no bound given" : formatPercent(group.coverage)],
        ["95 % interval", group.low === null ? "–" : `${formatPercent(group.low)} to ${formatPercent(group.high)}`],
        ["rows", String(group.rows)],
        ["bound / actual", formatNumber(group.width)],
      ],
    };
  });
  container.replaceChildren(drawing);
}
