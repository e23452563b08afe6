// The bar below an image while something is drawn on it, or chosen: it takes the place of the caption.

import { COARSE } from "./gates.js";

/** The bar's buttons. editor: what they act upon. */
export function prepareBar(editor, tile) {
  const part = (name) => tile.element.querySelector(`[data-bar=${name}]`);
  const bars = { drawing: part("drawing"), picked: part("picked"), caption: tile.element.querySelector("figcaption") };
  Object.assign(bars, { hint: part("hint"), name: part("name"), swap: part("swap"), undo: part("undo"), done: part("done") });
  tile.bars = bars;
  const acts = {
    undo: () => editor.undoCorner(),
    done: () => editor.finish(),
    cancel: () => editor.stop(),
    swap: () => editor.swap(),
    remove: () => editor.remove(editor.picked.tile, editor.picked.id),
    close: () => editor.stop(),
  };
  for (const [name, act] of Object.entries(acts)) part(name).addEventListener("click", act);
  bars.name.addEventListener("change", () => editor.rename(bars.name.value));
  bars.name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    editor.rename(bars.name.value);
    editor.stop();
    tile.element.focus({ preventScroll: true });
  });
}

/** Shows what is being done on a tile's image. */
export function showBar(editor, tile) {
  const { bars } = tile;
  const gate = editor.picked?.tile === tile && editor.find(editor.picked);
  const draft = editor.draft?.tile === tile ? editor.draft : null;
  bars.caption.hidden = Boolean(editor.kind || gate);
  bars.drawing.hidden = !editor.kind;
  bars.picked.hidden = !gate;
  if (editor.kind) {
    const words = hint(editor.kind, draft);
    if (bars.hint.textContent !== words) bars.hint.textContent = words; // read aloud when it is another
    bars.undo.hidden = !draft || draft.saving;
    bars.done.hidden = !draft || draft.points.length < (editor.kind === "line" ? 2 : 3) || draft.saving;
  }
  if (gate) {
    if (document.activeElement !== bars.name) bars.name.value = gate.name;
    bars.swap.hidden = gate.kind !== "line";
  }
}

function hint(kind, draft) {
  const click = COARSE ? "tap" : "click";
  if (draft?.saving) return "Saving";
  if (kind === "line") return draft ? `Now ${click} where the line ends` : "Drag a line across the image";
  const count = draft?.points.length || 0;
  if (!count) return `Drag a box, or ${click} its corners`;
  return count < 3 ? `Next corner (${count} so far)` : `Next corner, or ${click} the first one`;
}
