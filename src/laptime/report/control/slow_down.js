"use strict";
// A machine that becomes slower under a stream of requests, with and without online correction: the share in time, each
// request's time over its budget, and the factor that the correction has put on the bounds.

/** What to draw: {streams, confidence}; a stream: {online, at, settling, factor, slower, how, step, first, total, bound,
 *  known, sparse}. total and bound in thousandths of the budget, a value for each drawn request or null; known, in
 *  thousandths, for each `sparse`-th of them. */
function slowDown(container, width, { streams, confidence }) {
  const narrow = width < 640;
  const [left, right] = [52, width - (narrow ? 92 : 150)];
  const last = Math.max(1, ...streams.map((stream) => stream.first + (stream.total.length - 1) * stream.step));
  const x = linearScale([0, last], [left, right]);
  const number = (stream, i) => stream.first + i * stream.step;
  const { at, settling, factor, slower, how } = streams[0];
  const window = Math.max(10, Math.min(50, Math.round(streams[0].total.length / 8)));
  const moving = streams.map((stream) => movingShare(stream.total, window));
  const corrected = streams.find((stream) => stream.online);
  const panels = [[26, 150], [196, 356], ...(corrected ? [[402, 472]] : [])];
  const lowest = panels.at(-1)[1];
  const cursor = svg("line", { class: "cursor", y1: panels[0][0], y2: lowest, visibility: "hidden" });
  const room = x(at) - left > (narrow ? 76 : 190);
  const side = room ? { x: x(at) - 7, "text-anchor": "end" } : { x: x(at) + 7 };
  const beside = (height) => ({ ...side, y: height });
  const tone = (stream) => (stream.online ? "with" : "without");
  const drawing = svg("svg", { height: lowest + 40, role: "img", class: "slow-down" },
    svg("rect", {
      class: "settling", x: x(at), width: Math.max(0, x(Math.min(last, at + settling)) - x(at)),
      y: panels[0][0] - 8, height: lowest - panels[0][0] + 8,
    }),
    sharePanel(...panels[0]), timePanel(...panels[1]), corrected ? factorPanel(...panels[2]) : null,
    svg("line", { class: "slower", x1: x(at), x2: x(at), y1: panels[0][0] - 8, y2: lowest }),
    svg("text", { class: "slower-words", ...beside(panels[0][1] - 10) }, `${narrow ? "" : "from here "}${slower} slower`),
    how && !narrow ? svg("text", beside(panels[0][1] + 4), shortLabel(how, 40)) : null,
    xAxis(roundTicks(0, last, (right - left) / 90), x, lowest),
    svg("text", { x: (left + right) / 2, y: lowest + 34, "text-anchor": "middle" }, "request"),
    cursor);
  tooltipOver(drawing, (px) => {
    const request = Math.round(Math.max(0, Math.min(last, ((px - left) / (right - left)) * last)));
    const here = x(request);
    for (const [key, value] of [["x1", here], ["x2", here], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    return {
      title: `request ${formatTick(request)}`,
      rows: streams.flatMap((stream, s) => {
        const i = Math.round((request - stream.first) / stream.step);
        const word = stream.online ? "with correction" : "without";
        const over = (value) => ((value ?? null) === null ? "–" : `${formatNumber(value / 10)} % of the budget`);
        return [
          [`${word}: took`, over(stream.total[i])], [`${word}: bound`, over(stream.bound[i])],
          [`${word}: in time, last ${window}`, formatPercent(moving[s][i] ?? null)],
        ];
      }),
    };
  });
  drawing.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
  container.replaceChildren(drawing);

  function sharePanel(top, bottom) {
    const y = linearScale([0, 1], [bottom, top]);
    const latest = (s) => moving[s].findLast((value) => value !== null) ?? 0;
    const ends = streams.map((stream, s) => ({ stream, y: y(latest(s)) })).sort((a, b) => a.y - b.y);
    const heights = spread(ends.map((end) => end.y), 30, top, bottom);
    return [
      svg("text", { class: "name", x: left, y: top - 12 }, `In time, of the last ${window}`),
      yAxis([0, 0.5, 1], y, left, right, (share) => `${share * 100} %`),
      svg("line", { class: "asked", x1: left, x2: right, y1: y(confidence), y2: y(confidence) }),
      streams.map((stream, s) => svg("path", {
        class: `share-line ${tone(stream)}`, d: gappedLine(moving[s], (i) => x(number(stream, i)), y),
      })),
      ends.map(({ stream }, i) => [
        svg("text", { class: `stream-name ${tone(stream)}`, x: right + 9, y: heights[i] + 1 },
          stream.online ? (narrow ? "with" : "with correction") : "without"),
        svg("text", { class: "aside", x: right + 9, y: heights[i] + 15 }, `after: ${stream.after}`),
      ]),
    ];
  }

  function timePanel(top, bottom) {
    const values = streams.flatMap((stream) => stream.total).filter((value) => value !== null).toSorted((a, b) => a - b);
    const most = Math.min(values.at(-1) ?? 1000, 1.3 * (values[Math.floor(values.length * 0.99)] ?? 1000)) / 1000;
    const least = Math.min(0.8, (values[0] ?? 0) / 1000);
    const domain = [Math.max(0, least - 0.05), Math.max(1.1, most + 0.05)];
    const y = linearScale(domain, [bottom, top]);
    const size = streams[0].total.length > 600 ? 1.5 : 2.2;
    return [
      svg("text", { class: "name", x: left, y: top - 12 }, "Time over budget"),
      yAxis(roundTicks(...domain, 4), y, left, right, (ratio) => `${formatTick(ratio)}×`),
      svg("line", { class: "unit-line", x1: left, x2: right, y1: y(1), y2: y(1) }),
      svg("text", { class: "aside", x: right + 9, y: y(1) + 4 }, "the budget"),
      streams.map((stream) => stream.total.map((value, i) => value === null ? null : svg("circle", {
        class: `request ${tone(stream)}${value > 1000 ? " late" : ""}`, r: size,
        cx: x(number(stream, i)).toFixed(1), cy: Math.max(top, Math.min(bottom, y(value / 1000))).toFixed(1),
      }))),
    ];
  }

  function factorPanel(top, bottom) {
    const known = corrected.known.map((value) => (value === null ? null : value / 1000));
    const across = (i) => x(number(corrected, i * corrected.sparse));
    const [least, most] = airyExtent([...known, 1, factor]);
    const domain = [Math.max(0, Math.min(0.95, least)), most];
    const y = linearScale(domain, [bottom, top]);
    return [
      svg("text", { class: "name", x: left, y: top - 12 }, "Factor on the bounds"),
      yAxis(roundTicks(...domain, 3), y, left, right, (ratio) => `${formatTick(ratio)}×`),
      svg("path", { class: "agree", d: `M${x(0)},${y(1)}H${x(at)}V${y(factor)}H${x(last)}` }),
      svg("path", { class: "share-line with", d: gappedLine(known, across, y) }),
      svg("text", { class: "aside", x: right + 9, y: y(factor) + 4 }, "what is true"),
    ];
  }
}

/** The share within budget of each value and those just before it; null until there are `window` of them. */
function movingShare(total, window) {
  let inside = 0;
  return total.map((value, i) => {
    inside += value !== null && value <= 1000;
    if (i >= window) inside -= total[i - window] !== null && total[i - window] <= 1000;
    return i + 1 < window ? null : inside / window;
  });
}
