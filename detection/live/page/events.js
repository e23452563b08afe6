// The card "Lines and zones": what there is with its counts, and what has happened, newest first.

import { notice } from "./state.js";
import { copy, listed } from "./watch.js";

const $ = (id) => document.getElementById(id);
const rows = new Map(); // source's key and gate's id -> its row, so that the focus stays where it is

/** The buttons of the card. editor: what draws. */
export function prepareCard(editor) {
  const problem = listed().then((answer) => {
    const option = Object.assign(document.createElement("code"), { textContent: "--watch FILE.yaml" });
    $("kept").replaceChildren(...(answer.file ? [`Kept in ${answer.file}`] : ["Gone when the program ends, unless it is started with ", option]));
    return answer.problem;
  });
  problem.catch(() => {});
  for (const kind of ["line", "zone"]) {
    $(`add-${kind}`).addEventListener("click", async () => {
      const why = await problem.catch((error) => error.message);
      if (why) notice(why.charAt(0).toUpperCase() + why.slice(1), 12);
      else if (editor.kind === kind) editor.stop();
      else editor.begin(kind);
    });
  }
  $("copy").addEventListener("click", async () => {
    try {
      const { options } = await listed();
      await copy(options);
      notice("Copied: put it behind mobilessd live and its source");
    } catch (error) {
      notice(error.message, 20);
    }
  });
}

/** Shows what the tiles' last packets and statuses tell. */
export function showEvents(tiles, editor) {
  const several = editor.tiles.length > 1;
  for (const kind of ["line", "zone"]) $(`add-${kind}`).setAttribute("aria-pressed", String(editor.kind === kind));
  const here = new Set();
  const list = $("gates");
  for (const tile of editor.tiles) {
    for (const gate of editor.gates(tile)) {
      const key = `${tile.key}/${gate.id}`;
      here.add(key);
      if (!rows.has(key)) rows.set(key, gateRow(tile, gate.id, editor));
      const { row, button, name, counts, remove } = rows.get(key);
      set(name, several ? `${gate.name} · ${tile.name}` : gate.name);
      set(counts, gate.counts);
      row.className = gate.kind;
      button.setAttribute("aria-pressed", String(editor.picked?.tile === tile && editor.picked.id === gate.id));
      remove.setAttribute("aria-label", `Remove ${gate.name}`);
      if (!row.isConnected) list.append(row);
    }
  }
  for (const [key, { row }] of rows) {
    if (!here.has(key)) row.remove(), rows.delete(key);
  }
  $("gates-hint").hidden = here.size > 0;
  $("gates-foot").hidden = $("copy").hidden = !here.size;
  showPast(tiles, several);
}

function gateRow(tile, id, editor) {
  const row = document.createElement("li");
  const [button, remove] = ["button", "button"].map((kind) => Object.assign(document.createElement(kind), { type: "button" }));
  const [icon, name, counts] = ["i", "span", "b"].map((kind) => document.createElement(kind));
  button.title = "Change it on the image";
  button.append(icon, name, counts);
  button.addEventListener("click", () => {
    if (editor.picked?.tile === tile && editor.picked.id === id) return editor.stop();
    editor.pick(tile, id);
    tile.element.scrollIntoView({ block: "nearest" });
  });
  remove.className = "remove";
  remove.title = "Remove";
  remove.textContent = "×";
  remove.addEventListener("click", () => editor.remove(tile, id));
  row.append(button, remove);
  return { row, button, name, counts, remove };
}

function showPast(tiles, several) {
  const events = tiles.flatMap((tile) => tile.status.events || []);
  const newest = events.sort((a, b) => b.at - a.at).slice(0, 20);
  $("events").replaceChildren(
    ...newest.map(({ at, source, text }) => {
      const [time, words, where] = ["time", "span", "small"].map((kind) => document.createElement(kind));
      time.textContent = new Date(at * 1000).toLocaleTimeString();
      words.textContent = text;
      where.textContent = source;
      const item = document.createElement("li");
      item.append(time, words);
      if (several) words.append(" ", where);
      return item;
    }),
  );
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
