"use strict";
// What was chosen for which type of question: for each knob a bar a type, cut into the shares of the knob's levels. The
// costlier a level, the more it stands out.

const BAR_ROW = 32;

/** What to draw: {rows: [{title, count, right}], knobs: [{title, levels}], shares}; shares[row][knob][level] in 0..1,
 *  `right` the share of right answers or null. */
function decisionBars(container, width, { rows, knobs, shares }) {
  const letters = width < 640 ? 16 : 30;
  const left = Math.max(60, 14 + 6.9 * Math.max(...rows.map(({ title }) => Math.min(letters, title.length))));
  const scored = rows.some(({ right }) => right !== null);
  const room = width - left - (scored ? 58 : 0);
  const perLine = Math.max(1, Math.min(knobs.length, Math.floor(room / 165)));
  const panelWidth = room / perLine;
  const top = 48;
  const lineHeight = top + rows.length * BAR_ROW + 18;
  const places = [];
  const height = Math.ceil(knobs.length / perLine) * lineHeight - 12;
  const drawing = svg("svg", { height, role: "img", class: "decision-bars" },
    knobs.map((_, k) => onePanel(k, left + (k % perLine) * panelWidth, Math.floor(k / perLine) * lineHeight)),
    scored ? [
      svg("text", { x: width, y: 36, "text-anchor": "end" }, "right"),
      rows.map((row, i) => svg("text", {
        class: "row-right", x: width, y: top + (i + 0.5) * BAR_ROW + 4, "text-anchor": "end",
      }, row.right === null ? "–" : `${Math.round(row.right * 100)} %`)),
    ] : null);
  tooltipOver(drawing, (px, py) => {
    const place = places.find((one) => px >= one.x && px < one.x + one.wide && py >= one.y && py < one.y + BAR_ROW);
    return place ? describe(place) : null;
  });
  container.replaceChildren(drawing);

  function onePanel(k, x0, y0) {
    const wide = panelWidth - 20;
    const { title, levels } = knobs[k];
    return svg("g", { "data-knob": title, transform: `translate(0,${y0})` },
      svg("text", { class: "name", x: x0, y: 13 }, title),
      legend(levels, x0, wide),
      rows.map((row, i) => {
        const y = top + i * BAR_ROW;
        places.push({ x: x0, y: y0 + y, wide, row: i, knob: k });
        let from = x0;
        return [
          k % perLine === 0
            ? svg("text", { class: "level", x: 0, y: y + BAR_ROW / 2 + 4 }, shortLabel(row.title, letters)) : null,
          shares[i][k].map((share, level) => {
            if (share === 0) return null;
            const size = share * wide;
            const bar = svg("rect", {
              class: "decision-bar", x: from.toFixed(1), y: y + 4, rx: 2,
              width: Math.max(0.5, size - 1.5).toFixed(1), height: BAR_ROW - 8,
            });
            bar.style.fill = heatColour(place(level, levels));
            const words = size < 12 + 7.4 * Math.min(4, levels[level].length) ? null : svg("text", {
              class: `cell-text ${inkOn(place(level, levels))}`, "text-anchor": "middle",
              x: from + size / 2, y: y + BAR_ROW / 2 + 4,
            }, shortLabel(levels[level], size / 7.6));
            from += size;
            return [bar, words];
          }),
        ];
      }));
  }

  function legend(levels, x0, wide) {
    const each = wide / levels.length;
    return levels.map((level, i) => {
      const swatch = svg("rect", { class: "decision-bar", x: x0 + i * each, y: 26, width: 11, height: 11, rx: 2 });
      swatch.style.fill = heatColour(place(i, levels));
      const words = shortLabel(level, (each - 18) / 7);
      return each < 24 ? swatch : [swatch, svg("text", { class: "aside", x: x0 + i * each + 16, y: 36 }, words)];
    });
  }

  function place(level, levels) {
    return levels.length > 1 ? 0.08 + (0.92 * level) / (levels.length - 1) : 0.4;
  }

  function describe({ row, knob }) {
    const { title, levels } = knobs[knob];
    return {
      title: `${rows[row].title}: ${title}`,
      rows: [
        ...levels.map((level, i) => [level, formatPercent(shares[row][knob][i])]),
        ["questions", formatTick(rows[row].count)],
      ],
    };
  }
}
