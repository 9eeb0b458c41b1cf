"use strict";
// The trace page: the device's time in one bar, the gaps' histogram, the step, what-if bars, the kernels table.

const trace = pageData();
const byId = (id) => document.getElementById(id);
const inMs = (ns) => formatMs(ns / 1e6);

/** The one picture: work by kind, then idle by cause, all to one scale. */
function timeBar(container, width) {
  const { busy_ns: busy, idle_ns: idle, work, causes } = trace.device;
  const names = { compute: "compute", communication: "only communication", copy: "only copies", memset: "only memsets" };
  const parts = [...work.map((row) => ({
    name: names[row.kind], swatch: `work-${row.kind}`, ns: row.share_ns,
  })), ...causes.map((row) => ({
    name: trace.causeWords[row.cause] || row.cause, swatch: `cause-${row.cause}`, ns: row.total_ns,
  }))];
  const scale = linearScale([0, busy + idle], [0, width]);
  let at = 0;
  const drawn = parts.map((part) => {
    const [left, right] = [scale(at), scale(at + part.ns)];
    at += part.ns;
    const label = `${part.name} ${formatPercent(part.ns / (busy + idle))}`;
    return [
      svg("rect", { class: part.swatch, x: left, y: 2, width: Math.max(right - left - 1, 0.5), height: 44 }),
      right - left > label.length * 8 + 18 ? svg("text", { class: "on-bar", x: left + 9, y: 29 }, label) : null,
    ];
  });
  const drawing = svg("svg", { height: 50, role: "img" }, drawn);
  tooltipOver(drawing, (px) => {
    let sum = 0;
    const part = parts.find((p) => (sum += p.ns) >= (px / width) * (busy + idle)) || parts[parts.length - 1];
    return { title: part.name, rows: [["time", inMs(part.ns), part.swatch], ["share", formatPercent(part.ns / (busy + idle))]] };
  });
  const legend = node("ul", { class: "legend" }, parts.filter((p) => p.ns / (busy + idle) >= 0.0005).map((p) =>
    node("li", {}, node("span", { class: `swatch ${p.swatch}` }), p.name, " ", node("b", {}, formatPercent(p.ns / (busy + idle))))));
  container.replaceChildren(drawing, legend);
}

/** A column for each bin. */
function gapColumns(bins, names, width) {
  const [top, bottom] = [22, 150];
  const column = width / bins.length;
  const time = linearScale([0, Math.max(1, ...bins.map((b) => b.total_ns))], [0, bottom - top]);
  const number = linearScale([0, Math.max(1, ...bins.map((b) => b.count))], [0, bottom - top]);
  return svg("svg", { height: 190, role: "img" },
    bins.map((bin, i) => {
      const left = i * column + 4;
      const half = (column - 10) / 2;
      return [
        svg("rect", { class: "bar-time", x: left, y: bottom - time(bin.total_ns), width: half, height: time(bin.total_ns) }),
        svg("rect", { class: "bar-count", x: left + half + 2, y: bottom - number(bin.count), width: half, height: number(bin.count) }),
        bin.total_ns ? svg("text", { class: "bar-value", x: left, y: bottom - time(bin.total_ns) - 5 }, inMs(bin.total_ns)) : null,
        svg("text", { x: left + half, y: bottom + 16, "text-anchor": "middle" }, names[i]),
        svg("text", { x: left + half, y: bottom + 32, "text-anchor": "middle" }, `${formatTick(bin.count)} ${bin.count === 1 ? "gap" : "gaps"}`),
      ];
    }),
    svg("line", { class: "axis", x1: 0, x2: width, y1: bottom, y2: bottom }));
}

/** On a narrow page: a row for each bin, its time above its count, with the words beside the bars. */
function gapRows(bins, names, width) {
  const [left, right, high] = [104, 84, 40];
  const time = linearScale([0, Math.max(1, ...bins.map((b) => b.total_ns))], [0, width - left - right]);
  const number = linearScale([0, Math.max(1, ...bins.map((b) => b.count))], [0, width - left - right]);
  return svg("svg", { height: bins.length * high, role: "img" }, bins.map((bin, i) => {
    const y = i * high + 3;
    return [
      svg("text", { x: 0, y: y + 20 }, names[i]),
      bin.count ? svg("rect", { class: "bar-time", x: left, y, width: Math.max(time(bin.total_ns), 0.5), height: 14 }) : null,
      svg("text", { class: "bar-value", x: left + time(bin.total_ns) + 6, y: y + 11 }, bin.total_ns ? inMs(bin.total_ns) : ""),
      bin.count ? svg("rect", { class: "bar-count", x: left, y: y + 16, width: Math.max(number(bin.count), 0.5), height: 14 }) : null,
      svg("text", { x: left + number(bin.count) + 6, y: y + 27 }, `${formatTick(bin.count)} ${bin.count === 1 ? "gap" : "gaps"}`),
    ];
  }));
}

/** Seven bins: how much time (full bars), how many gaps (pale bars above each other's scale). */
function gapBins(container, width, bins) {
  const edge = (ns) => (ns >= 1e6 ? `${ns / 1e6} ms` : `${ns / 1e3} µs`);
  const names = bins.map((bin) => (bin.hi_ns === null ? `≥ ${edge(bin.lo_ns)}` : bin.lo_ns === 0 ? `< ${edge(bin.hi_ns)}` : `${edge(bin.lo_ns)} – ${edge(bin.hi_ns)}`));
  const drawing = width < 600 ? gapRows(bins, names, width) : gapColumns(bins, names, width);
  const legend = node("ul", { class: "legend" },
    node("li", {}, node("span", { class: "swatch cause-host-not-launching" }), "total time"),
    node("li", {}, node("span", { class: "swatch cause-queued" }), "number of gaps"));
  container.replaceChildren(drawing, legend);
}

/** A range, or one number where both ends read the same. */
const rangeText = (low, high, between) => (low === high ? low : `${low}${between}${high}`);

/** One bar per remedy from 0 to the time as traced; the range is pale. On a narrow page the words stand above their bar. */
function whatIf(container, width, what, base, remedies) {
  const rows = [{ remedy: `${what} as traced`, step_ns_low: base, step_ns_high: base }, ...remedies];
  const narrow = width < 600;
  const [left, above, right, high] = narrow ? [0, 20, 0, 54] : [120, 0, 210, 32];
  const scale = linearScale([0, Math.max(...rows.map((row) => row.step_ns_high))], [0, width - left - right]);
  container.replaceChildren(svg("svg", { height: rows.length * high + 4, role: "img" }, rows.map((row, i) => {
    const y = i * high + 4 + above;
    const exact = row.step_ns_low === row.step_ns_high;
    const text = rangeText(inMs(row.step_ns_low), inMs(row.step_ns_high), " to ");
    const times = row.speedup_low === undefined || (row.speedup_low === 1 && row.speedup_high === 1) ? ""
      : `  ${rangeText(formatNumber(row.speedup_low), formatNumber(row.speedup_high), "–")}×`;
    const [low, until] = [scale(row.step_ns_low), scale(row.step_ns_high)];
    return [
      svg("text", { class: "bar-value", x: 0, y: narrow ? y - 6 : y + 17 }, narrow ? `${row.remedy}: ${text}${times}` : row.remedy),
      svg("rect", { class: i === 0 ? "bar-base" : "bar-solid", x: left, y, width: Math.max(low, 1), height: 24 }),
      exact ? null : svg("rect", { class: "bar-range", x: left + low, y, width: Math.max(until - low, 1), height: 24 }),
      narrow ? null : svg("text", { class: "bar-value", x: left + until + 8, y: y + 17 }, text + times),
    ];
  })));
}

function stepLegend(list, step) {
  const kinds = { gemm: "GEMM, GEMV, convolution", attention: "attention", small: "elementwise, norm, reduce", copy: "copy, gather",
    communication: "communication", else: "other" };
  const used = new Set(step.families.map(familyClass));
  list.replaceChildren(
    ...trace.stepCauses.map(({ cause, total_ns: ns }) =>
      node("li", {}, node("span", { class: `swatch cause-${cause}` }), "gap: ", trace.causeWords[cause] || cause, " ", node("b", {}, inMs(ns)))),
    ...Object.entries(kinds).filter(([kind]) => used.has(kind)).map(([kind, name]) =>
      node("li", {}, node("span", { class: `swatch k-${kind}` }), name)));
}

if (byId("time-bar")) drawInto(byId("time-bar"), (width) => timeBar(byId("time-bar"), width));
for (const { id, bins } of trace.histograms) {
  if (byId(id)) drawInto(byId(id), (width) => gapBins(byId(id), width, bins));
}
if (byId("whatif")) drawInto(byId("whatif"), (width) => whatIf(byId("whatif"), width, "step", trace.stepWallNs, trace.whatif));
trace.passes.forEach((one, i) => {
  const drawing = byId(`pass-${i}`);
  if (drawing) drawInto(drawing, (width) => whatIf(drawing, width, "pass", one.wallNs, one.whatif));
});
if (trace.step && byId("step")) {
  const drawing = stepDrawing(byId("step"), trace.step, trace.causeWords, (low, high, wall) => {
    byId("step-window").textContent = high - low >= wall ? `${inMs(wall)}` : `${inMs(low)} to ${inMs(high)} of ${inMs(wall)}`;
  });
  byId("zoom-in").addEventListener("click", () => drawing.zoom(2));
  byId("zoom-out").addEventListener("click", () => drawing.zoom(0.5));
  byId("zoom-all").addEventListener("click", () => drawing.all());
  stepLegend(byId("step-legend"), trace.step);
}
const RATES = [
  ["TFLOP/s", "tflops", true, (value) => formatNumber(value)],
  ["GB/s", "gbs", true, (value) => formatNumber(value)],
  ["of peak", "of_peak", true, formatPercent],
];
if (byId("work-table")) {
  kernelTable(byId("work-table"), byId("work-filter"), byId("work-count"), trace.work, [
    ["operator", "short", false],
    ["kind", "family", false],
    ["calls", "calls", true, formatTick],
    ["mean", "mean_us", true, (value) => formatMs(value / 1e3)],
    ["total", "total_ms", true, formatMs],
    ...RATES,
    ["bound by", "bound", false],
  ], "operators with a shape");
}
if (byId("kernel-table")) {
  const several = new Set(trace.kernels.map((kernel) => kernel.device)).size > 1;
  kernelTable(byId("kernel-table"), byId("kernel-filter"), byId("kernel-count"), trace.kernels, [
    ["kernel", "short", false],
    ["family", "family", false],
    ...(several ? [["GPU", "device", true]] : []),
    ["count", "count", true, formatTick],
    ["per step", "per_step", true, (_, row) => row.in_step],
    ...[["mean", "mean_us"], ["p50", "p50_us"], ["p95", "p95_us"], ["max", "max_us"]].map(([title, key]) =>
      [title, key, true, (value) => formatMs(value / 1e3)]),
    ["total", "total_ms", true, formatMs],
    ["share", "share", true, formatPercent],
    ...(trace.kernels.some((kernel) => kernel.gbs !== null) ? RATES : []),
  ]);
}
if (trace.launchedBy && byId("icicle")) {
  const { tree, total, rows } = trace.launchedBy;
  const drawing = icicle(byId("icicle"), tree, total, (above, name, ns) => {
    byId("icicle-window").textContent = name === null ? inMs(ns) : `${[...above.slice(-2), name].join(" › ").slice(-90)}: ${inMs(ns)}`;
  });
  byId("icicle-all").addEventListener("click", () => drawing.all());
  const kinds = new Set(tree.kind);
  byId("icicle-legend").replaceChildren(...Object.entries(KIND_WORDS).filter(([kind]) => kinds.has(kind)).map(([kind, word]) =>
    node("li", {}, node("span", { class: `swatch launch-${kind}` }), word)));
  kernelTable(byId("launcher-table"), byId("launcher-filter"), byId("launcher-count"), rows, [
    ["launched by", "short", false],
    ["kind", "kind", false],
    ["calls", "calls", true, formatTick],
    ["launched", "activities", true, formatTick],
    ["own", "own_ms", true, formatMs],
    ["all", "total_ms", true, formatMs],
    ["of work", "share", true, formatPercent],
  ], "launchers");
}
for (const curve of trace.memory) {
  if (byId(curve.id)) drawInto(byId(curve.id), (width) => memoryCurve(byId(curve.id), width, curve));
}
