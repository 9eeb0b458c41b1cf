"use strict";
// Accuracy against latency: a line for each policy over the budgets, named at its end; points with their intervals. A
// hollow point was in time less often than asked. The gain at one budget is drawn between two of the lines.

const NAME_HEIGHT = 17;

/** What to draw: {lines: [{title, hue, role, faint, points}], xName, logarithmic, gain}; a line's points are {x, xLow,
 *  xHigh, y, yLow, yHigh, hollow, describe()}, ascending by budget. gain: {from, to, words}, two such points, or null. */
function controlFront(container, width, { lines, xName, logarithmic, gain }) {
  const letters = width < 640 ? 12 : 26;
  const longest = Math.max(...lines.map(({ title }) => Math.min(letters, title.length)));
  const margin = Math.min(width * 0.3, 30 + 7.1 * longest);
  const [left, right, top, bottom] = [46, width - margin, 26, Math.max(300, Math.min(440, width * 0.44))];
  const points = lines.flatMap((line) => line.points);
  const xs = points.flatMap((p) => [p.x, p.xLow, p.xHigh]).filter((value) => value !== null && value > 0);
  const [nearest, furthest] = extent(xs);
  const aside = (furthest - nearest || furthest) * 0.05;
  const domain = logarithmic ? logExtent(xs) : [Math.max(0, nearest - aside), furthest + aside];
  const x = (logarithmic ? logScale : linearScale)(domain, [left, right]);
  const [least, most] = extent(points.flatMap((p) => [p.y, p.yLow, p.yHigh]));
  const air = Math.max((most - least) * 0.05, 0.005);
  const yDomain = [Math.max(0, least - air), most + air]; // a line along 100 % has room for its name
  const y = linearScale(yDomain, [bottom, top]);
  const at = (p) => `${x(p.x).toFixed(1)},${y(p.y).toFixed(1)}`;
  const weight = ({ role, faint }) => (role === "main" ? 2 : faint ? 0 : 1);
  const back = lines.toSorted((a, b) => weight(a) - weight(b)); // the one in question is on top
  const drawing = svg(
    "svg",
    { height: bottom + 38, role: "img", class: "front" },
    yAxis(roundTicks(yDomain[0], Math.min(1, yDomain[1]), 6), y, left, right, (tick) => formatTick(tick * 100)),
    svg("text", { x: left, y: 12 }, "right answers, %"),
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xAxis(logarithmic ? logTicks(...domain) : roundTicks(...domain, (right - left) / 90), x, bottom),
    svg("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, xName),
    back.map((line) => svg("g", { class: looks(line), "data-policy": line.title },
      line.points.length > 1 ? svg("path", { class: "front-path", d: `M${line.points.map(at).join("L")}` }) : null,
      line.role === "oracle" ? null : line.points.map((p) => svg("path", { class: "front-cross", d: cross(p) })),
      line.points.map((p) => svg("circle", {
        class: `front-point${p.hollow ? " hollow" : ""}`, cx: x(p.x).toFixed(1), cy: y(p.y).toFixed(1),
        r: line.role === "main" ? 5 : line.role === "oracle" ? 2.5 : 4,
      })))),
    gain ? gained() : null,
    names(),
  );
  tooltipOver(drawing, (px, py) => {
    const distance = (p) => Math.hypot(x(p.x) - px, y(p.y) - py);
    const closest = points.length ? points.reduce((best, p) => (distance(p) < distance(best) ? p : best)) : null;
    return closest && distance(closest) <= 24 ? closest.describe() : null;
  });
  container.replaceChildren(drawing);

  function looks({ hue, role, faint }) {
    return `${hue} ${role.replace(" ", "-")}${faint ? " faint" : ""}`;
  }

  function cross(p) {
    const across = p.xLow === null ? "" : `M${x(p.xLow).toFixed(1)},${y(p.y).toFixed(1)}H${x(p.xHigh).toFixed(1)}`;
    return across + (p.yLow === null ? "" : `M${x(p.x).toFixed(1)},${y(p.yLow).toFixed(1)}V${y(p.yHigh).toFixed(1)}`);
  }

  /** The step from the baseline's point to the one in question's at the same budget, with its size beside it. */
  function gained() {
    const [low, high] = [gain.from, gain.to].map((p) => [x(p.x), y(p.y)]);
    const words = gain.words.length * 8.4 < right - left ? gain.words : gain.words.split(" at ")[0];
    const [wide, height] = [words.length * 8.4, Math.max(low[1], high[1]) + 22];
    const rightOf = Math.max(low[0], high[0]) + 12;
    const beside = rightOf + wide < right
      ? { x: rightOf, y: Math.min(height, bottom - 8) }
      : { x: right, y: bottom - 10, "text-anchor": "end" };
    return svg("g", { class: "hue-main" },
      svg("line", { class: "gain", x1: low[0], y1: low[1], x2: high[0], y2: high[1] }),
      svg("text", { class: "gain-words", ...beside }, words));
  }

  /** Names beside, above or below their lines' ends where nothing else is drawn; the others in the margin, as near to
   *  the ends as they can be without covering each other. */
  function names() {
    const ends = lines.filter((line) => line.points.length)
      .map((line) => ({ line, words: shortLabel(line.title, letters), p: line.points.at(-1) }));
    const taken = [];
    const beside = ends.map((end) => {
      const place = right - x(end.p.x) > 90 ? placesNear(end).find(({ box }) => free(end.line, box, taken)) : undefined;
      if (place) taken.push(place.box);
      return place ? name(end, place.at) : null;
    });
    const wanted = ends.filter((_, i) => beside[i] === null)
      .toSorted((a, b) => y(a.p.y) - y(b.p.y) || (b.line.role === "main") - (a.line.role === "main"));
    const heights = spread(wanted.map(({ p }) => y(p.y)), NAME_HEIGHT, top, bottom);
    return [beside, wanted.map((end, i) => [
      svg("path", {
        class: `leader ${end.line.hue}`,
        d: `M${(x(end.p.x) + 8).toFixed(1)},${y(end.p.y).toFixed(1)}L${right + 4},${heights[i].toFixed(1)}h6`,
      }),
      name(end, { x: right + 14, y: heights[i] + 4 }),
    ])];
  }

  function name({ line, words }, at) {
    return svg("g", { class: looks(line) }, svg("text", { class: "front-title", ...at }, words));
  }

  /** Where a name can stand near the end of its line: {at: the text's attributes, box: [left, right, top, bottom]}. */
  function placesNear({ words, p }) {
    const [px, py, wide] = [x(p.x), y(p.y), words.length * 8];
    const centred = (height) => ({
      at: { x: px, y: height, "text-anchor": "middle" }, box: [px - wide / 2, px + wide / 2, height - 12, height + 4],
    });
    const beside = { at: { x: px + 10, y: py + 4 }, box: [px + 6, px + 12 + wide, py - 11, py + 11] };
    return [beside, centred(py - 12), centred(py + 22)];
  }

  /** Whether no other line, no point and no name is where the box is. */
  function free(own, [from, to, above, below], taken) {
    const covered = (across, height) => across >= from && across <= to && height >= above && height <= below;
    const meets = (box) => box[0] < to && box[1] > from && box[2] < below && box[3] > above;
    if (from < left || above < 14 || below > bottom || taken.some(meets)) return false;
    return lines.every((line) => line.points.every((end, i) => {
      const start = line.points[Math.max(0, i - 1)];
      const along = (scale, key, part) => scale(start[key]) + (scale(end[key]) - scale(start[key])) * part;
      return Array.from({ length: 41 }, (_, step) => step / 40).every((part) =>
        !covered(along(x, "x", part), along(y, "y", part)) || (line === own && part > 0.9));
    }));
  }
}

/** Ascending places moved apart until each is `gap` from the next, within [low, high]; groups keep their middle. */
function spread(places, gap, low, high) {
  const groups = [];
  for (const place of places) {
    groups.push({ sum: place, count: 1 });
    for (;;) {
      const [before, last] = groups.slice(-2);
      if (groups.length < 2 || middle(before) + ((before.count + last.count) / 2) * gap <= middle(last)) break;
      groups.splice(-2, 2, { sum: before.sum + last.sum, count: before.count + last.count });
    }
  }
  return groups.flatMap((group) =>
    Array.from({ length: group.count }, (_, i) => middle(group) + (i - (group.count - 1) / 2) * gap));

  function middle({ sum, count }) {
    const reach = ((count - 1) / 2) * gap;
    return Math.max(low + reach, Math.min(high - reach, sum / count));
  }
}
