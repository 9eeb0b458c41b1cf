"use strict";
// Each candidate's error on rows that were held out, smallest first; the chosen one is dark.

/** scores: [{name, error, chosen, folds}]. Errors are mean |log ratio|. Long bars end at the edge. */
function scoreBars(container, width, { scores }) {
  const [left, right, height] = [Math.min(300, width * 0.42), width - 70, 19];
  const best = scores[0]?.error ?? 1;
  const x = linearScale([0, Math.max(best * 4, 1e-9)], [left, right]);
  container.replaceChildren(
    svg("svg", { height: scores.length * height + 4, role: "img" },
      scores.map((score, i) => {
        const y = i * height + 2;
        return [
          svg("text", { class: score.chosen ? "bar-value" : "aside", x: 0, y: y + 12 }, score.name.length > 44 ? `${score.name.slice(0, 43)}…` : score.name),
          svg("rect", { class: score.chosen ? "bar-solid" : "bar-range", x: left, y: y + 2, width: Math.max(Math.min(x(score.error), right) - left, 1), height: 12 }),
          svg("text", { class: score.chosen ? "bar-value" : "", x: Math.min(x(score.error), right) + 7, y: y + 12 }, `±${formatPercent(score.error)}`),
        ];
      })),
  );
}
