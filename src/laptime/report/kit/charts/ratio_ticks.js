"use strict";
// Ticks of an axis of ratios (log_scale.js): 1× is always one of them, the others are round and evenly far apart.

const RATIOS_ABOVE = [1.25, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 1000];
const RATIOS_BELOW = [0.001, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/** Ratios within [low, high], which holds 1, about `count` of them. */
function ratioTicks(low, high, count) {
  const narrow = high / low < 2;
  const step = Math.max(roundStep(low, high, count), 0.001);
  const above = narrow ? roundTicks(1, high, (high - 1) / step) : RATIOS_ABOVE;
  const below = narrow ? roundTicks(low, 1, (1 - low) / step) : RATIOS_BELOW;
  const round = (ticks) => ticks.map((tick) => Number(tick.toPrecision(4)));
  const least = ((Math.log(high) - Math.log(low)) / Math.max(1, count)) * 0.8;
  const kept = [1];
  for (const tick of round(above)) if (tick <= high && Math.log(tick / kept.at(-1)) >= least) kept.push(tick);
  for (const tick of round(below).reverse()) if (tick >= low && Math.log(kept[0] / tick) >= least) kept.unshift(tick);
  return kept;
}
