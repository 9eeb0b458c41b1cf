"use strict";
// What changed while the run went on: one small plot under another over a shared axis of sample order.

/** What to draw: {panels: [{name, unit, values, framed?, dots?}], chosen: [bool], flagged: [bool], describe(i)}.
 *  `framed` are the values that set the panel's axis; a dot outside it sits at its edge. */
function runOrder(container, width, { panels, chosen, flagged, describe }) {
  const count = chosen.length;
  const [left, right, panelHeight, gap] = [52, width - 12, 76, 34];
  const x = linearScale([0, Math.max(1, count - 1)], [left, right]);
  const cursor = svg("line", { class: "cursor", y1: 0, y2: panels.length * (panelHeight + gap), visibility: "hidden" });
  const drawing = svg(
    "svg",
    { height: panels.length * (panelHeight + gap) + 28, role: "img" },
    panels.map((panel, row) => onePanel(panel, row * (panelHeight + gap))),
    xAxis(orderTicks(), (tick) => x(tick - 1), panels.length * (panelHeight + gap) - 10),
    svg("text", { x: (left + right) / 2, y: panels.length * (panelHeight + gap) + 24, "text-anchor": "middle" }, "sample, in run order"),
    cursor,
  );
  tooltipOver(drawing, (px) => {
    const i = Math.round(Math.max(0, Math.min(count - 1, ((px - left) / (right - left)) * Math.max(1, count - 1))));
    for (const [key, value] of [["x1", x(i)], ["x2", x(i)], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    return describe(i);
  });
  drawing.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
  container.replaceChildren(drawing);

  function onePanel({ name, unit, values, framed, dots }, offset) {
    const [top, bottom] = [offset + 24, offset + 20 + panelHeight];
    const [low, high] = airyExtent(framed?.length ? framed : values);
    const y = linearScale([low, high], [bottom, top]);
    return [
      svg("text", { class: "name", x: left, y: offset + 13 }, name),
      svg("text", { class: "aside", x: right, y: offset + 13, "text-anchor": "end" }, unit),
      yAxis(roundTicks(low, high, 3), y, left, right),
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      dots
        ? values.map((value, i) => value === null ? null : svg("circle", {
            class: `dot${flagged[i] ? " flagged" : ""}${chosen[i] ? "" : " pale"}`,
            cx: x(i).toFixed(1), cy: Math.max(top - 3, Math.min(bottom, y(value))).toFixed(1), r: count > 300 ? 1.8 : 3,
          }))
        : svg("path", { class: "line", d: path(values, y) }),
    ];
  }

  /** A line through the values, broken where one is missing; a lone value between two gaps gets a short dash. */
  function path(values, y) {
    let drawing = "";
    values.forEach((value, i) => {
      if (value === null) return;
      const joins = i > 0 && values[i - 1] !== null;
      drawing += `${joins ? "L" : "M"}${x(i).toFixed(1)},${y(value).toFixed(1)}${joins ? "" : "h3"}`;
    });
    return drawing;
  }

  function orderTicks() {
    const ticks = roundTicks(1, count, width / 80).filter((tick) => Number.isInteger(tick) && tick >= 1);
    return ticks.includes(1) ? ticks : [1, ...ticks.filter((tick) => tick > count * 0.06)];
  }
}
