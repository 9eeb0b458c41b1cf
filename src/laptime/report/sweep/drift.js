"use strict";
// What changed while the sweep went on: for each stretch of the run, how long samples took against the median of their own
// configuration. Below it, the GPU's clock, temperature and power where they are known.

/** What to draw: {seconds, ratio, low, high, n, trend, panels: [{name, unit, values}]}; arrays of one length.
 *  `trend` is the factor from the run's start to its end, or null. */
function driftPlot(container, width, { seconds, ratio, low, high, n, trend, panels }) {
  const [unit, size] = [["hours", 3600], ["minutes", 60]].find(([, long]) => seconds.at(-1) >= 3 * long) ?? ["seconds", 1];
  const times = seconds.map((second) => second / size);
  const [left, right, top, bottom] = [58, width - 12, 24, 190];
  const slope = trend === null ? null : { from: 1 / Math.sqrt(trend), to: Math.sqrt(trend) };
  const ends = [...ratio, ...low.filter(finite), ...high.filter(finite), ...(slope ? [slope.from, slope.to] : [])];
  const reach = Math.max(0.01, ...ends.map((value) => Math.abs(value - 1))) * 1.15;
  const domain = [Math.max(0, 1 - reach), 1 + reach];
  const y = linearScale(domain, [bottom, top]);
  const x = linearScale(times.length > 1 ? extent(times) : [0, 2 * times[0] || 1], [left + 6, right - 6]);
  const lowest = bottom + panels.length * 88;
  const cursor = svg("line", { class: "cursor", y1: top, y2: lowest, visibility: "hidden" });
  const drawing = svg(
    "svg",
    { height: lowest + 40, role: "img" },
    svg("text", { class: "name", x: left, y: 13 },
      width < 460 ? "Total against its median" : "Total, once configuration and input are taken out"),
    yAxis(roundTicks(...domain, 5), y, left, right, (tick) => `${formatTick(tick)}×`),
    svg("line", { class: "unit-line", x1: left, x2: right, y1: y(1), y2: y(1) }),
    band(),
    svg("path", { class: "line", d: `M${times.map((at, i) => `${x(at).toFixed(1)},${y(ratio[i]).toFixed(1)}`).join("L")}` }),
    times.map((at, i) => svg("circle", { class: "dot", cx: x(at).toFixed(1), cy: y(ratio[i]).toFixed(1), r: 2.8 })),
    slope ? svg("line", { class: "trend", x1: x(times[0]), x2: x(times.at(-1)), y1: y(slope.from), y2: y(slope.to) }) : null,
    panels.map((panel, row) => onePanel(panel, bottom + 14 + row * 88)),
    xAxis(roundTicks(...extent(times), width / 90), x, lowest),
    svg("text", { x: (left + right) / 2, y: lowest + 34, "text-anchor": "middle" }, `${unit} since the first sample`),
    cursor,
  );
  tooltipOver(drawing, (px) => {
    const i = nearest(times.map((at) => x(at)), px);
    for (const [key, value] of [["x1", x(times[i])], ["x2", x(times[i])], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    return {
      title: `after ${formatNumber(times[i])} ${unit}`,
      rows: [
        ["against the median", `${ratio[i].toFixed(4)}×`],
        ["95 % interval", finite(low[i]) ? `${low[i].toFixed(4)} – ${high[i].toFixed(4)}` : "–"],
        ...panels.map(({ name, unit, values }) => [name, values[i] === null ? "–" : `${formatTick(Number(values[i].toPrecision(4)))} ${unit}`]),
        ["samples", formatTick(n[i])],
      ],
    };
  });
  drawing.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
  container.replaceChildren(drawing);

  function band() {
    const known = times.map((_, i) => i).filter((i) => finite(low[i]) && finite(high[i]));
    if (known.length < 2) return null;
    const edge = (values) => (i) => `${x(times[i]).toFixed(1)},${y(values[i]).toFixed(1)}`;
    return svg("path", { class: "band", d: `M${[...known.map(edge(high)), ...known.toReversed().map(edge(low))].join("L")}Z` });
  }

  function onePanel({ name, unit, values }, offset) {
    const [above, below] = [offset + 22, offset + 74];
    const [least, most] = airyExtent(values);
    const scale = linearScale([least, most], [below, above]);
    let path = "";
    values.forEach((value, i) => {
      if (value !== null) path += `${i > 0 && values[i - 1] !== null ? "L" : "M"}${x(times[i]).toFixed(1)},${scale(value).toFixed(1)}`;
    });
    return [
      svg("text", { class: "name", x: left, y: offset + 13 }, name),
      svg("text", { class: "aside", x: right, y: offset + 13, "text-anchor": "end" }, unit),
      yAxis(roundTicks(least, most, 3), scale, left, right),
      svg("path", { class: "line", d: path }),
    ];
  }
}

function finite(value) {
  return value !== null && value !== undefined && Number.isFinite(value);
}
