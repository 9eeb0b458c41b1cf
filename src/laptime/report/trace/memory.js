"use strict";
// Allocated memory over the trace as a stepped line, steps as thin lines, the peak as a point.

function memoryCurve(container, width, { at, bytes, peak, peakAt, steps }) {
  const [left, top, bottom] = [64, 14, 150];
  const last = Math.max(at[at.length - 1], 1);
  const x = linearScale([0, last], [left, width - 8]);
  const y = linearScale([0, Math.max(peak, 1)], [bottom, top]);
  const points = at.map((ns, i) => `${i ? `H${x(ns).toFixed(1)} V` : `M${x(ns).toFixed(1)} `}${y(bytes[i]).toFixed(1)}`).join(" ");
  const spread = Math.max(1, Math.ceil(steps.length / 200));
  const drawing = svg("svg", { height: 176, role: "img" },
    steps.filter((_, i) => i % spread === 0).map((ns) => svg("line", { class: "memory-step", x1: x(ns), x2: x(ns), y1: top, y2: bottom })),
    [0, 0.5, 1].map((part) => [
      svg("line", { class: "axis", x1: left, x2: width - 8, y1: y(peak * part), y2: y(peak * part), opacity: part ? 0.35 : 1 }),
      svg("text", { x: left - 8, y: y(peak * part) + 4, "text-anchor": "end" }, sizeText(peak * part)),
    ]),
    svg("path", { class: "memory-area", d: `${points} V${bottom} H${left} Z` }),
    svg("path", { class: "memory-line", d: points }),
    svg("circle", { class: "memory-peak", cx: x(peakAt), cy: y(peak), r: 4 }),
    svg("text", { x: left, y: bottom + 18 }, "0"),
    svg("text", { x: width - 8, y: bottom + 18, "text-anchor": "end" }, formatMs(last / 1e6)));
  tooltipOver(drawing, (px) => {
    const ns = ((px - left) / (width - 8 - left)) * last;
    let i = at.findIndex((value) => value > ns) - 1;
    if (i < 0) i = ns > 0 ? at.length - 1 : 0;
    return { title: formatMs(at[i] / 1e6), rows: [["allocated", sizeText(bytes[i])]] };
  });
  container.replaceChildren(drawing);
}

function sizeText(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  if (bytes === 0) return "0";
  const step = bytes > 0 ? Math.min(Math.floor(Math.log2(bytes) / 10), 3) : 0;
  return `${formatNumber(bytes / 1024 ** step)} ${units[step]}`;
}
