"use strict";
// Accuracy against latency: a point for each configuration with both its intervals, and the line of those that nothing
// beats in both.

const CROSSES_UP_TO = 80; // with more points, only the front's intervals are drawn

/** What to draw: {points: [{i, x, xLow, xHigh, y, yLow, yHigh, front, near}], xName, describe(i), label(i), choose(i), chosen: Set}. */
function paretoPlot(container, width, { points, xName, describe, label, choose, chosen }) {
  const [left, right, top, bottom] = [54, width - 14, 14, Math.max(260, Math.min(380, width * 0.42))];
  const finite = (values) => values.filter((value) => value !== null && Number.isFinite(value));
  const [xLow, xHigh] = extent(finite(points.flatMap((p) => [p.x, p.xLow, p.xHigh])).filter((value) => value > 0));
  const air = Math.max(Math.log(xHigh / xLow) * 0.05, 0.01);
  const xDomain = [xLow * Math.exp(-air), xHigh * Math.exp(air)];
  const [yLow, yHigh] = extent(finite(points.flatMap((p) => points.length <= CROSSES_UP_TO || p.front ? [p.y, p.yLow, p.yHigh] : [p.y])));
  const yAir = Math.max((yHigh - yLow) * 0.07, 0.005);
  const yDomain = [Math.max(Math.min(0, yLow), yLow - yAir), yHigh + yAir];
  const x = logScale(xDomain, [left, right]);
  const y = linearScale(yDomain, [bottom, top]);
  const front = points.filter((p) => p.front).toSorted((a, b) => a.x - b.x);
  const crossed = points.filter((p) => p.front || points.length <= CROSSES_UP_TO);
  const drawing = svg(
    "svg",
    { height: bottom + 38, role: "img", class: "pareto" },
    yAxis(roundTicks(...yDomain, 5), y, left, right, (tick) => formatTick(tick * 100)),
    svg("text", { x: left, y: top - 3 }, "accuracy, %"),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(logTicks(...xDomain), x, bottom),
    svg("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, xName),
    crossed.map((p) => svg("path", { class: p.front ? "cross front" : "cross", d: cross(p) })),
    front.length > 1 ? svg("path", { class: "front-line", d: steps(front) }) : null,
    labels(),
    points.toSorted((a, b) => a.front - b.front || a.near - b.near).map((p) => svg("circle", {
      class: `point${p.front ? " front" : p.near ? " near" : ""}${chosen.has(p.i) ? " chosen" : ""}`, "data-i": p.i,
      cx: x(p.x).toFixed(1), cy: y(p.y).toFixed(1), r: chosen.has(p.i) ? 7 : p.front ? 5 : points.length > 300 ? 2.2 : 3.6,
    })),
  );
  const at = (px, py) => {
    const distance = (p) => Math.hypot(x(p.x) - px, y(p.y) - py) - (p.front ? 3 : 0);
    const closest = points.reduce((best, p) => (distance(p) < distance(best) ? p : best));
    return distance(closest) <= 20 ? closest.i : null;
  };
  tooltipOver(drawing, (px, py) => {
    const i = at(px, py);
    drawing.classList.toggle("pointing", i !== null);
    return i === null ? null : describe(i);
  });
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const i = at(event.clientX - box.left, event.clientY - box.top);
    if (i !== null) choose(i);
  });
  container.replaceChildren(drawing);

  function cross(p) {
    const across = p.xLow === null ? "" : `M${x(p.xLow).toFixed(1)},${y(p.y).toFixed(1)}H${x(p.xHigh).toFixed(1)}`;
    return across + (p.yLow === null ? "" : `M${x(p.x).toFixed(1)},${y(p.yLow).toFixed(1)}V${y(p.yHigh).toFixed(1)}`);
  }

  /** Names of the front's points, above and left of them, where no other point can be; none over another. */
  function labels() {
    let lowestUsed = Infinity;
    return front.map((p) => {
      const words = label(p.i);
      const wide = words.length * 6.4 + 10;
      const [px, py] = [x(p.x), y(p.y) - 8];
      if (!words || lowestUsed - py < 13) return null;
      const fits = px - wide > left;
      lowestUsed = py;
      return svg("text", { class: "front-name", x: fits ? px - 7 : px + 7, y: py, "text-anchor": fits ? "end" : "start" }, words);
    });
  }

  /** To the right of a point one has its accuracy, until the next point gives more: stairs, not slopes. */
  function steps(line) {
    return `M${x(line[0].x)},${y(line[0].y)}${line.slice(1).map((p) => `H${x(p.x)}V${y(p.y)}`).join("")}H${right}`;
  }
}
