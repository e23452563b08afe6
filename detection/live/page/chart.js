// Counts of each class over the last minutes, at the threshold and filter of now: moving the slider redraws the past.

import { seconds as clock, state } from "./state.js";

export const SPAN = 120; // seconds
const LINES = 5;

/** For each second of the span, newest last: Map of class index -> count, the mean of its samples, summed over the
 * tiles; null where nothing is known. */
export function countsOf(tiles, now = clock()) {
  const seconds = Array.from({ length: SPAN }, () => null);
  for (const tile of tiles) {
    const own = new Map(); // second -> {frames, counts}
    for (const [time, flat] of tile.samples) {
      const at = SPAN - 1 - Math.floor(now - time);
      if (at < 0 || at >= SPAN) continue;
      if (!own.has(at)) own.set(at, { frames: 0, counts: new Map() });
      const second = own.get(at);
      second.frames += 1;
      for (let i = 0; i < flat.length; i += 2) {
        if (flat[i + 1] < state.score || state.hidden.has(flat[i])) continue;
        second.counts.set(flat[i], (second.counts.get(flat[i]) || 0) + 1);
      }
    }
    for (const [at, { frames, counts }] of own) {
      const sum = (seconds[at] ||= new Map());
      for (const [index, count] of counts) sum.set(index, (sum.get(index) || 0) + count / frames);
    }
  }
  return seconds;
}

export function drawChart(canvas, tiles) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width) return;
  const dense = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
  const context = canvas.getContext("2d");
  context.scale(dense, dense);
  const style = getComputedStyle(document.documentElement);
  const [quiet, rule] = [style.getPropertyValue("--quiet"), style.getPropertyValue("--line")];
  const seconds = countsOf(tiles);
  const totals = new Map();
  let most = 0;
  for (const counts of seconds) {
    for (const [index, count] of counts || []) {
      totals.set(index, (totals.get(index) || 0) + count);
      most = Math.max(most, count);
    }
  }
  const top = niceTop(Math.ceil(most - 0.01));
  const [left, right, high, low] = [22, width - 4, 8, height - 18];
  const x = (second) => left + ((right - left) * second) / (SPAN - 1);
  const y = (count) => low - ((low - high) * count) / top;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = quiet;
  context.strokeStyle = rule;
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of [0, top / 2, top].filter(Number.isInteger)) {
    context.fillText(value, left - 7, y(value));
    context.beginPath();
    context.moveTo(left, Math.round(y(value)) + 0.5);
    context.lineTo(right, Math.round(y(value)) + 0.5);
    context.stroke();
  }
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  context.fillText("−2 min", left, height - 3);
  context.textAlign = "center";
  context.fillText("−1 min", (left + right) / 2, height - 3);
  context.textAlign = "right";
  context.fillText("now", right, height - 3);
  const best = [...totals].sort((a, b) => b[1] - a[1]).slice(0, LINES);
  context.lineJoin = "round";
  context.lineWidth = 2;
  for (const [index] of best.reverse()) drawLine(context, seconds, index, x, y);
}

function drawLine(context, seconds, index, x, y) {
  context.strokeStyle = state.classes[index]?.color || "#888";
  context.beginPath();
  let pen = false;
  let missing = 0;
  seconds.forEach((counts, second) => {
    missing = counts ? 0 : missing + 1;
    if (missing > 2) pen = false; // samples come about once a second: a gap of one is none
    if (!counts) return;
    const at = [x(second), y(counts.get(index) || 0)];
    pen ? context.lineTo(...at) : context.moveTo(...at);
    pen = true;
  });
  context.stroke();
}

function niceTop(most) {
  if (most <= 2) return 2;
  const step = 10 ** Math.floor(Math.log10(most));
  return [2, 4, 6, 8, 10, 20].map((factor) => factor * step).find((value) => value >= most && value % 2 === 0) || most;
}
