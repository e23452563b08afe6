// One image in the page: its frame, its boxes, its buttons. Knows nothing of where frames come from.

import { drawBoxes } from "./draw.js";
import { saveSnapshot } from "./snapshot.js";
import { chosen, seconds, state } from "./state.js";

const KEEP = 150; // seconds of samples for the counts over time
const EVERY = 0.25; // seconds between two

export class Tile {
  constructor(name, key) {
    this.name = name;
    this.key = key;
    this.element = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    this.canvas = this.element.querySelector("canvas");
    this.packet = null; // {n, t, size, d, ...} of the frame that is shown
    this.image = null; // ImageBitmap
    this.blob = null; // the same as JPEG, as it came
    this.shown = []; // the rows that are drawn now
    this.gates = []; // lines and zones, {id, version, kind, name, counts, points: in fractions of the image}
    this.still = false; // a photo: nothing moves, and counts over time are none of its business
    this.status = {};
    this.samples = []; // [seconds() of then, rows flattened to class, score, ...]
    this.paused = false;
    this.frames = 0;
    this.element.querySelector("b").textContent = name;
    this.element.setAttribute("aria-label", name);
    for (const button of this.element.querySelectorAll("[data-do]")) {
      button.addEventListener("click", (event) => (event.stopPropagation(), this.act(button.dataset.do)));
    }
    this.element.addEventListener("keydown", (event) => {
      const what = { " ": "pause", s: "snapshot", f: "full", m: "motion" }[event.key];
      if (what && event.target === this.element) (event.preventDefault(), this.act(what));
    });
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  act(what) {
    if (what === "pause") this.hold(!this.paused);
    if (what === "snapshot") saveSnapshot(this);
    if (what === "full") document.fullscreenElement ? document.exitFullscreen() : this.element.requestFullscreen?.();
    if (what === "motion") this.onmotion?.();
    if (what === "close") this.onclose?.();
  }

  hold(paused) {
    this.paused = paused;
    this.element.querySelector("[data-do=pause]").classList.toggle("on", paused);
    this.refresh();
  }

  /** Shows a frame. Takes over `image`; `blob` is its JPEG, if it came as one. */
  show(packet, image, blob = null) {
    this.sample(packet);
    const [high, wide] = packet.size;
    this.gates = (packet.gates || []).map((gate) => ({ ...gate, points: gate.points.map(([x, y]) => [x / wide, y / high]) }));
    this.ongates?.();
    if (this.paused) {
      image.close();
      return this.redraw(); // the image is held, lines and zones are not
    }
    this.image?.close();
    [this.packet, this.image, this.blob] = [packet, image, blob];
    this.frames += 1;
    const ratio = image.width / image.height;
    if (ratio !== this.ratio) {
      this.ratio = ratio;
      this.element.style.setProperty("--shape", `${image.width} / ${image.height}`);
      this.element.style.setProperty("--ratio", ratio);
      this.onshape?.();
    }
    this.redraw();
  }

  /** Draws the frame at hand anew: after a new frame, another threshold, another filter, another size. */
  redraw() {
    this.shown = this.packet ? chosen(this.packet.d) : [];
    if (!this.image) return;
    const width = this.canvas.clientWidth;
    if (!width) return;
    const height = (width * this.image.height) / this.image.width;
    const dense = Math.min(window.devicePixelRatio || 1, Math.max(1, 2560 / width));
    const [w, h] = [Math.round(width * dense), Math.round(height * dense)];
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    const context = this.canvas.getContext("2d", { alpha: false });
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.drawImage(this.image, 0, 0, width, height);
    this.under?.(context, width, height);
    if (state.boxes) drawBoxes(context, this.shown, this.packet.size, width, height);
    this.over?.(context, width, height);
  }

  /** Some times a second what is in view is kept, for the counts over time. */
  sample(packet) {
    if (this.still) return;
    const now = seconds();
    if (this.samples.length && now - this.samples[this.samples.length - 1][0] < EVERY) return;
    this.samples.push([now, packet.d.flatMap((row) => [row[0], row[1]])]);
    while (this.samples.length && now - this.samples[0][0] > KEEP) this.samples.shift();
  }

  /** Shows how the source is: {state, message, stale, age, fps, total, motion}. */
  setStatus(status) {
    this.status = status;
    this.refresh();
  }

  refresh() {
    const { state: how = "opening", message = "", stale, age, fps = 0, total, motion, words: told = "" } = this.status;
    const still = this.element.querySelector("[data-do=motion]");
    still.hidden = motion === undefined; // of the server's sources alone
    still.setAttribute("aria-pressed", Boolean(motion));
    still.classList.toggle("on", Boolean(motion));
    this.element.querySelector(".dot").className = `dot ${how}`;
    const delay = total ? ` · ${Math.round(total[0])} ms` : "";
    this.element.querySelector(".speed").textContent = fps ? `${fps.toFixed(0)} fps${delay}` : told;
    const veil = this.element.querySelector(".veil");
    const words = this.paused ? null : trouble(how, stale);
    veil.hidden = !words;
    if (words) {
      const old = age === null || age === undefined ? "" : `This image is ${ago(age)} old`;
      veil.querySelector("strong").textContent = words;
      veil.querySelector("span").textContent = [old, message].filter(Boolean).join(" · ");
    }
  }
}

function trouble(how, stale) {
  if (how === "gone") return "The server does not answer";
  if (how === "failed") return "Stopped";
  if (how === "lost") return "No image, trying again";
  if (stale) return "No new image";
  return how === "opening" ? "Opening" : null;
}

function ago(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
