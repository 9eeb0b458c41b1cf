"use strict";
// What every script of a page uses: the page's data, elements whose text stays text, numbers as kit/numbers.py writes them.

/** The value that Python embedded in the page. */
function pageData() {
  return JSON.parse(document.getElementById("page-data").textContent);
}

/** An HTML element. Strings among the children become text, never markup; null children are left out. */
function node(name, attributes = {}, ...children) {
  return withContent(document.createElement(name), attributes, children);
}

/** The same for SVG. */
function svg(name, attributes = {}, ...children) {
  return withContent(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function withContent(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Call draw(width) now and whenever the container's width changes. Returns a function that draws again. */
function drawInto(container, draw) {
  let width = 0;
  const redraw = () => width > 0 && draw(width);
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) {
      width = now;
      redraw();
    }
  }).observe(container);
  width = Math.floor(container.clientWidth);
  redraw();
  return redraw;
}

/** Three significant digits, no exponent: 412, 62.1, 4.83, 0.021. */
function formatNumber(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const rounded = Number(Math.abs(value).toPrecision(digits)); // 9.996 becomes 10.0, so it gets the decimals of 10
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(rounded)));
  return value.toFixed(Math.min(places, 6)).replace("-", "−").replace(/\B(?=(\d{3})+(?!\d)(?=\.|$))/g, "\u202f");
}

/** Milliseconds with the unit that suits them. */
function formatMs(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return `${formatNumber(value / 1000)} s`;
  return size > 0 && size < 0.1 ? `${formatNumber(value * 1000)} µs` : `${formatNumber(value)} ms`;
}

function formatPercent(share) {
  return share === null ? "–" : `${formatNumber(share * 100, share < 0.1 ? 2 : 3)} %`;
}
