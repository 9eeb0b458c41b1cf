"use strict";
// A row for each sample, with its stages as one bar. Only the rows in view are in the document, so a run of many
// thousand samples scrolls as fast as one of twenty.

const ROW_HEIGHT = 25;
const ROWS_IN_VIEW = 20;
const ROWS_ON_PAPER = 60;
const CUT_BEYOND = 1.6; // times the longest sample of the summary: a cold first call must not squeeze all others

/** Prepare the list in `container`; returns show(order), which shows these samples in this order.
 *  samples: columns (see report/profile/data.py); stages: names; describe(i): tooltip content. */
function stageRows(container, { samples, stages, describe }) {
  const axis = node("div", { class: "rows-axis", "aria-hidden": "true" });
  const inner = node("div", { class: "rows-inner" });
  const scroller = node("div", { class: "rows", tabindex: "0", role: "list", "aria-label": "samples" }, inner);
  let order = [];
  let longest = 1;
  container.replaceChildren(axis, scroller);

  const render = () => {
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(order.length, first + Math.ceil(scroller.clientHeight / ROW_HEIGHT) + 8);
    inner.replaceChildren(...order.slice(first, last).map((i, offset) => row(i, first + offset)));
  };

  function row(i, position) {
    const bar = node("div", { class: samples.total[i] > longest ? "rows-bar cut" : "rows-bar" }, stages.map((stage) => {
      const part = node("span", { class: stage });
      part.style.width = `${((samples[stage][i] ?? 0) / longest) * 100}%`;
      return part;
    }));
    const flags = samples.flags[i];
    const element = node(
      "div",
      { class: samples.used[i] ? "row" : "row left-out", role: "listitem", "data-i": i, "aria-label": spoken(i) },
      node("span", { class: "rows-id", dir: "auto" }, samples.name[i]),
      bar,
      node("span", { class: "rows-total" }, formatMs(samples.total[i])),
      node("span", { class: "rows-flags" }, flags.length ? `⚑ ${flags.join(", ")}` : ""),
    );
    element.style.top = `${position * ROW_HEIGHT}px`;
    return element;
  }

  function spoken(i) {
    const parts = stages.map((stage) => `${stage} ${formatMs(samples[stage][i])}`);
    return `${samples.name[i]}: total ${formatMs(samples.total[i])}, ${parts.join(", ")}`;
  }

  function show(wanted) {
    order = wanted;
    const most = (indices) => indices.reduce((longest, i) => Math.max(longest, samples.total[i]), 0);
    longest = Math.min(most(order), CUT_BEYOND * most(order.filter((i) => samples.used[i])) || Infinity) || 1;
    inner.style.height = `${order.length * ROW_HEIGHT}px`;
    scroller.style.height = `${Math.max(1, Math.min(order.length, ROWS_IN_VIEW + 0.5)) * ROW_HEIGHT + 2}px`; // half a row says that there are more
    scroller.scrollTop = 0;
    axis.replaceChildren(node("span", {}), node("div", { class: "rows-ticks" }, roundTicks(0, longest, 5).map((tick) => {
      const label = node("span", {}, tick === 0 ? "0 ms" : formatTick(tick));
      label.style.left = `${(tick / longest) * 100}%`;
      return label;
    })));
    dropCovered(axis.querySelectorAll(".rows-ticks span"));
    if (order.length === 0) inner.replaceChildren(node("p", { class: "empty" }, "No sample matches."));
    else render();
  }

  scroller.addEventListener("scroll", render, { passive: true });
  scroller.addEventListener("pointermove", (event) => {
    const hovered = event.target.closest("[data-i]");
    if (hovered) showTooltip(event, describe(Number(hovered.dataset.i)));
    else hideTooltip();
  });
  scroller.addEventListener("pointerleave", hideTooltip);
  addEventListener("beforeprint", () => {
    scroller.style.height = `${Math.min(order.length, ROWS_ON_PAPER) * ROW_HEIGHT + 2}px`;
    render();
  });
  return show;
}

/** Take away each label that would touch the one before it: on a phone there is room for few. */
function dropCovered(labels) {
  let end = -Infinity;
  for (const label of labels) {
    const box = label.getBoundingClientRect();
    if (box.width > 0 && box.left < end + 6) label.remove();
    else end = box.right;
  }
}
