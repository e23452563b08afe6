// Puts the page together: tiles, threshold, classes, counts, lines and zones, photos, and the visitor's own camera.

import { Camera } from "./camera.js";
import { drawChart } from "./chart.js";
import { Editor } from "./editor.js";
import { prepareCard, showEvents } from "./events.js";
import { preparePhotos } from "./photo.js";
import { Remote } from "./remote.js";
import { chosen, notice, seconds, setClasses, state } from "./state.js";
import { Tile } from "./tile.js";

const $ = (id) => document.getElementById(id);
const tiles = [];
const seen = new Map(); // class index -> how often it was in view; decides the order of the list
let alone = null; // the one tile that is shown, after a click on it
let camera = null;
const editor = new Editor(() => showEvents(tiles, editor));

if (location.search.includes("token=")) history.replaceState(null, "", location.pathname);

async function begin() {
  const info = await (await fetch("/api/info")).json();
  setClasses(info.classes);
  Object.assign(state, { score: info.score, lowest: info.lowest, detector: info.detector });
  $("detector").textContent = info.detector;
  $("detector").title = [info.detector, info.attribution, info.licence].filter(Boolean).join("\n");
  $("score").min = info.lowest;
  $("score").value = info.score;
  showScore();
  for (const source of info.sources) {
    const tile = addTile(source.name, source.key, true);
    new Remote(tile);
    fetch(`/api/history/${encodeURIComponent(source.key)}`)
      .then((answer) => answer.json())
      .then(({ samples, now }) => {
        const ours = seconds() - now;
        tile.samples = [...samples.map(([time, flat]) => [time + ours, flat]), ...tile.samples];
      })
      .catch(() => {});
  }
  if (!tiles.length) $("stage").innerHTML = "<p>No camera of its own. Drop a photo here, paste one, or use this device's camera with the button above.</p>";
  $("events-card").hidden = !editor.tiles.length;
  prepareCard(editor);
  preparePhotos(addPhoto);
  setInterval(showOften, 250);
  setInterval(showSlow, 1000);
}

function addTile(name, key, watched = false) {
  const tile = new Tile(name, key);
  $("stage").querySelector("p")?.remove();
  $("stage").append(tile.element);
  tiles.push(tile);
  tile.onshape = arrange;
  if (watched) editor.adopt(tile);
  tile.canvas.addEventListener("click", () => {
    if (tiles.length > 1 && !document.fullscreenElement) {
      alone = alone ? null : tile;
      arrange();
    }
  });
  arrange();
  return tile;
}

function closeTile(tile) {
  tile.element.remove();
  tiles.splice(tiles.indexOf(tile), 1);
  if (alone === tile) alone = null;
  arrange();
}

function addPhoto(name) {
  alone = null;
  const tile = addTile(name, name.replace(/\.\w+$/, ""));
  tile.element.querySelector("[data-do=close]").hidden = false;
  tile.element.querySelector("[data-do=pause]").hidden = true;
  tile.onclose = () => (closeTile(tile), tile.image?.close());
  return tile;
}

function arrange() {
  for (const tile of tiles) tile.element.classList.toggle("away", Boolean(alone) && tile !== alone);
  const shown = inView();
  const stage = $("stage");
  stage.classList.toggle("many", shown.length > 1);
  // As many columns as make the images largest, whatever the window's shape.
  const [width, height] = [stage.clientWidth, window.innerHeight - stage.offsetTop - 20];
  const ratio = Math.max(...shown.map((tile) => tile.ratio || 4 / 3), 0.5);
  let best = [1, 0];
  for (let columns = 1; columns <= shown.length; columns++) {
    const rows = Math.ceil(shown.length / columns);
    const wide = Math.min((width - 12 * (columns - 1)) / columns, ((height - 12 * (rows - 1)) / rows - 46) * ratio);
    if (wide > best[1]) best = [columns, wide];
  }
  stage.style.setProperty("--columns", best[0]);
  stage.style.setProperty("--wide", `${Math.max(best[1], 240)}px`);
  redraw();
}

new ResizeObserver(arrange).observe($("stage").parentElement);

const inView = () => tiles.filter((tile) => !alone || tile === alone);

function redraw() {
  for (const tile of tiles) tile.redraw();
  showClasses();
  drawChart($("chart"), inView());
}

// ---------------------------------------------------------------- threshold and switches

function showScore() {
  $("score-text").textContent = state.score.toFixed(2);
  const { min, max } = $("score");
  $("score").style.setProperty("--at", `${(100 * (state.score - min)) / (max - min)}%`);
}

$("score").addEventListener("input", () => {
  state.score = Number($("score").value);
  showScore();
  redraw();
});

for (const id of ["labels", "scores", "boxes"]) {
  $(id).addEventListener("change", () => {
    state[id] = $(id).checked;
    redraw();
  });
}

// ---------------------------------------------------------------- classes

$("all").addEventListener("click", () => (state.hidden.clear(), redraw()));
$("none").addEventListener("click", () => (state.classes.forEach((_, index) => state.hidden.add(index)), redraw()));

function toggle(index) {
  if (!state.hidden.delete(index)) state.hidden.add(index);
  redraw();
}

function showClasses() {
  const counts = new Map();
  for (const tile of inView()) {
    if (tile.status.stale) continue; // what was there once is not in view
    for (const row of tile.packet?.d || []) {
      if (row[1] >= state.score) counts.set(row[0], (counts.get(row[0]) || 0) + 1);
    }
  }
  let fresh = false;
  for (const [index, count] of counts) {
    fresh ||= !seen.has(index);
    seen.set(index, (seen.get(index) || 0) + count);
  }
  const list = $("classes");
  if (!seen.size) return;
  if (fresh) {
    const order = [...seen].sort((a, b) => b[1] - a[1]).map(([index]) => index);
    list.replaceChildren(...order.map(classRow));
  }
  for (const row of list.children) {
    const index = Number(row.dataset.index);
    const count = counts.get(index) || 0;
    const text = row.querySelector(".count");
    if (text.textContent !== String(count)) text.textContent = count;
    row.classList.toggle("zero", !count);
    row.firstElementChild.setAttribute("aria-pressed", String(!state.hidden.has(index)));
  }
}

function classRow(index) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  const [color, name, count] = ["i", "span", "span"].map((kind) => document.createElement(kind));
  row.dataset.index = index;
  button.type = "button";
  button.title = "Show or hide this class";
  button.style.setProperty("--color", state.classes[index].color);
  name.textContent = state.classes[index].name;
  count.className = "count";
  button.append(color, name, count);
  button.addEventListener("click", () => toggle(index));
  row.append(button);
  return row;
}

// ---------------------------------------------------------------- now and then

function showOften() {
  showClasses();
  showEvents(tiles, editor);
}

function showSlow() {
  drawChart($("chart"), inView());
  if ($("numbers-card").open) showNumbers();
}

function showNumbers() {
  const tables = tiles.filter((tile) => tile.status.network).map((tile) => {
    const table = document.createElement("table");
    const { capture, network, post, total, dropped, reconnects, viewers } = tile.status;
    const milliseconds = ([p50, p95]) => `${p50.toFixed(1)} / ${p95.toFixed(1)} ms`;
    const rows = [
      ["Capture, p50 / p95", milliseconds(capture)],
      ["Network", milliseconds(network)],
      ["Boxes", milliseconds(post)],
      ["Camera to page", milliseconds(total)],
      ["Frames passed over", dropped],
      ["Opened again", reconnects],
      ["Browsers watching", viewers],
    ];
    if (tiles.length > 1) table.createCaption().textContent = tile.name;
    for (const [name, value] of rows) {
      const row = table.insertRow();
      row.append(Object.assign(document.createElement("th"), { textContent: name }));
      row.insertCell().textContent = value;
    }
    return table;
  });
  $("numbers").replaceChildren(...tables);
}

$("numbers-card").addEventListener("toggle", showNumbers);

// ---------------------------------------------------------------- this device's camera

$("camera").addEventListener("click", async () => {
  if (camera) return stopCamera();
  const tile = addTile("This device", "device");
  tile.element.querySelector("[data-do=close]").hidden = false;
  tile.onclose = stopCamera;
  $("camera").classList.add("on");
  camera = { tile };
  try {
    camera.feed = await Camera.open(tile);
  } catch (error) {
    notice(error.message, 8);
    stopCamera();
  }
});

function stopCamera() {
  if (!camera) return;
  const { tile, feed } = camera;
  camera = null;
  feed?.close();
  $("camera").classList.remove("on");
  closeTile(tile);
}

begin().catch((error) => notice(`The server does not answer: ${error.message}`, 60));
window.mobilessd = { tiles, state, chosen, editor }; // for tests, and for people who like to look
