"use strict";
// Who launched what, as an icicle: a row for each depth, a box as wide as the device time of what it launched.

const BOX = { high: 22, least: 1.2, depth: 22 };

/** Draw a tree in columns (name, kind, parent, total_ns, activities). Returns {all()}. `onWindow(name, ns)` says where. */
function icicle(container, tree, total, onWindow) {
  const inside = tree.name.map(() => []);
  const outermost = [];
  tree.parent.forEach((parent, i) => (parent < 0 ? outermost : inside[parent]).push(i));
  const bySize = (rows) => rows.sort((a, b) => tree.total_ns[b] - tree.total_ns[a]);
  bySize(outermost);
  inside.forEach(bySize);
  let root = -1;

  function path(i) {
    const names = [];
    for (let at = i; at >= 0; at = tree.parent[at]) names.unshift(tree.name[at]);
    return names;
  }

  function boxes(width) {
    const placed = [];
    let deepest = 0;
    const place = (rows, left, scale, depth) => {
      let at = left;
      const small = [];
      for (const i of rows) {
        const wide = tree.total_ns[i] * scale;
        if (wide < BOX.least) small.push(i); // the rows are sorted: all that follow are small too
        else if (depth < BOX.depth) {
          placed.push({ i, x: at, wide, depth });
          deepest = Math.max(deepest, depth);
          place(inside[i], at, scale, depth + 1);
          at += wide;
        }
      }
      const rest = small.reduce((sum, i) => sum + tree.total_ns[i], 0) * scale;
      if (rest >= BOX.least && depth < BOX.depth) {
        placed.push({ i: small[0], x: at, wide: rest, depth, small });
        deepest = Math.max(deepest, depth);
      }
    };
    const whole = root < 0 ? Math.max(total, 1) : Math.max(tree.total_ns[root], 1);
    const above = root < 0 ? [] : path(root).slice(0, -1);
    place(root < 0 ? outermost : [root], 0, width / whole, 0);
    onWindow(above, root < 0 ? null : tree.name[root], whole);
    return { placed, deepest };
  }

  function draw(width) {
    const { placed, deepest } = boxes(width);
    const drawn = placed.map(({ i, x, wide, depth, small }) => {
      const y = depth * (BOX.high + 1);
      const letters = Math.floor((wide - 10) / 7.2);
      const several = small && small.length > 1;
      const kind = several ? "other" : tree.kind[i];
      const name = several ? `${small.length} smaller ones` : tree.name[i];
      const sum = (column) => (small || [i]).reduce((total, one) => total + column[one], 0);
      const label = letters >= Math.min(name.length, 4) ? (name.length > letters ? `${name.slice(0, Math.max(letters - 1, 1))}…` : name) : null;
      const box = svg("rect", { class: `launch-${kind}`, x, y, width: Math.max(wide - (wide > 3 ? 1 : 0.2), 0.8), height: BOX.high });
      const group = svg("g", { class: "launch-box", tabindex: wide > 40 ? 0 : null }, box,
        label ? svg("text", { class: "on-bar", x: x + 5, y: y + 15 }, label) : null);
      const go = () => { root = small || root === i ? tree.parent[i] : i; redraw(); };
      group.addEventListener("click", go);
      group.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
      group.addEventListener("pointermove", (event) => showTooltip(event, {
        title: name,
        rows: [
          ["what", KIND_WORDS[kind]],
          ["device time", formatMs(sum(tree.total_ns) / 1e6)],
          ["of all work", formatPercent(total ? sum(tree.total_ns) / total : null)],
          ["launched", `${formatTick(sum(tree.activities))}`],
        ],
      }));
      group.addEventListener("pointerleave", hideTooltip);
      return group;
    });
    container.replaceChildren(svg("svg", { height: (deepest + 1) * (BOX.high + 1) + 2, role: "img" }, drawn));
  }
  const redraw = drawInto(container, draw);
  return { all: () => { root = -1; redraw(); } };
}

const KIND_WORDS = {
  range: "range", module: "module", operator: "operator", frame: "Python frame", kernel: "kernel or copy", other: "several smaller ones",
};
