"use strict";
// The profile page: what the reader chooses (a text, flags, an order) decides which samples every chart shows.

const page = pageData();
const { samples, stages } = page;
const everyIndex = samples.name.map((_, i) => i);
const chosenFlags = new Set();
const CLEAN = "clean"; // the toggle for samples without a flag
const haystacks = everyIndex.map((i) => `${samples.name[i]} ${samples.flags[i].join(" ")} ${samples.text[i] ?? ""}`.toLowerCase());

const filterBox = document.getElementById("filter");
const sortBox = document.getElementById("sort");
const countText = document.getElementById("count");
const countOfAll = countText?.textContent; // it counts warm-up calls apart; a page without samples has no count

function matches(i, words) {
  const flags = samples.flags[i];
  const byFlag = chosenFlags.size === 0 || flags.some((flag) => chosenFlags.has(flag)) || (chosenFlags.has(CLEAN) && flags.length === 0);
  return byFlag && words.every((word) => haystacks[i].includes(word));
}

function chosen() {
  const words = (filterBox?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  return everyIndex.filter((i) => matches(i, words));
}

function sorted(indices) {
  const by = sortBox?.value ?? "order";
  if (by === "order") return indices;
  if (by === "name") {
    const collator = new Intl.Collator(undefined, { numeric: true });
    return indices.toSorted((a, b) => collator.compare(samples.name[a], samples.name[b]));
  }
  return indices.toSorted((a, b) => (samples[by][b] ?? -1) - (samples[by][a] ?? -1)); // the longest first
}

function describe(i) {
  const exact = (value) => (value === null ? "–" : `${value.toFixed(3)} ms`);
  const state = [["sm_mhz", "MHz"], ["temperature_c", "°C"], ["power_w", "W"]]
    .filter(([key]) => samples[key] && samples[key][i] !== null)
    .map(([key, unit]) => `${formatTick(samples[key][i])} ${unit}`);
  return {
    title: samples.name[i],
    rows: [
      ...stages.map((stage) => [stage, `${exact(samples[stage][i])} · ${share(samples[stage][i], samples.total[i])}`, stage]),
      ["total", exact(samples.total[i])],
      ["first token (TTFT)", exact(samples.ttft[i])],
      ["per token after it (TPOT)", exact(samples.tpot[i])],
      ["output tokens", String(samples.tokens[i])],
      ...(state.length ? [["GPU", state.join(", ")]] : []),
      ...(samples.flags[i].length ? [["flags", samples.flags[i].join(", ")]] : []),
    ],
    text: samples.text[i],
  };
}

function share(value, total) {
  return value === null || !total ? "–" : formatPercent(value / total);
}

/** Functions that draw a chart again, for the samples that are chosen now. */
const redraws = [];

function drawAll() {
  const indices = chosen();
  const every = everyIndex.length;
  countText.textContent = indices.length === every ? countOfAll : `${indices.length} of ${every} ${countText.dataset.each}${every === 1 ? "" : "s"}`;
  page.chosen = new Set(indices);
  showRows(sorted(indices));
  for (const redraw of redraws) redraw();
}

function present(values) {
  return values.filter((value) => value !== null);
}

function bindControls() {
  filterBox.addEventListener("input", drawAll);
  sortBox.addEventListener("change", drawAll);
  for (const button of document.querySelectorAll("button[data-flag]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      if (on) chosenFlags.add(button.dataset.flag);
      else chosenFlags.delete(button.dataset.flag);
      drawAll();
    });
  }
}

/** Of the chosen calls those that the summary uses; all of them where it uses none: warm-up calls are looked at then. */
function countedOf(chosen) {
  const all = everyIndex.filter((i) => chosen.has(i));
  const used = all.filter((i) => samples.used[i]);
  return used.length ? used : all;
}

function drawDistributions(place) {
  for (const quantity of page.distributions) {
    const box = node("div", { class: "chart", "data-quantity": quantity.key });
    place.append(box);
    const values = samples[quantity.key];
    redraws.push(drawInto(box, (width) =>
      histogram(box, width, {
        ...quantity,
        all: present(values),
        chosen: present(countedOf(page.chosen).map((i) => values[i])),
        framed: present(everyIndex.filter((i) => samples.used[i]).map((i) => values[i])),
      }),
    ));
  }
}

function drawRunOrder(place) {
  const panels = [
    { name: "Total", unit: "ms", values: samples.total, framed: samples.total.filter((_, i) => samples.used[i]), dots: true },
    { name: "SM clock", unit: "MHz", values: samples.sm_mhz },
    { name: "Temperature", unit: "°C", values: samples.temperature_c },
    { name: "Power", unit: "W", values: samples.power_w },
  ].filter((panel) => panel.values);
  const flagged = samples.flags.map((flags) => flags.length > 0);
  redraws.push(drawInto(place, (width) =>
    runOrder(place, width, { panels, flagged, describe, chosen: everyIndex.map((i) => page.chosen.has(i)) }),
  ));
}

function drawTokenGaps(place) {
  const { position, p5, median, p95, n } = page.itl;
  drawInto(place, (width) =>
    lineBand(place, width, {
      x: position, low: p5, mid: median, high: p95, n,
      xName: "output token",
      title: (i) => `before token ${position[i]}`,
    }),
  );
}

function drawSubtraction(place) {
  drawInto(place, (width) =>
    pairScatter(place, width, {
      pairs: page.subtraction,
      xName: "decode measured directly, ms",
      yName: "decode by subtraction, ms",
    }),
  );
}

const rowsPlace = document.getElementById("stage-rows");
const showRows = rowsPlace ? stageRows(rowsPlace, { samples, stages, describe }) : () => {};
if (rowsPlace) {
  page.chosen = new Set(everyIndex);
  bindControls();
  drawDistributions(document.getElementById("distributions"));
  drawRunOrder(document.getElementById("run-order"));
  drawAll();
}
if (page.itl) drawTokenGaps(document.getElementById("token-gaps"));
if (page.subtraction.length) drawSubtraction(document.getElementById("subtraction-chart"));
