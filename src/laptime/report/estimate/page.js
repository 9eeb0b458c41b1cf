"use strict";
// The page of an evaluation: ceiling bars, predicted against measured, residuals by feature, coverage, candidates.

const page = pageData();
const place = (id) => document.getElementById(id);
const points = page.points.actual_ms.map((actual, i) => ({
  actual, median: page.points.median_ms[i], bound: page.points.bound_ms[i], group: page.points.group[i],
  support: page.points.support[i], kind: page.points.kind[i], i,
}));
const choice = place("split");

function chosenRows() {
  return choice ? points.filter((row) => row.kind === choice.value) : points;
}

function describeRow(row) {
  const features = Object.entries(page.points.features).map(([name, values]) => [name, formatTick(values[row.i])]);
  return {
    title: row.group || page.target,
    rows: [
      ["measured", formatMs(row.actual)],
      ["predicted", formatMs(row.median)],
      ["bound", row.bound === null ? "none" : formatMs(row.bound)],
      ["training domain", row.support],
      ...features.slice(0, 8),
    ],
  };
}

function bestScores(question) {
  return page.scores.filter((score) => score.question === question).sort((a, b) => a.error - b.error).slice(0, 12);
}

const redraws = [];
if (place("ceiling")) drawInto(place("ceiling"), (width) => ceilingBars(place("ceiling"), width, page));
if (place("scatter")) {
  redraws.push(drawInto(place("scatter"), (width) =>
    predictionScatter(place("scatter"), width, { rows: chosenRows(), target: page.target, q: page.q, describe: describeRow })));
}
if (place("residuals")) {
  for (const [name, values] of Object.entries(page.points.features)) {
    const box = node("div", { class: "chart" });
    place("residuals").append(box);
    redraws.push(drawInto(box, (width) => {
      const rows = chosenRows();
      residualPanel(box, width, { name, rows, values: rows.map((row) => values[row.i]), describe: describeRow });
    }));
  }
}
for (const { id, groups } of page.coverage) {
  if (place(id)) drawInto(place(id), (width) => coverageDots(place(id), width, { groups, q: page.q }));
}
for (const box of document.querySelectorAll("[data-question]")) {
  drawInto(box, (width) => scoreBars(box, width, { scores: bestScores(box.dataset.question) }));
}
if (choice) {
  choice.addEventListener("change", () => {
    for (const redraw of redraws) redraw();
  });
}
