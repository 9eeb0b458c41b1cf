"use strict";
// From values to pixels: scales, round tick values, axes.

/** A function from a value of [from, to] to a pixel of [start, end]. */
function linearScale([from, to], [start, end]) {
  const span = to - from || 1;
  return (value) => start + ((value - from) / span) * (end - start);
}

/** The round step (1, 2, 2.5 or 5 times a power of ten) that cuts [low, high] into about `count` parts. */
function roundStep(low, high, count) {
  const rough = (high - low || Math.abs(high) || 1) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
}

/** Round values within [low, high], about `count` of them. */
function roundTicks(low, high, count) {
  const step = roundStep(low, high, count);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks;
}

/** Smallest and largest finite value; [0, 1] when there is none. */
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > high ? [0, 1] : [low, high];
}

/** The extent with air at both ends, never below zero when no value is; from zero when the values reach near it. */
function airyExtent(values) {
  const [low, high] = extent(values);
  const air = (high - low || Math.abs(high) || 1) * 0.12;
  const bottom = low >= 0 && (low - air < 0 || low < high * 0.35) ? 0 : low - air;
  return [bottom, high + air];
}

/** Tick labels below a line at height y. A label at the left edge begins there instead of standing out; one that would
 *  cover the label before it is left out. */
function xAxis(ticks, x, y, format = formatTick) {
  let taken = -Infinity;
  return ticks.map((tick) => {
    const [label, at] = [format(tick), x(tick)];
    const [long, edge] = [label.length * 6.8, at < 14];
    const left = edge ? at : at - long / 2;
    if (left < taken) return null;
    taken = left + long + 3;
    return svg("text", { x: at, y: y + 15, "text-anchor": edge ? "start" : "middle" }, label);
  });
}

/** Horizontal grid lines from left to right with their values before them. */
function yAxis(ticks, y, left, right, format = formatTick) {
  return ticks.flatMap((tick) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    svg("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, format(tick)),
  ]);
}

/** A tick's number, without the noise of floating point. */
function formatTick(value) {
  return String(Number(value.toPrecision(6))).replace(/\B(?=(\d{3})+(?!\d)(?=\.|$))/g, "\u202f");
}

/** Index of the element of ascending `values` that is nearest to `wanted`. */
function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, index) => {
    if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = index;
  });
  return best;
}
