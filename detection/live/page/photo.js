// Photos that are dropped on the page, pasted, or chosen: sent to POST /detect, and shown with their boxes.

import { notice, state } from "./state.js";

const LARGEST_SIDE = 2560; // pixels of what is kept for showing
const MOST = 12; // photos at once

/** open(name): gives a new tile for a photo. Prepares dropping and pasting, and the button that chooses files. */
export function preparePhotos(open) {
  const take = async (files) => {
    const list = [...files];
    if (list.length > MOST) notice(`${list.length} files: the first ${MOST} are taken`);
    for (const file of list.slice(0, MOST)) await detect(file, open);
  };
  const veil = document.getElementById("drop");
  let depth = 0;
  const over = (event, change) => {
    if (![...(event.dataTransfer?.types || [])].includes("Files")) return;
    event.preventDefault();
    depth = Math.max(depth + change, 0);
    veil.hidden = !depth;
  };
  document.addEventListener("dragenter", (event) => over(event, 1));
  document.addEventListener("dragleave", (event) => over(event, -1));
  document.addEventListener("dragover", (event) => over(event, 0));
  document.addEventListener("drop", (event) => {
    event.preventDefault(); // also what is no file: the browser would leave the page for it
    depth = 0;
    veil.hidden = true;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
    else notice("That is no file: save the image first, then drop its file");
  });
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files || [];
    if (files.length) event.preventDefault(), take(files);
    else if (!event.target.matches?.("input, textarea")) notice("There is no image in the clipboard");
  });
  const chooser = document.getElementById("photo-file");
  document.getElementById("photo").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    take(chooser.files);
    chooser.value = ""; // so that the same file can be chosen again
  });
}

async function detect(file, open) {
  const name = file.name || "Photo";
  try {
    const begin = performance.now();
    const answer = await fetch(`/detect?score=${state.lowest}`, { method: "POST", body: file });
    const found = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error((found.error || `the server answers ${answer.status}`).replace(/^the image: /, ""));
    const took = performance.now() - begin;
    const image = await bitmap(file);
    const d = found.detections.map(({ class_id: index, score, box }) => [index, score, ...box, -1]);
    const tile = open(name);
    tile.still = true;
    tile.show({ n: 0, t: 0, size: found.image_size, d }, image);
    tile.setStatus({ state: "live", words: `${found.image_size[1]} × ${found.image_size[0]} · ${Math.round(took)} ms` });
    tile.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  } catch (error) {
    const gone = error instanceof TypeError ? "the server does not answer" : error.message;
    notice(`${name}: ${gone}`, 8);
  }
}

/** The image, upright as the server sees it, and no larger than a screen shows. */
async function bitmap(file) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new Error("this browser cannot show it; save it as JPEG or PNG");
  }
  const scale = LARGEST_SIDE / Math.max(image.width, image.height);
  if (scale >= 1) return image;
  const [resizeWidth, resizeHeight] = [image.width, image.height].map((side) => Math.max(Math.round(side * scale), 1));
  const small = await createImageBitmap(image, { resizeWidth, resizeHeight, resizeQuality: "high" });
  image.close();
  return small;
}
