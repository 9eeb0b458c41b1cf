"use strict";
// What each knob buys: a row for each level, its ratio against the knob's base level with its interval, all on one
// axis of ratios. Left of 1× is faster than the base, right is slower; grey shows no difference.

const EFFECT_ROW = 27;
const EFFECT_HEAD = 30;

const LEVELS_AT_FIRST = 8;

/** What to draw: {effects: [{title, base, levels: [{label, ratio, low, high, pairs, isBase}]}], what, all}.
 *  Of a knob with many levels only some are drawn, spread evenly from the first to the last, unless `all`. */
function effectRows(container, width, { effects: every, what, all }) {
  const effects = every.map((effect) => ({ ...effect, levels: all ? effect.levels : someOf(effect.levels) }));
  if (effects.length === 0) {
    container.replaceChildren(node("p", { class: "empty" }, "No level has a matched partner for this stage."));
    return;
  }
  const narrow = width < 560;
  const [left, right] = [narrow ? 92 : 170, width - (narrow ? 74 : 200)];
  const ends = effects.flatMap((effect) => effect.levels.flatMap(({ ratio, low, high }) => [ratio, low ?? ratio, high ?? ratio]));
  const [low, high] = extent([...ends, 1].filter((value) => value > 0));
  const air = Math.max(Math.log(high / low) * 0.06, 0.012);
  const domain = [low * Math.exp(-air), high * Math.exp(air)];
  const x = logScale(domain, [left, right]);
  const rows = [];
  let y = 4;
  const drawn = effects.map((effect) => {
    const head = svg("text", { class: "name", x: 0, y: y + 18 }, shortLabel(effect.title, narrow ? 30 : 60));
    const lines = effect.levels.map((level, i) => {
      const middle = y + EFFECT_HEAD + (i + 0.5) * EFFECT_ROW - 4;
      rows.push({ top: middle - EFFECT_ROW / 2, effect, level });
      return oneRow(level, middle);
    });
    y += EFFECT_HEAD + effect.levels.length * EFFECT_ROW + 6;
    return [head, lines];
  });
  const ticks = ratioTicks(...domain, (right - left) / 62);
  const drawing = svg(
    "svg",
    { height: y + 24, role: "img" },
    ticks.map((tick) => svg("line", { class: tick === 1 ? "unit-line" : "grid", x1: x(tick), x2: x(tick), y1: 10, y2: y })),
    drawn,
    ticks.map((tick) => svg("text", { x: x(tick), y: y + 16, "text-anchor": "middle" }, `${formatTick(tick)}×`)),
  );
  tooltipOver(drawing, (_, py) => {
    const row = rows.find(({ top }) => py >= top && py < top + EFFECT_ROW);
    return row ? describeLevel(row, what) : null;
  });
  container.replaceChildren(drawing);

  function oneRow(level, middle) {
    const name = svg("text", { class: "level", x: 14, y: middle + 4 }, shortLabel(level.label, (left - 24) / 7));
    if (level.isBase) {
      return [name, svg("circle", { class: "effect-base", cx: x(1), cy: middle, r: 4.5 }),
        svg("text", { x: right + 12, y: middle + 4 }, "base")];
    }
    const kind = effectKind(level);
    const [from, to] = [Math.min(x(1), x(level.ratio)), Math.max(x(1), x(level.ratio))];
    return [
      name,
      svg("rect", { class: `effect-bar ${kind}`, x: from, width: Math.max(0, to - from), y: middle - 7, height: 14 }),
      level.low === null ? null : svg("line", { class: `effect-range ${kind}`, x1: x(level.low), x2: x(level.high), y1: middle, y2: middle }),
      level.low === null ? null : [level.low, level.high].map((end) =>
        svg("line", { class: `effect-range ${kind}`, x1: x(end), x2: x(end), y1: middle - 4, y2: middle + 4 })),
      svg("circle", { class: `effect-point ${kind}`, cx: x(level.ratio), cy: middle, r: 4.5 }),
      svg("text", { class: "effect-value", x: right + 12, y: middle + 4 }, `${formatRatio(level.ratio)}×`),
      narrow || level.low === null ? null : svg("text", { x: right + 74, y: middle + 4 }, ratioEnds(level)),
    ];
  }
}

/** The first, the last, the base and those between them at even distances. */
function someOf(levels) {
  const step = (levels.length - 1) / (LEVELS_AT_FIRST - 1);
  const kept = new Set(Array.from({ length: LEVELS_AT_FIRST }, (_, i) => Math.round(i * step)));
  return step <= 1 ? levels : levels.filter((level, i) => level.isBase || kept.has(i));
}

/** Whether the level is faster or slower than the base, as far as the interval can tell. */
function effectKind({ ratio, low, high }) {
  if (low === null || (low <= 1 && high >= 1)) return "unsure";
  return ratio < 1 ? "faster" : "slower";
}

function describeLevel({ effect, level }, what) {
  if (level.isBase) return { title: `${effect.title}: ${level.label}`, rows: [["the base of the others", "1×"]] };
  const kind = { faster: "Faster than the base.", slower: "Slower than the base.", unsure: level.low === null ? "Too few inputs for an interval." : "The interval holds 1×: no difference shown." }[effectKind(level)];
  return {
    title: `${effect.title}: ${level.label} against ${effect.base}`,
    rows: [
      [`ratio of the ${what}`, `${formatRatio(level.ratio)}×`],
      ["95 % interval", ratioEnds(level)],
      ["matched pairs", formatTick(level.pairs)],
    ],
    text: kind,
  };
}

/** A ratio with as many digits as it needs near 1: 2.14, 0.978, 1.002. */
function formatRatio(ratio, fine = Math.abs(ratio - 1) < 0.0995) {
  return fine ? ratio.toFixed(3) : formatNumber(ratio);
}

/** Both ends with equally many digits. */
function ratioEnds({ ratio, low, high }) {
  const fine = Math.abs(ratio - 1) < 0.0995 || formatNumber(low) === formatNumber(high);
  return low === null ? "–" : `${formatRatio(low, fine)} – ${formatRatio(high, fine)}`;
}
