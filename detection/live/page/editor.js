// Drawing, moving, naming and removing lines and zones on the images, by mouse, finger and keys.

import { prepareBar, showBar } from "./bar.js";
import { COARSE, corners, drawDraft, drawGates, fillZones, isNear, outline, partAt } from "./gates.js";
import { far, place, shifted, stretched, within } from "./shapes.js";
import { notice } from "./state.js";
import { add, change, inTurn, remove, restore } from "./watch.js";

const STEP = 0.01; // of the image, for the arrow keys
const STARTS = { line: [[0.5, 0.1], [0.5, 0.9]], zone: [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]] };

export class Editor {
  /** changed: called when what is drawn or chosen is another. */
  constructor(changed) {
    this.changed = changed;
    this.tiles = [];
    this.kind = null; // "line" or "zone" while one is being drawn
    this.draft = null; // {tile, kind, points, hover, rectangle, down, saving}
    this.picked = null; // {tile, id}
    this.drag = null; // {tile, id, version, part, from, points, now}
    this.edits = new Map(); // id -> {points, name, version}: ours, until the server's frames show them
    this.own = new Map(); // id -> the version that our last change made
    this.swallow = false; // the click that ends what a pointer did here is nobody else's
    document.addEventListener("keydown", (event) => this.key(event));
  }

  /** A tile of a camera of the server: what is drawn on it counts. */
  adopt(tile) {
    this.tiles.push(tile);
    const flashes = new Map();
    let counts = new Map();
    tile.ongates = () => {
      for (const { id, counts: text } of tile.gates) {
        if (counts.has(id) && counts.get(id) !== text) flashes.set(id, performance.now());
      }
      counts = new Map(tile.gates.map(({ id, counts: text }) => [id, text]));
      this.settle(tile);
    };
    const chosen = () => (this.picked?.tile === tile ? this.picked.id : null);
    tile.under = (context, width, height) => {
      fillZones(context, this.gates(tile), chosen(), width, height);
      if (this.draft?.tile === tile) fillZones(context, [{ ...this.draft, points: outline(this.draft), id: -1 }], -1, width, height);
    };
    tile.over = (context, width, height) => {
      drawGates(context, this.gates(tile), chosen(), flashes, width, height);
      if (this.draft?.tile === tile) drawDraft(context, this.draft, width, height);
    };
    for (const [name, act] of [["down", this.down], ["move", this.move], ["up", this.up], ["cancel", this.lost]]) {
      tile.canvas.addEventListener(`pointer${name}`, (event) => event.isPrimary && act.call(this, tile, event));
    }
    tile.canvas.addEventListener("click", (event) => this.swallow && event.stopImmediatePropagation());
    tile.canvas.addEventListener("dblclick", () => this.draft && this.finish());
    tile.canvas.addEventListener("touchstart", (event) => this.holds(tile) && event.preventDefault(), { passive: false });
    prepareBar(this, tile);
  }

  /** The tile's lines and zones, with what we have changed and the server has not shown yet. */
  gates(tile) {
    return tile.gates.map((gate) => {
      const edit = this.edits.get(gate.id);
      const points = this.drag?.id === gate.id && this.drag.tile === tile ? this.drag.now : edit?.points;
      return { ...gate, points: points || gate.points, name: edit?.name ?? gate.name };
    });
  }

  find = ({ tile, id }) => this.gates(tile).find((gate) => gate.id === id);

  // ---------------------------------------------------------------- drawing

  /** The next pointer on an image draws a line or a zone. */
  begin(kind) {
    this.stop();
    this.kind = kind;
    const [tile] = this.tiles;
    if (this.tiles.length === 1) tile.element.focus({ preventScroll: true });
    const box = tile.canvas.getBoundingClientRect();
    if (box.bottom < 80 || box.top > innerHeight - 80) tile.element.scrollIntoView({ block: "nearest" });
    this.refresh();
  }

  /** Ends drawing and choosing; what was not finished is gone. */
  stop() {
    [this.kind, this.draft, this.picked, this.drag] = [null, null, null, null];
    this.refresh();
  }

  undoCorner() {
    this.draft.points.pop();
    if (!this.draft.points.length) this.draft = null;
    this.refresh();
  }

  /** Makes what is drawn count, if it is enough for a line or zone. */
  finish(points = this.draft.points) {
    const { tile, kind, saving } = this.draft;
    if (saving || points.length < (kind === "line" ? 2 : 3)) return;
    Object.assign(this.draft, { points, saving: true, rectangle: false });
    this.refresh();
    const draft = this.draft;
    inTurn(() => add(kind, tile.name, points.map(within)))
      .then((gate) => {
        if (this.draft === draft) [this.kind, this.draft] = [null, null];
        if (this.kind) return;
        // A frame may have shown it before this answer came; of a video that has ended there is no other frame.
        if (!tile.gates.some(({ id }) => id === gate.id)) tile.gates = [...tile.gates, { ...gate, counts: "" }];
        this.pick(tile, gate.id, !COARSE);
      })
      .catch((error) => {
        notice(error.message, 8);
        draft.saving = false;
        this.refresh();
      });
  }

  // ---------------------------------------------------------------- choosing and changing

  pick(tile, id, naming = false) {
    [this.kind, this.draft, this.picked] = [null, null, { tile, id }];
    this.refresh();
    if (naming) tile.bars.name.focus(), tile.bars.name.select();
  }

  /** Sends a change of the chosen one: {points} or {name}. It shows at once, and goes back where it is refused. */
  change(id, version, wish) {
    const edit = { ...this.edits.get(id), ...wish, version: Infinity };
    this.edits.set(id, edit);
    this.refresh();
    inTurn(() => change(id, this.newest(id, version), wish))
      .then((gate) => {
        this.own.set(id, gate.version);
        if (this.edits.get(id) === edit) edit.version = gate.version;
      })
      .catch((error) => {
        if (this.edits.get(id) === edit) this.edits.delete(id);
        notice(error.message, 8);
      })
      .finally(() => this.refresh());
  }

  /** The version to change: the one that was seen, or what our own changes have made of it since. */
  newest = (id, seen) => Math.max(seen, this.own.get(id) || 0);

  rename(text) {
    const gate = this.picked && this.find(this.picked);
    const name = text.trim();
    if (gate && name && name !== gate.name) this.change(gate.id, gate.version, { name });
  }

  swap() {
    const gate = this.find(this.picked);
    this.change(gate.id, gate.version, { points: [...gate.points].reverse().map(within) });
  }

  remove(tile, id) {
    const gate = this.find({ tile, id });
    if (!gate) return;
    if (this.picked?.id === id) this.stop();
    inTurn(() => remove(id, this.newest(id, gate.version)))
      .then(() => {
        this.forget(id);
        const act = () => inTurn(() => restore(id)).catch((error) => notice(error.message, 8));
        notice(`Removed ${gate.name}${gate.every && this.tiles.length > 1 ? " from every camera" : ""}`, 12, { text: "Undo", act });
      })
      .catch((error) => notice(error.message, 8));
  }

  forget(id) {
    for (const tile of this.tiles) tile.gates = tile.gates.filter((gate) => gate.id !== id);
    this.edits.delete(id);
    this.refresh();
  }

  /** A frame has come: what it shows of our changes is ours no more; what somebody else has removed is let go. */
  settle(tile) {
    for (const gate of tile.gates) {
      if (this.edits.get(gate.id)?.version <= gate.version) this.edits.delete(gate.id);
    }
    if (this.picked?.tile === tile && !this.find(this.picked) && performance.now() - this.since > 1500) {
      this.stop();
      notice("Somebody else has removed it");
    }
  }

  // ---------------------------------------------------------------- pointers

  /** Whether fingers on the image draw or move, and do not scroll the page. */
  holds(tile) {
    return Boolean(this.kind) || this.picked?.tile === tile;
  }

  down(tile, event) {
    if (document.activeElement?.matches?.("[data-bar=name]")) document.activeElement.blur(); // what was typed is kept
    this.swallow = this.holds(tile);
    if (event.button) return;
    const at = place(tile, event);
    if (this.kind) return this.press(tile, event, at);
    const hit = this.hit(tile, at.pixel);
    if (!hit) return this.swallow && this.stop();
    this.swallow = true;
    if (this.picked?.id !== hit.gate.id) this.pick(tile, hit.gate.id);
    tile.canvas.setPointerCapture(event.pointerId);
    const { id, version, points } = hit.gate;
    this.drag = { tile, id, version, part: hit.part, from: at, points, now: points, moved: false };
  }

  press(tile, event, at) {
    tile.canvas.setPointerCapture(event.pointerId);
    if (this.draft?.saving) return;
    if (this.draft?.tile !== tile) this.draft = { tile, kind: this.kind, points: [], hover: null };
    this.draft.down = at;
    if (!this.draft.points.length) this.draft.points.push(at.share);
    this.draft.first = this.draft.points.length === 1 && this.draft.points[0] === at.share;
    this.draft.hover = at.share;
    this.refresh();
  }

  move(tile, event) {
    const at = place(tile, event);
    if (this.draft?.tile === tile && !this.draft.saving) {
      this.draft.hover = at.share;
      const { down, first, kind } = this.draft;
      this.draft.rectangle = Boolean(kind === "zone" && first && down && far(down.pixel, at.pixel));
      return tile.redraw();
    }
    if (this.drag?.tile === tile) return this.pull(at);
    const hit = this.kind ? null : this.hit(tile, at.pixel);
    tile.canvas.style.cursor = this.kind ? "crosshair" : hit ? (hit.part.corner >= 0 && hit.chosen ? "grab" : hit.chosen ? "move" : "pointer") : "";
  }

  pull(at) {
    const { tile, from, part, points } = this.drag;
    if (!this.drag.moved && !far(from.pixel, at.pixel, 3)) return;
    this.drag.moved = true;
    this.drag.now = part.corner >= 0 ? points.map((point, i) => (i === part.corner ? at.share : point)) : shifted(points, at.share[0] - from.share[0], at.share[1] - from.share[1]);
    tile.redraw();
  }

  up(tile, event) {
    const at = place(tile, event);
    if (this.draft?.tile === tile && this.draft.down && !this.draft.saving) return this.release(tile, at);
    if (this.drag?.tile !== tile) return;
    const { id, version, now, moved } = this.drag;
    this.drag = null;
    if (moved) this.change(id, version, { points: now.map(within) });
  }

  release(tile, at) {
    const { kind, points, down, first } = this.draft;
    this.draft.down = null;
    const pixel = ([x, y]) => [x * tile.canvas.clientWidth, y * tile.canvas.clientHeight];
    if (kind === "line") {
      if (far(pixel(points[0]), at.pixel)) this.finish([points[0], at.share]);
    } else if (first && far(down.pixel, at.pixel)) {
      this.finish(corners(points[0], at.share));
    } else if (!first) {
      if (points.length > 2 && isNear(pixel(points[0]), at.pixel)) return this.finish();
      if (far(pixel(points[points.length - 1]), at.pixel, 4)) points.push(at.share);
    }
    this.refresh();
  }

  lost(tile) {
    if (this.draft?.tile === tile) Object.assign(this.draft, { down: null, rectangle: false });
    if (this.drag?.tile === tile) this.drag = null;
    this.refresh();
  }

  /** The chosen one wherever it is touched; of the others the nearest line or edge, as zones may cover the whole image. */
  hit(tile, pixel) {
    const { clientWidth: width, clientHeight: height } = tile.canvas;
    const gates = this.gates(tile);
    const chosen = this.picked?.tile === tile && gates.find((gate) => gate.id === this.picked.id);
    const part = chosen && partAt(chosen, pixel, width, height);
    if (part) return { gate: chosen, part, chosen: true };
    for (const gate of gates.reverse()) {
      const other = partAt(gate, pixel, width, height);
      if (other && !other.inside) return { gate, part: { edge: true } };
    }
    return null;
  }

  // ---------------------------------------------------------------- keys

  key(event) {
    const typing = event.target.matches?.("input:not([type=checkbox]), textarea");
    if (event.key === "Escape" && (this.kind || this.picked)) {
      event.preventDefault();
      return this.stop();
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.kind) return this.drawingKey(event);
    const gate = this.picked && this.find(this.picked);
    if (!gate) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.remove(this.picked.tile, gate.id);
    } else if (arrows) {
      event.preventDefault();
      const [dx, dy] = arrows.map((one) => one * STEP);
      const points = event.shiftKey ? stretched(gate.points, dx, dy) : shifted(gate.points, dx, dy);
      this.change(gate.id, gate.version, { points: points.map(within) });
    }
  }

  drawingKey(event) {
    if (event.key === "Backspace" && this.draft && !this.draft.saving) {
      event.preventDefault();
      this.undoCorner();
    } else if (event.key === "Enter" && !event.target.closest?.("button")) {
      event.preventDefault();
      const tile = this.draft?.tile || this.tiles.find((one) => one.element.contains(event.target)) || this.tiles[0];
      // With keys alone one begins in the middle, and is moved by the arrows then.
      this.draft ||= { tile, kind: this.kind, points: STARTS[this.kind], hover: null };
      this.finish();
    }
  }

  /** Everything that shows what is being done. */
  refresh() {
    this.since = performance.now();
    for (const tile of this.tiles) {
      showBar(this, tile);
      tile.element.classList.toggle("drawing", Boolean(this.kind));
      tile.canvas.classList.toggle("held", this.holds(tile));
      if (!this.kind) tile.canvas.style.cursor = "";
      tile.redraw();
    }
    this.changed();
  }
}
