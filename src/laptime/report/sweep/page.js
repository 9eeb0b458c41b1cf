"use strict";
// The page of a sweep: which stage the effects show, which two knobs span the heat map and what becomes of the others, which
// configurations are chosen in the picture of accuracy and marked in the table.

const sweep = pageData();
const byId = (id) => document.getElementById(id);
const { knobs, measures, configs } = sweep;
const everyConfig = configs.id.map((_, i) => i);
const chosenConfigs = new Set();
const levelOf = (knob, i) => knobs[knob].of[i];
const MEDIAN = "median";
const SIDE_BY_SIDE = "side";
const MAIN_FIGURES = ["total", "accuracy", "vision", "audio", "encode", "prefill", "decode", "decode_per_token", "ttft"];

function formatMeasure({ unit }, value) {
  if (value === null || value === undefined) return "–";
  if (unit === "share") return formatPercent(value);
  if (unit === "bytes") return formatBytes(value);
  return unit === "ms" ? formatMs(value) : `${formatNumber(value)} ${unit}`.trim();
}

function formatBytes(value) {
  const [name, size] = [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]].find(([, bytes]) => value >= bytes) ?? ["bytes", 1];
  return `${formatNumber(value / size)} ${name}`;
}

/** The interval's ends, their unit once where both have the same: 117–133 ms. */
function ends(measure, i) {
  if (measure.low[i] === null) return null;
  const [low, high] = [measure.low[i], measure.high[i]].map((value) => formatMeasure(measure, value));
  const unit = high.slice(high.lastIndexOf(" "));
  return high.includes(" ") && low.endsWith(unit) ? `${low.slice(0, -unit.length)}–${high}` : `${low}–${high}`;
}

function nameOf(i) {
  return knobs.map((knob) => `${knob.title} ${knob.levels[knob.of[i]] ?? "–"}`).join(" · ") || configs.id[i];
}

function describeConfig(i) {
  return {
    title: nameOf(i),
    rows: [
      ...measures.filter(({ mid }) => mid[i] !== null).map((measure) =>
        [measure.title, [formatMeasure(measure, measure.mid[i]), ends(measure, i) && `(${ends(measure, i)})`].filter(Boolean).join(" "), measure.swatch]),
      ["samples", formatTick(configs.samples[i]) + (configs.leftOut[i] ? `, ${formatTick(configs.leftOut[i])} left out` : "")],
      ...(configs.failures[i] ? [["failed", formatTick(configs.failures[i])]] : []),
    ],
    text: configs.reason[i],
  };
}

// Effects

function drawEffects(place) {
  const box = byId("effect-stage");
  const all = byId("effect-all");
  const redraw = drawInto(place, (width) => effectRows(place, width, {
    effects: sweep.effects.filter(({ stage }) => stage === box.value),
    what: box.selectedOptions[0].textContent.toLowerCase(),
    all: all?.getAttribute("aria-pressed") === "true",
  }));
  box.addEventListener("change", redraw);
  all?.addEventListener("click", () => {
    all.setAttribute("aria-pressed", String(all.getAttribute("aria-pressed") !== "true"));
    redraw();
  });
}

// Heat map

function drawHeatMap(place) {
  const controls = { measure: byId("heat-measure"), x: byId("heat-x"), y: byId("heat-y") ?? byId("heat-x") }; // one knob: one line
  const others = byId("heat-others");
  const kept = new Map(); // what the reader chose for a knob while it was not on an axis
  let onAxes = [controls.x.value, controls.y.value];
  if (sweep.heat.side !== null) kept.set(sweep.heat.side, SIDE_BY_SIDE);

  const redraw = drawInto(place, (width) => heatMap(place, width, wanted()));
  controls.measure.addEventListener("change", redraw);
  for (const axis of new Set([controls.x, controls.y])) {
    axis.addEventListener("change", () => {
      if (controls.x !== controls.y && controls.x.value === controls.y.value) { // the knob that was here goes to the other axis
        const [other, had] = axis === controls.x ? [controls.y, onAxes[0]] : [controls.x, onAxes[1]];
        other.value = had;
      }
      onAxes = [controls.x.value, controls.y.value];
      showOthers();
      redraw();
    });
  }
  showOthers();
  redraw();

  function offAxes() {
    return knobs.map((_, k) => k).filter((k) => k !== Number(controls.x.value) && k !== Number(controls.y.value));
  }

  function showOthers() {
    others.replaceChildren(...offAxes().map((k) => {
      const box = node("select", { "data-knob": k },
        node("option", { value: MEDIAN }, `median over ${knobs[k].levels.length}`),
        knobs[k].levels.length <= 8 ? node("option", { value: SIDE_BY_SIDE }, "side by side") : null,
        knobs[k].levels.map((label, level) => node("option", { value: level }, shortLabel(label, 30))));
      box.value = kept.get(k) ?? MEDIAN;
      if (box.selectedIndex < 0) box.value = MEDIAN;
      box.addEventListener("change", () => {
        if (box.value === SIDE_BY_SIDE) for (const [other, choice] of kept) if (choice === SIDE_BY_SIDE) kept.set(other, MEDIAN);
        kept.set(k, box.value);
        showOthers();
        redraw();
      });
      return node("label", {}, shortLabel(knobs[k].title, 24), box);
    }));
  }

  function wanted() {
    const measure = measures[Number(controls.measure.value)];
    const [x, y] = [Number(controls.x.value), Number(controls.y.value)];
    const fixed = offAxes().filter((k) => /^\d+$/.test(kept.get(k) ?? "")).map((k) => [k, Number(kept.get(k))]);
    const side = offAxes().find((k) => kept.get(k) === SIDE_BY_SIDE);
    const members = everyConfig.filter((i) => fixed.every(([k, level]) => levelOf(k, i) === level));
    const groups = new Map();
    for (const i of members) {
      const key = [side === undefined ? 0 : levelOf(side, i), y === x ? 0 : levelOf(y, i), levelOf(x, i)].join();
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(i);
    }
    const rowLabels = y === x ? [""] : knobs[y].levels;
    const panel = (title, at) => ({
      title,
      cells: rowLabels.map((_, row) => knobs[x].levels.map((__, column) => cellOf(groups.get([at, row, column].join()), measure))),
    });
    return {
      columns: { title: knobs[x].title, labels: knobs[x].levels },
      rows: { title: y === x ? "" : knobs[y].title, labels: rowLabels },
      panels: side === undefined ? [panel(null, 0)] : knobs[side].levels.map((label, at) => panel(`${knobs[side].title} ${label}`, at)),
      format: (value) => formatMeasure(measure, value),
      logarithmic: measure.unit !== "share",
    };
  }
}

function cellOf(members, measure) {
  if (!members || members.every((i) => configs.samples[i] === 0 && configs.failures[i] === 0)) return null; // not (yet) measured
  const known = members.filter((i) => measure.mid[i] !== null);
  const failed = members.filter((i) => configs.failures[i] > 0);
  const reason = failed.map((i) => configs.reason[i]).find(Boolean) ?? null;
  if (known.length === 0) {
    const word = failed.length === 0 ? "no value" : /out of memory|OutOfMemory/i.test(reason ?? "") ? "OOM" : "failed";
    return { value: null, failed: word, partly: false, describe: () => ({
      title: members.length === 1 ? nameOf(members[0]) : `${members.length} configurations`,
      rows: [["failed samples", formatTick(failed.reduce((sum, i) => sum + configs.failures[i], 0))]],
      text: reason ?? "No usable sample has this value.",
    }) };
  }
  const value = medianOf(known.map((i) => measure.mid[i]));
  const partly = failed.length > 0 || known.length < members.length;
  if (members.length === 1) return { value, partly, describe: () => describeConfig(members[0]) };
  const [low, high] = extent(known.map((i) => measure.mid[i]));
  return { value, partly, describe: () => ({
    title: `${measure.title}: median over ${known.length} configurations`,
    rows: [["median", formatMeasure(measure, value)], ["they range", `${formatMeasure(measure, low)} – ${formatMeasure(measure, high)}`],
      ...(partly ? [["with failures or no value", `${new Set([...failed, ...members.filter((i) => measure.mid[i] === null)]).size} of ${members.length}`]] : [])],
    text: reason,
  }) };
}

function medianOf(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// Accuracy against latency

function drawPareto(place, choose) {
  const [latency, accuracy] = ["total", "accuracy"].map((wanted) => measures.find(({ key }) => key === wanted));
  const [front, near] = [new Set(sweep.front), new Set(sweep.near)];
  const points = everyConfig.filter((i) => latency.mid[i] > 0 && accuracy.mid[i] !== null).map((i) => ({
    i, x: latency.mid[i], xLow: latency.low[i], xHigh: latency.high[i],
    y: accuracy.mid[i], yLow: accuracy.low[i], yHigh: accuracy.high[i], front: front.has(i), near: near.has(i),
  }));
  const telling = knobs.filter(({ of }) => new Set(sweep.front.map((i) => of[i])).size > 1); // the same all along the front: not named
  const label = (i) => shortLabel(telling.map(({ title, levels, of }) => `${title} ${levels[of[i]] ?? "–"}`).join(" · "), 44);
  return drawInto(place, (width) => paretoPlot(place, width, {
    points, xName: "total, ms (logarithmic)", describe: describeConfig, label, chosen: chosenConfigs, choose,
  }));
}

// Table

function drawTable() {
  const number = (measure) => ({
    title: measure.title,
    numeric: true,
    rare: !MAIN_FIGURES.includes(measure.key),
    key: (i) => measure.mid[i],
    cell: (i) => [formatMeasure(measure, measure.mid[i]), ends(measure, i) ? node("span", { class: "ends" }, ends(measure, i)) : null].filter(Boolean),
  });
  const place = ({ key }) => (MAIN_FIGURES.includes(key) ? MAIN_FIGURES.indexOf(key) : MAIN_FIGURES.length);
  const haystacks = everyConfig.map((i) => ` ${nameOf(i)} ${configs.id[i]} ${configs.reason[i] ?? ""} `.toLowerCase());
  const columns = [
    ...(knobs.length ? [] : [{ title: "configuration", numeric: false, key: (i) => configs.id[i], cell: (i) => configs.id[i] }]),
    ...knobs.map((knob) => ({
      title: shortLabel(knob.title, 24), numeric: false, key: (i) => knob.of[i], cell: (i) => shortLabel(knob.levels[knob.of[i]] ?? "–", 40),
    })),
    ...measures.toSorted((a, b) => place(a) - place(b)).map(number),
    { title: "samples", numeric: true, key: (i) => configs.samples[i], cell: (i) => formatTick(configs.samples[i]) },
    ...(configs.failures.some(Boolean) ? [{
      title: "failed", numeric: true, key: (i) => configs.failures[i],
      cell: (i) => (configs.failures[i] ? node("span", { class: "bad", title: configs.reason[i] }, formatTick(configs.failures[i])) : "0"),
    }] : []),
  ];
  const total = columns.findIndex(({ title }) => title === "Total");
  return configTable({
    place: byId("config-table"), search: byId("config-filter"), count: byId("config-count"), all: byId("config-all"), total: configs.id.length,
    columns, haystack: (i) => haystacks[i], chosen: chosenConfigs, sortAt: Math.max(0, total),
  });
}

const table = byId("config-table") ? drawTable() : null;
if (byId("effects")) drawEffects(byId("effects"));
if (byId("heat-map")) drawHeatMap(byId("heat-map"));
for (const { id, ...range } of sweep.ranges) drawInto(byId(id), (width) => rangeRows(byId(id), width, range));
if (byId("pareto")) {
  const redraw = drawPareto(byId("pareto"), (i) => {
    chosenConfigs.clear();
    chosenConfigs.add(i);
    hideTooltip();
    redraw();
    table.show(i);
  });
}
if (byId("drift")) drawInto(byId("drift"), (width) => driftPlot(byId("drift"), width, sweep.drift));
