"use strict";
// One step to scale on a canvas: a lane of gaps coloured by cause, a lane of layers, a lane for each stream.
// The wheel and the buttons zoom; a drag moves. Activities narrower than a pixel are summed per pixel column. The column is
// as high as the share of its time that they cover, so a mostly idle GPU looks mostly idle at every zoom.

const FAMILY_CLASS = {
  GEMM: "gemm", GEMV: "gemm", convolution: "gemm", attention: "attention", softmax: "attention",
  elementwise: "small", norm: "small", rope: "small", reduce: "small", moe: "gemm",
  copy: "copy", gather: "copy", graph: "gemm", collective: "communication", convolution: "gemm",
};

function familyClass(family) {
  return FAMILY_CLASS[family] || "else";
}

function causeColour(styles, cause) {
  const probe = { "host-not-launching": "host", "launch-overhead": "launch", "graph-launch": "graph", memcpy: "copy",
    synchronize: "sync", allocation: "alloc", free: "free", "module-load": "load", "graph-capture": "load", "start-up": "load",
    "profiler-overhead": "profiler", queued: "queued" };
  return styles.getPropertyValue(`--c-${probe[cause] || "else"}`).trim();
}

/** Draw `step` into `container`; `words` names causes. Returns {zoom(factor), all(), window()}. */
function stepDrawing(container, step, words, onWindow) {
  const canvas = node("canvas", { role: "img", tabindex: "0", "aria-label": "One step to scale" });
  container.replaceChildren(canvas);
  const streams = [...new Set(step.stream)].sort((a, b) => a - b);
  const wall = Math.max(step.wall_ns, 1);
  const layered = step.layer.some((layer) => layer >= 0);
  const [labelWidth, gapHeight, laneHeight, layerHeight, space] = [70, 26, 30, layered ? 16 : 0, 8];
  const height = 20 + gapHeight + space + (layered ? layerHeight + space : 0) + streams.length * (laneHeight + space) + 4;
  let [low, high] = [0, wall];
  const width = () => Math.max(container.clientWidth, 200);
  const x = (ns) => labelWidth + ((ns - low) / (high - low)) * (width() - labelWidth - 2);
  const ns = (px) => low + ((px - labelWidth) / (width() - labelWidth - 2)) * (high - low);
  const laneTop = (stream) =>
    20 + gapHeight + space + (layered ? layerHeight + space : 0) + streams.indexOf(stream) * (laneHeight + space);

  function draw() {
    const ratio = globalThis.devicePixelRatio || 1;
    canvas.width = width() * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    const styles = getComputedStyle(document.documentElement);
    const ink = (name) => styles.getPropertyValue(name).trim();
    context.scale(ratio, ratio);
    context.clearRect(0, 0, width(), height);
    context.font = "11.5px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = ink("--faint");
    for (const tick of roundTicks(low / 1e3, high / 1e3, width() / 110)) {
      const [label, at] = [formatMs(tick / 1e3), x(tick * 1e3)];
      const fits = at + 3 + context.measureText(label).width <= width();
      context.textAlign = fits ? "left" : "right"; // at the right edge a label stands before its line
      context.fillText(label, fits ? at + 3 : at - 3, 8);
      context.fillRect(x(tick * 1e3), 0, 1, height);
    }
    context.textAlign = "left";
    context.fillStyle = ink("--soft");
    context.fillText("gaps", 0, 20 + gapHeight / 2);
    if (layered) context.fillText("layers", 0, 20 + gapHeight + space + layerHeight / 2);
    for (const stream of streams) context.fillText(`stream ${stream}`, 0, laneTop(stream) + laneHeight / 2);
    context.save();
    context.beginPath();
    context.rect(labelWidth, 18, width() - labelWidth, height);
    context.clip();
    boxes(context, step.gap_start_ns, step.gap_duration_ns, (i) => causeColour(styles, step.gap_cause[i]), () => 20, gapHeight);
    if (layered) layers(context, ink);
    const colours = Object.fromEntries(["gemm", "attention", "small", "copy", "communication", "else"].map((k) => [k, ink(`--k-${k}`)]));
    const colourOf = step.families.map((family) => colours[familyClass(family)]);
    boxes(context, step.start_ns, step.duration_ns, (i) => colourOf[step.name[i]], (i) => laneTop(step.stream[i]), laneHeight, true);
    context.restore();
    onWindow(low, high, wall);
  }

  function boxes(context, starts, durations, colour, top, size, named = false) {
    context.textBaseline = "middle";
    const columns = new Map(); // lane top -> pixel -> {share, colour of the widest, its width}
    for (let i = 0; i < starts.length; i += 1) {
      if (starts[i] > high || starts[i] + durations[i] < low) continue;
      const [left, right] = [x(starts[i]), x(starts[i] + durations[i])];
      if (right - left < 1.5) {
        if (!columns.has(top(i))) columns.set(top(i), new Map());
        const lane = columns.get(top(i));
        for (let pixel = Math.floor(left); pixel <= Math.floor(right); pixel += 1) {
          const part = Math.min(right, pixel + 1) - Math.max(left, pixel);
          const column = lane.get(pixel) || { share: 0, widest: -1, colour: "" };
          column.share += part;
          if (part > column.widest) [column.widest, column.colour] = [part, colour(i)];
          lane.set(pixel, column);
        }
        continue;
      }
      context.fillStyle = colour(i);
      context.fillRect(left, top(i), right - left, size);
      if (named && right - left > 46) {
        context.fillStyle = "#fff";
        const letters = Math.floor((right - left - 8) / 6.2);
        context.fillText(step.names[step.name[i]].slice(0, letters), left + 4, top(i) + size / 2);
      }
    }
    for (const [laneTop, lane] of columns) {
      for (const [pixel, { share, colour: own }] of lane) {
        const tall = Math.max(size * Math.min(share, 1), 0.75);
        context.fillStyle = own;
        context.fillRect(pixel, laneTop + size - tall, 1, tall);
      }
    }
  }

  function layers(context, ink) {
    const spans = new Map();
    step.layer.forEach((layer, i) => {
      if (layer < 0) return;
      const end = step.start_ns[i] + step.duration_ns[i];
      const span = spans.get(layer);
      if (span) span[1] = end;
      else spans.set(layer, [step.start_ns[i], end]);
    });
    const top = 20 + gapHeight + space;
    for (const [layer, [start, end]] of spans) {
      if (start > high || end < low) continue;
      context.fillStyle = ink(layer % 2 ? "--line" : "--grid");
      context.fillRect(x(start), top, Math.max(x(end) - x(start), 0.6), layerHeight);
      if (x(end) - x(start) > 16) {
        context.fillStyle = ink("--soft");
        context.fillText(String(layer), x(start) + 3, top + layerHeight / 2);
      }
    }
  }

  function zoom(factor, centre = (low + high) / 2) {
    const span = Math.min(Math.max((high - low) / factor, 500), wall);
    const share = (centre - low) / (high - low);
    low = Math.min(Math.max(centre - share * span, 0), wall - span);
    high = low + span;
    draw();
  }

  function indexAt(starts, durations, at, also = () => true) {
    let best = -1;
    const tolerance = (high - low) / width();
    for (let i = 0; i < starts.length; i += 1) {
      if (at >= starts[i] - tolerance && at <= starts[i] + durations[i] + tolerance && also(i)) best = i;
    }
    return best;
  }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, ns(event.clientX - canvas.getBoundingClientRect().left));
  }, { passive: false });
  let grabbed = null;
  canvas.addEventListener("pointerdown", (event) => {
    grabbed = { x: event.clientX, low };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => { grabbed = null; });
  canvas.addEventListener("pointerleave", hideTooltip);
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key];
    if (event.key === "+") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (move) {
      const span = high - low;
      low = Math.min(Math.max(low + move * span, 0), wall - span);
      high = low + span;
      draw();
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    if (grabbed) {
      const span = high - low;
      const moved = ((event.clientX - grabbed.x) / (width() - labelWidth)) * span;
      low = Math.min(Math.max(grabbed.low - moved, 0), wall - span);
      high = low + span;
      hideTooltip();
      draw();
      return;
    }
    const [at, y] = [ns(event.clientX - box.left), event.clientY - box.top];
    if (y >= 20 && y < 20 + gapHeight) {
      const i = indexAt(step.gap_start_ns, step.gap_duration_ns, at);
      if (i < 0) return hideTooltip();
      return showTooltip(event, { title: `gap of ${formatMs(step.gap_duration_ns[i] / 1e6)}`, rows: [["cause", words[step.gap_cause[i]] || step.gap_cause[i]]] });
    }
    const stream = streams.find((s) => y >= laneTop(s) && y < laneTop(s) + laneHeight);
    const i = stream === undefined ? -1 : indexAt(step.start_ns, step.duration_ns, at, (k) => step.stream[k] === stream);
    if (i < 0) return hideTooltip();
    const rows = [["duration", formatMs(step.duration_ns[i] / 1e6)], ["family", step.families[step.name[i]]]];
    if (step.layer[i] >= 0) rows.push(["layer", String(step.layer[i])]);
    return showTooltip(event, { title: step.names[step.name[i]], rows });
  });
  new ResizeObserver(draw).observe(container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  return { zoom, all: () => { [low, high] = [0, wall]; draw(); }, window: () => [low, high] };
}
