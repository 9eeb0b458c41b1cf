"use strict";
// One tooltip for the page. It shows text only: a title, rows of name and value, and a line of prose.

const tooltip = node("div", { id: "tooltip", role: "status", hidden: "" });
document.body.append(tooltip);

/** Show beside the pointer (or beside the element, when a key brought us there). rows: [name, value, swatch?]. */
function showTooltip(event, { title, rows = [], text = null }) {
  tooltip.replaceChildren(
    node("div", { class: "tooltip-title" }, title),
    ...rows.map(([name, value, swatch]) =>
      node(
        "div",
        { class: "tooltip-row" },
        node("span", {}, swatch ? node("span", { class: `swatch ${swatch}` }) : null, name),
        node("span", {}, value),
      ),
    ),
    ...(text ? [node("div", { class: "tooltip-text" }, text)] : []),
  );
  tooltip.hidden = false;
  const box = event.target.getBoundingClientRect();
  const [x, y] = event.clientX === undefined ? [box.left + 20, box.bottom] : [event.clientX, event.clientY];
  const { width, height } = tooltip.getBoundingClientRect();
  const beside = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
  tooltip.style.left = `${Math.max(4, beside)}px`;
  tooltip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
}

function hideTooltip() {
  tooltip.hidden = true;
}

/** Let `describe(x, y)` say what lies under the pointer of an SVG drawing: tooltip content, or null. */
function tooltipOver(drawing, describe) {
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const content = describe(event.clientX - box.left, event.clientY - box.top);
    if (content) showTooltip(event, content);
    else hideTooltip();
  });
  drawing.addEventListener("pointerleave", hideTooltip);
}
addEventListener("scroll", hideTooltip, { passive: true, capture: true });
