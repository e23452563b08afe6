// Lines and zones over an image: how they look, and what a pointer is near to. Points are fractions of the image.

import { clamp, FONT, overlap, plate, TALL } from "./draw.js";

export const COARSE = matchMedia("(pointer: coarse)").matches; // a finger covers more than a mouse's tip
const CHOSEN = "#5ee6a8";
const NEAR = COARSE ? 22 : 10; // CSS pixels
const HANDLE = COARSE ? 9 : 6;
const FLASH = 700; // milliseconds that a line or zone lights up when its counts change

/** The ground of the zones; boxes are drawn over it, and lines over these. */
export function fillZones(context, gates, chosen, width, height) {
  for (const gate of gates.filter(({ kind }) => kind === "zone")) {
    context.fillStyle = gate.id === chosen ? "#5ee6a833" : "#ffffff1f";
    context.fill(pathOf(gate.points.map(([x, y]) => [x * width, y * height]), true));
  }
}

/** Draws them with their counts. chosen: the id of the one that is being edited. flashes: Map of id -> when it counted. */
export function drawGates(context, gates, chosen, flashes, width, height) {
  context.save();
  context.font = FONT;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineCap = "round";
  const now = performance.now();
  const taken = [];
  for (const gate of [...gates].sort((a, b) => (a.id === chosen) - (b.id === chosen))) {
    const points = gate.points.map(([x, y]) => [x * width, y * height]);
    const bright = gate.id === chosen || now - (flashes.get(gate.id) ?? -FLASH) < FLASH;
    trace(context, points, gate.kind === "zone", bright ? CHOSEN : "#fff");
    if (gate.kind === "line") arrow(context, points, bright ? CHOSEN : "#fff");
    const text = gate.counts ? `${gate.name}: ${gate.counts}` : gate.name;
    const spot = labelSpot(gate.kind, points, context.measureText(text).width + 12, taken, width, height);
    taken.push(spot);
    plate(context, { text, spot, look: { color: bright ? CHOSEN : "#fff", ink: "#000" } });
    if (gate.id === chosen) points.forEach((point) => handle(context, point));
  }
  context.restore();
}

/** The points of what is being drawn, with the one where the pointer is. */
export function outline({ points, hover, rectangle, saving }) {
  if (rectangle) return corners(points[0], hover);
  return hover && !saving ? [...points, hover] : points;
}

/** What is being drawn: its corners so far, and where the pointer is. */
export function drawDraft(context, draft, width, height) {
  const { kind, points, rectangle } = draft;
  const place = ([x, y]) => [x * width, y * height];
  const all = outline(draft).map(place);
  context.save();
  context.lineJoin = "round";
  context.lineCap = "round";
  if (all.length > 1) {
    trace(context, all, kind === "zone" && all.length > 2, CHOSEN);
    if (kind === "line") arrow(context, all, CHOSEN);
  }
  if (!rectangle) {
    points.map(place).forEach((point, i) => handle(context, point, kind === "zone" && points.length > 2 && !i));
  }
  context.restore();
}

/** The four corners of a rectangle that was dragged from one to the opposite one. */
export const corners = ([x1, y1], [x2, y2]) => [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];

/** What of a gate is at a pixel: {corner: index}, {edge: true}, {inside: true}, or null. */
export function partAt(gate, [px, py], width, height) {
  const points = gate.points.map(([x, y]) => [x * width, y * height]);
  const distances = points.map(([x, y]) => Math.hypot(x - px, y - py));
  const nearest = distances.indexOf(Math.min(...distances));
  if (distances[nearest] <= NEAR) return { corner: nearest };
  const count = gate.kind === "zone" ? points.length : 1;
  for (let i = 0; i < count; i++) {
    if (toSegment([px, py], points[i], points[(i + 1) % points.length]) <= NEAR) return { edge: true };
  }
  return gate.kind === "zone" && isInside([px, py], points) ? { inside: true } : null;
}

/** Whether two pixels are one for a pointer. */
export const isNear = ([x1, y1], [x2, y2]) => Math.hypot(x1 - x2, y1 - y2) <= NEAR;

function pathOf(points, closed) {
  const path = new Path2D();
  points.forEach((point, i) => (i ? path.lineTo(...point) : path.moveTo(...point)));
  if (closed) path.closePath();
  return path;
}

function trace(context, points, closed, color) {
  stroke(context, pathOf(points, closed), color);
}

/** With a dark rim, so that it shows on any ground. */
function stroke(context, path, color) {
  for (const [ink, line] of [["#000a", 5], [color, 2.5]]) {
    context.lineWidth = line;
    context.strokeStyle = ink;
    context.stroke(path);
  }
}

/** The way of length 1 from a line to the side where "in" is: its right-hand one, as the server counts. */
export function inwards([[x1, y1], [x2, y2]]) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  return [-(y2 - y1) / length, (x2 - x1) / length];
}

function arrow(context, points, color) {
  const [[x1, y1], [x2, y2]] = points;
  const length = Math.hypot(x2 - x1, y2 - y1);
  if (length < 8) return;
  const [nx, ny] = inwards(points);
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const reach = Math.min(26, Math.max(length / 3, 12));
  const tip = [x + nx * reach, y + ny * reach];
  const wing = (side) => [tip[0] - nx * 8 + side * ny * 6, tip[1] - ny * 8 - side * nx * 6];
  const path = new Path2D();
  path.moveTo(x, y);
  path.lineTo(...tip);
  path.moveTo(...wing(1));
  path.lineTo(...tip);
  path.lineTo(...wing(-1));
  stroke(context, path, color);
}

function handle(context, [x, y], closes = false) {
  context.beginPath();
  context.arc(x, y, closes ? HANDLE + 3 : HANDLE, 0, 2 * Math.PI);
  context.fillStyle = closes ? CHOSEN : "#fff";
  context.fill();
  context.lineWidth = 2.5;
  context.strokeStyle = closes ? "#fff" : "#0b7a4d";
  context.stroke();
}

/** Where a label goes, always inside the image: above a zone, below it or in it; behind a line's arrow, or at its ends. The
 * first place that covers no other label and needs no pushing. */
export function labelSpot(kind, points, text, taken, width, height) {
  const wide = Math.min(text, width - 4);
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  const away = TALL / 2 + 4;
  let places = [[x, top - away], [x, bottom + away], [x, top + away], [x, y]];
  if (kind === "line") {
    const [nx, ny] = inwards(points).map((one) => -one);
    const off = Math.abs(nx) * (wide / 2 + 8) + Math.abs(ny) * (TALL / 2 + 8);
    places = [[x + nx * off, y + ny * off], [xs[0], ys[0]], [xs[1], ys[1]]];
  }
  let best = null;
  let least = Infinity;
  for (const [middle, line] of places) {
    const spot = [clamp(middle - wide / 2, 2, width - wide - 2), clamp(line - TALL / 2, 2, height - TALL - 2), wide, TALL];
    const pushed = Math.abs(spot[1] + TALL / 2 - line);
    const covered = taken.reduce((sum, other) => sum + overlap(spot, other), 0) + pushed;
    if (covered < least) [best, least] = [spot, covered];
  }
  return best;
}

function toSegment([px, py], [x1, y1], [x2, y2]) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const along = clamp(((px - x1) * dx + (py - y1) * dy) / (dx * dx + dy * dy || 1), 0, 1);
  return Math.hypot(px - x1 - along * dx, py - y1 - along * dy);
}

function isInside([px, py], points) {
  let inside = false;
  points.forEach(([x1, y1], i) => {
    const [x2, y2] = points[(i + 1) % points.length];
    if (y1 > py !== y2 > py && px < ((x2 - x1) * (py - y1)) / (y2 - y1) + x1) inside = !inside;
  });
  return inside;
}
