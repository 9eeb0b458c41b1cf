"use strict";
// A finding's small picture: bars, or points with their trend; beside them the values as they should be.

const PICTURE_HEIGHT = 190;

/** Draw one picture: {kind, title, x, y, points: [{x, y}], line, expected}. */
function auditPicture(container, width, picture) {
  const [left, right, top, bottom] = [58, width - 12, 34, PICTURE_HEIGHT - 40];
  const all = [...picture.points, ...picture.line, ...picture.expected].map((point) => point.y);
  const named = picture.points.some((point) => typeof point.x === "string");
  const [low, high] = picture.kind === "bars" ? barRange(all) : airyExtent(all);
  const y = linearScale([low, high], [bottom, top]);
  const ticks = roundTicks(low, high, 4);
  const parts = picture.kind === "bars" ? bars() : dots();
  const drawing = svg(
    "svg",
    { height: PICTURE_HEIGHT, role: "img", "aria-label": picture.title },
    width < 480 ? null : svg("text", { class: "name", x: left, y: 13 }, picture.title),
    svg("text", { class: "aside", x: left, y: 28 }, picture.y),
    yAxis(ticks, y, left, right),
    parts.marks,
    svg("line", { class: "axis", x1: left, x2: right, y1: y(Math.max(low, Math.min(0, high))), y2: y(Math.max(low, Math.min(0, high))) }),
    parts.labels,
    svg("text", { class: "aside", x: right, y: PICTURE_HEIGHT - 6, "text-anchor": "end" }, picture.x),
  );
  tooltipOver(drawing, parts.describe);
  // On a phone a title wraps above the picture; inside it, it would be cut.
  container.replaceChildren(...(width < 480 ? [node("h3", {}, picture.title), drawing] : [drawing]));

  function bars() {
    const slot = (right - left) / picture.points.length;
    const gap = Math.min(10, slot * 0.15);
    const bar = (points, kind, inset) =>
      points.map((point, i) =>
        svg("rect", { class: `bar ${kind}`, x: left + i * slot + gap / 2 + inset, width: Math.max(1, slot - gap - 2 * inset),
          y: Math.min(y(point.y), y(0)), height: Math.max(0.5, Math.abs(y(0) - y(point.y))) }),
      );
    const every = Math.ceil((named ? 34 : 56) / slot);
    return {
      marks: [bar(picture.points, "", 0), bar(picture.expected, "should", 0.75)],
      labels: picture.points.map((point, i) =>
        i % every === 0
          ? svg("text", { x: left + (i + 0.5) * slot, y: bottom + 15, "text-anchor": "middle" }, label(point.x))
          : null,
      ),
      describe: (px) => {
        const i = Math.floor((px - left) / slot);
        if (i < 0 || i >= picture.points.length) return null;
        const rows = [[picture.y, formatNumber(picture.points[i].y)]];
        if (picture.expected[i]) rows.push(["as it should be", formatNumber(picture.expected[i].y)]);
        return { title: `${picture.x}: ${label(picture.points[i].x)}`, rows };
      },
    };
  }

  function dots() {
    const x = linearScale(extent(picture.points.map((point) => point.x)), [left + 4, right - 4]);
    const path = picture.line.map((point) => `${x(point.x)},${y(point.y)}`).join(" ");
    return {
      marks: [
        picture.points.map((point) => svg("circle", { class: "dot", cx: x(point.x), cy: y(point.y), r: 2.6 })),
        picture.line.length ? svg("polyline", { class: "trend", points: path }) : null,
      ],
      labels: xAxis(roundTicks(...extent(picture.points.map((point) => point.x)), width / 110), x, bottom),
      describe: (px) => {
        const i = nearest(picture.points.map((point) => x(point.x)), px);
        const point = picture.points[i];
        return point ? { title: `${formatNumber(point.x)} ${picture.x}`, rows: [[picture.y, formatNumber(point.y)]] } : null;
      },
    };
  }
}

/** Bars begin at zero. */
function barRange(values) {
  const [low, high] = extent(values);
  return [Math.min(0, low * 1.06), Math.max(0, high * 1.06) || 1];
}

function label(value) {
  return typeof value === "string" ? value : formatTick(value);
}

for (const [id, picture] of Object.entries(pageData().pictures)) {
  const place = document.getElementById(id);
  drawInto(place, (width) => auditPicture(place, width, picture));
}
