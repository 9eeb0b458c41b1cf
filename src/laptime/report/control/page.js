"use strict";
// The page of policies: which latency the front shows, whose choices are drawn at which budget, which stream.

const evaluation = pageData();
const byId = (id) => document.getElementById(id);
const { policies, budgets, budget_words: budgetWords, confidence, knobs, types } = evaluation;
const pointAt = (policy, budget) => evaluation.points.findIndex((p) => p.policy === policy && p.budget === budget);
const KEPT = {
  kept: "kept", short: "short by no more than chance", missed: "missed",
  unfit: "none: nothing fits too often", "one knob": "none: one knob alone", "no promise": "none: no bound", "upper limit": "none: an upper limit",
};
const HEADS = {
  main: "by a bound", bound: "by a bound", "one knob": "one knob alone", "no bound": "by a mean or arithmetic",
  oracle: "upper limit",
};
const LATENCIES = {
  p95: ["95th percentile of the total, ms", (p) => [p.p95, null, null]],
  median: ["median of the total, ms", (p) => p.median],
  budget: ["budget, ms", (p) => [budgets[p.budget], null, null]],
};

function describePoint({ policy, budget, kept, words }) {
  const { title, hue } = policies[policy];
  return {
    title: `${title} at ${budgetWords[budget]}`,
    rows: [
      ["right", words.right, hue],
      ["95 % interval", words.right_ends],
      ["in time", words.in_time],
      ["95 % interval", words.in_time_ends],
      ["promise", KEPT[kept]],
      ["median, p95", `${words.median}, ${words.p95}`],
      ["points below the oracle", words.regret],
      ...(words.unfit ? [["nothing fits", words.unfit]] : []),
    ],
  };
}

// Accuracy against latency

function drawFront(place) {
  const [choice, log] = [byId("front-x"), byId("front-log")];
  const redraw = drawInto(place, (width) => {
    const [xName, latency] = LATENCIES[choice.value];
    const drawn = (p) => {
      const [[x, xLow, xHigh], [y, yLow, yHigh]] = [latency(p), p.accuracy];
      return { x, xLow, xHigh, y, yLow, yHigh, hollow: p.late, describe: () => describePoint(p) };
    };
    const line = (i) => evaluation.points.filter((p) => p.policy === i && p.accuracy[0] !== null && latency(p)[0] > 0)
      .toSorted((a, b) => a.budget - b.budget);
    const gain = evaluation.differences[0]?.at.find(({ budget }) => budget === evaluation.headline);
    const main = policies.findIndex(({ role }) => role === "main");
    const [to, from] = [main, gain?.than].map((i) => line(i).find((p) => p.budget === evaluation.headline));
    const words = gain && `${gain.words} points at ${budgetWords[gain.budget]}`;
    controlFront(place, width, {
      lines: policies.map((policy, i) => ({ ...policy, points: line(i).map(drawn) })),
      xName,
      logarithmic: log.getAttribute("aria-pressed") === "true",
      gain: to && from && gain ? { from: drawn(from), to: drawn(to), words } : null,
    });
  });
  choice.addEventListener("change", redraw);
  log.addEventListener("click", () => {
    log.setAttribute("aria-pressed", String(log.getAttribute("aria-pressed") !== "true"));
    redraw();
  });
}

// Promises and differences

function drawAttainment(place) {
  const promised = evaluation.points.filter(({ kept }) => ["kept", "short", "missed"].includes(kept));
  const least = Math.min(...promised.map(({ attainment }) => attainment[1] ?? 1));
  const tone = ({ kept, late, attainment: [share] }) => {
    if (kept === "unfit" || kept === "one knob") return "none";
    return late ? "missed" : share < confidence ? "short" : "kept";
  };
  drawInto(place, (width) => intervalGrid(place, width, {
    rows: policies.map(({ title, role }, i) => {
      const first = HEADS[role] !== HEADS[policies[i - 1]?.role];
      return { title, head: first ? HEADS[role] : null };
    }),
    panels: budgetWords.map((title, b) => ({
      title,
      cells: policies.map((_, i) => {
        const p = evaluation.points[pointAt(i, b)];
        if (!p || p.attainment[0] === null) return null;
        const [value, low, high] = p.attainment;
        const words = p.words.in_time.split("\u00a0")[0];
        return { value, low, high, tone: tone(p), words, describe: () => describePoint(p) };
      }),
    })),
    line: confidence,
    domain: [Math.max(0, Math.min(confidence - 0.1, Math.max(least, confidence - 0.2))), 1],
    tick: (share) => `${formatTick(share * 100)}`,
  }));
}

function drawDifferences(place) {
  const every = [...new Set(evaluation.differences.flatMap(({ at }) => at.map(({ budget }) => budget)))].sort((a, b) => a - b);
  const all = evaluation.differences.flatMap(({ at }) => at.flatMap(({ points }) => points));
  const [low, high] = extent([...all, 0]);
  const main = policies.find(({ role }) => role === "main");
  drawInto(place, (width) => intervalGrid(place, width, {
    rows: every.map((budget) => ({ title: budgetWords[budget], head: null })),
    panels: evaluation.differences.map(({ title, at }) => ({
      title: `${main.title} less ${title}`,
      cells: every.map((budget) => {
        const one = at.find((given) => given.budget === budget);
        if (!one || one.points[0] === null) return null;
        const [value, from, to] = one.points;
        return {
          value, low: from, high: to, tone: one.sure, words: one.words,
          describe: () => ({
            title: `${main.title} less ${title}, ${budgetWords[budget]}`,
            rows: [["accuracy", `${one.words} points`], ["95 % interval", one.ends], ["taken at", one.at]],
          }),
        };
      }),
    })),
    line: 0,
    domain: [low - (high - low) * 0.06, high + (high - low) * 0.06],
    tick: (gap) => `${gap > 0 ? "+" : gap < 0 ? "−" : ""}${formatTick(Math.abs(gap) * 100)}`,
  }));
}

// Decisions

function drawDecisions(place) {
  const [whose, whole] = [byId("decision-policy"), byId("decision-whole")];
  const radios = [...document.querySelectorAll("#decision-budget input")];
  radios[evaluation.headline].checked = true;
  const redraw = drawInto(place, (width) => {
    const i = pointAt(Number(whose.value), radios.findIndex(({ checked }) => checked));
    const taken = i < 0 ? [] : choicesAt(i);
    const rows = types.map((title, t) => {
      const count = counted(taken.filter(({ type }) => type === t));
      return { title, t, count, right: i < 0 ? null : evaluation.right[i][t] };
    }).filter(({ count }) => count > 0);
    if (!rows.length) place.replaceChildren(node("p", { class: "empty" }, "No choices of this policy at this budget."));
    else if (whole.getAttribute("aria-pressed") === "true") {
      const columns = columnsOf(Number(whose.value));
      choiceCells(place, width, {
        rows, knobs, columns,
        counts: rows.map(({ t }) => columns.map((levels) =>
          taken.find((one) => one.type === t && one.levels.join() === levels.join())?.count ?? 0)),
      });
    } else {
      decisionBars(place, width, {
        rows, knobs,
        shares: rows.map(({ t, count }) => knobs.map(({ levels }, k) => levels.map((_, level) =>
          counted(taken.filter((one) => one.type === t && one.levels[k] === level)) / count))),
      });
    }
  });
  for (const box of [whose, ...radios]) box.addEventListener("change", redraw);
  whole.addEventListener("click", () => {
    whole.setAttribute("aria-pressed", String(whole.getAttribute("aria-pressed") !== "true"));
    redraw();
  });
}

function counted(choices) {
  return choices.reduce((sum, { count }) => sum + count, 0);
}

/** The choices of one point: [{type, levels, count}], unfolded from one list. */
function choicesAt(i) {
  const [flat, size] = [evaluation.choices[i], knobs.length + 2];
  return Array.from({ length: flat.length / size }, (_, n) => {
    const [type, ...rest] = flat.slice(n * size, (n + 1) * size);
    return { type, levels: rest.slice(0, -1), count: rest.at(-1) };
  });
}

/** Every combination of levels that a policy chose at any budget, the cheapest levels first. */
function columnsOf(policy) {
  const every = evaluation.points.flatMap((p, i) => (p.policy === policy ? choicesAt(i) : [])).map(({ levels }) => levels);
  const different = new Map(every.map((levels) => [levels.join(), levels]));
  return [...different.values()].sort((a, b) => a.map((level, k) => level - b[k]).find(Boolean) ?? 0);
}

// Slow-down and training

function drawSlowDown(place) {
  const which = byId("slow-which");
  const redraw = drawInto(place, (width) =>
    slowDown(place, width, { streams: evaluation.streams[Number(which?.value ?? 0)], confidence }));
  which?.addEventListener("change", () => {
    byId("slow-words").textContent = `${evaluation.slow[Number(which.value)]}.`;
    redraw();
  });
}

function drawTraining(place) {
  const figures = {
    reward: "Reward", accuracy: "Right", within: "In time", kl: "KL to the reference", entropy: "Entropy, nats",
  };
  if (evaluation.curves.length > 1) {
    place.before(node("ul", { class: "legend" }, evaluation.curves.map(({ title, hue }) =>
      node("li", {}, node("span", { class: `swatch ${hue}` }), title))));
  }
  for (const [key, name] of Object.entries(figures)) {
    const label = `${name} over decisions`;
    const box = node("div", { class: "chart", role: "group", "aria-label": label, "data-figure": key });
    place.append(box);
    const curves = evaluation.curves.map((curve) => ({ ...curve, values: curve[key] }));
    drawInto(box, (width) => trainingCurve(box, width, { name, curves, share: key === "accuracy" || key === "within" }));
  }
}

for (const [id, draw] of Object.entries({
  front: drawFront, attainment: drawAttainment, differences: drawDifferences, decisions: drawDecisions,
  "slow-down": drawSlowDown, training: drawTraining,
})) {
  if (byId(id)) draw(byId(id));
}
