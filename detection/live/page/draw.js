// Boxes, names and scores over an image. Plain canvas; sizes are in CSS pixels, so lines are as thin on every screen.

import { state } from "./state.js";

export const FONT = '600 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
export const TALL = 20;

/** Draws rows [class, score, x1, y1, x2, y2, track], given in pixels of `size` = [height, width], on width x height. */
export function drawBoxes(context, rows, size, width, height) {
  const sx = width / size[1];
  const sy = height / size[0];
  const line = width < 420 ? 1.75 : 2.25;
  context.save();
  context.font = FONT;
  context.textBaseline = "middle";
  const taken = [];
  const labels = [];
  for (const row of [...rows].sort((a, b) => a[1] - b[1])) {
    const [index, score, x1, y1, x2, y2, track] = row;
    const look = state.classes[index] || { name: `class ${index}`, color: "#ffffff", ink: "#000" };
    const box = [x1 * sx, y1 * sy, (x2 - x1) * sx, (y2 - y1) * sy];
    frame(context, box, look.color, line);
    if (state.labels) labels.unshift({ text: textOf(look.name, score, track), box, look });
  }
  for (const label of labels) {
    const wide = Math.min(context.measureText(label.text).width + 12, width);
    const spot = freeSpot(label.box, wide, line, taken, width, height);
    taken.push(spot);
    label.spot = spot;
  }
  for (const label of labels.reverse()) plate(context, label);
  context.restore();
}

function textOf(name, score, track) {
  const number = track >= 0 ? ` #${track}` : "";
  return `${name}${number}` + (state.scores ? ` ${score.toFixed(2)}` : "");
}

function frame(context, [x, y, w, h], color, line) {
  const radius = Math.min(5, w / 4, h / 4);
  context.beginPath();
  context.roundRect(x + line / 2, y + line / 2, Math.max(w - line, 1), Math.max(h - line, 1), radius);
  context.lineWidth = line + 2;
  context.strokeStyle = "#0007";
  context.stroke();
  context.lineWidth = line;
  context.strokeStyle = color;
  context.stroke();
}

export function plate(context, { text, spot, look }) {
  const [x, y, w, h] = spot;
  context.beginPath();
  context.roundRect(x, y, w, h, 5);
  context.fillStyle = look.color;
  context.fill();
  context.fillStyle = look.ink;
  context.fillText(text, x + 6, y + h / 2 + 0.5, Math.max(w - 10, 1));
}

// On the box, inside its top, below it, inside its bottom: the first that covers no other label, else the least.
function freeSpot([x, y, w, h], wide, line, taken, width, height) {
  let best = null;
  let least = Infinity;
  for (const left of [x, x + w - wide]) {
    for (const top of [y - TALL - 1, y + line + 1, y + h + 1, y + h - line - TALL - 1]) {
      const spot = [clamp(left, 0, width - wide), clamp(top, 0, height - TALL), wide, TALL];
      const pushed = top !== spot[1] ? 1 : 0;
      const covered = taken.reduce((sum, other) => sum + overlap(spot, other), 0) + pushed;
      if (covered < least) [best, least] = [spot, covered];
    }
  }
  return best;
}

export const clamp = (value, low, high) => Math.max(low, Math.min(value, Math.max(high, low)));

export function overlap(a, b) {
  const w = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const h = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  return w > 0 && h > 0 ? w * h : 0;
}
