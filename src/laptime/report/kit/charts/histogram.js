"use strict";
// How the values of one quantity are spread: bars for all of them (pale) and for the chosen ones (full), the
// median with its interval, the 95th percentile, and a dot for each value while they are few.

const HISTOGRAM_DOTS = 400;

/** What to draw: {name, swatch, all, chosen, framed, summary: {median, low, high, p95} | null}.
 *  `framed` are the values that set the axis; what lies outside it is counted in words. */
function histogram(container, width, { name, swatch, all, chosen, framed, summary }) {
  const [left, right, top, bottom] = [2, width - 14, 34, 118];
  const [low, high] = airyRange(framed.length ? framed : all);
  const step = roundStep(low, high, Math.max(12, Math.min(36, 2.2 * Math.sqrt(all.length) + 8)));
  const first = Math.floor(low / step);
  const count = Math.max(1, Math.ceil(high / step - 1e-9) - first);
  const x = linearScale([first * step, (first + count) * step], [left, right]);
  const inAll = binned(all, first, count, step);
  const inChosen = binned(chosen, first, count, step);
  const y = linearScale([0, Math.max(1, ...inAll.counts)], [0, bottom - top - 8]);
  const bars = (counts, extra) =>
    counts.map((n, i) =>
      n === 0
        ? null
        : svg("rect", {
            class: `${swatch} ${extra}`,
            x: x((first + i) * step) + 0.5,
            width: Math.max(1, x((first + i + 1) * step) - x((first + i) * step) - 1),
            y: bottom - y(n),
            height: y(n),
          }),
    );
  const dots = all.length <= HISTOGRAM_DOTS;
  const axisAt = dots ? bottom + 12 : bottom;
  const drawing = svg(
    "svg",
    { height: axisAt + 22, role: "img" },
    svg("text", { class: "name", x: left, y: 13 }, name),
    summary
      ? svg("text", { class: "aside", x: right, y: 13, "text-anchor": "end" },
          `median ${formatMs(summary.median)}${summary.p95 === null ? "" : `, p95 ${formatMs(summary.p95)}`}`)
      : null,
    summary && summary.low !== null
      ? svg("rect", { class: "band", x: x(summary.low), width: Math.max(1, x(summary.high) - x(summary.low)),
          y: top - 6, height: axisAt - top + 6 })
      : null,
    bars(inAll.counts, "pale"),
    bars(inChosen.counts, ""),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    dots ? dotsOf(all, "pale") : null,
    dots ? dotsOf(chosen, "") : null,
    summary ? marker(summary.median, "median") : null,
    summary && summary.p95 !== null && summary.p95 <= (first + count) * step ? marker(summary.p95, "cursor") : null,
    inAll.beyond ? svg("text", { class: "aside", x: right, y: 30, "text-anchor": "end" }, `${inAll.beyond} beyond the axis`) : null,
    xAxis(roundTicks(first * step, (first + count) * step, width / 90), x, axisAt),
  );
  tooltipOver(drawing, (px) => {
    const i = Math.floor((((px - left) / (right - left)) * count));
    if (i < 0 || i >= count) return null;
    return {
      title: `${formatTick((first + i) * step)} to ${formatTick((first + i + 1) * step)} ms`,
      rows: [["in full colour", String(inChosen.counts[i]), swatch], ["all calls", String(inAll.counts[i])]],
    };
  });
  container.replaceChildren(drawing);

  function dotsOf(values, extra) {
    return values
      .filter((value) => value >= first * step && value <= (first + count) * step)
      .map((value) => svg("circle", { class: `${swatch} ${extra}`, cx: x(value), cy: bottom + 7, r: 2.2 }));
  }

  function marker(value, kind) {
    return svg("line", { class: kind, x1: x(value), x2: x(value), y1: top - 6, y2: axisAt });
  }
}

function binned(values, first, count, step) {
  const counts = new Array(count).fill(0);
  let beyond = 0;
  for (const value of values) {
    const i = Math.min(Math.floor(value / step) - first, value <= (first + count) * step * (1 + 1e-12) ? count - 1 : count);
    if (i >= 0 && i < count) counts[i] += 1;
    else beyond += 1;
  }
  return { counts, beyond };
}

/** The values' range, widened so that a single value, or equal ones, still have room around them. */
function airyRange(values) {
  const [low, high] = extent(values);
  const air = Math.max((high - low) * 0.08, Math.abs(high) * 0.01, 1e-6);
  return [Math.max(low >= 0 ? 0 : -Infinity, low - air), high + air];
}
