"use strict";
// Logarithmic axes: times spread over factors, not over differences.

/** A function from a positive value of [from, to] to a pixel of [start, end]. */
function logScale([from, to], [start, end]) {
  const scale = linearScale([Math.log(from), Math.log(to)], [start, end]);
  return (value) => scale(Math.log(value));
}

/** 1, 2 and 5 times powers of ten within [low, high]; plain round ticks when that gives fewer than three. */
function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  }
  if (ticks.length < 3) return roundTicks(low, high, 4).filter((tick) => tick > 0);
  if (ticks.length <= 9) return ticks;
  const tens = ticks.filter((tick) => Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9);
  return tens.length >= 3 ? tens : ticks;
}

/** The extent of positive values with a little air; [1, 10] when there is none. */
function logExtent(values) {
  const positive = values.filter((value) => value !== null && value > 0);
  if (!positive.length) return [1, 10];
  const [low, high] = extent(positive);
  const air = Math.max((high / low) ** 0.04, 1.02);
  return [low / air, high * air];
}

/** Whether a feature's values ask for a logarithmic axis: all positive, spread over a factor of 20 or more. */
function asksForLog(values) {
  const [low, high] = extent(values);
  return low > 0 && high / low >= 20;
}
