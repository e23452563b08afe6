// Downloads the frame that is shown, as it came from the camera, and its boxes as a COCO data set of one image.

import { notice, state } from "./state.js";

export async function saveSnapshot(tile) {
  if (!tile.image) return notice("There is no image yet");
  const blob = tile.blob || (await asJpeg(tile.image));
  const now = new Date();
  const name = `${tile.key || "camera"}-${stamp(now)}`;
  const json = coco(tile, `${name}.jpg`, now);
  download(blob, `${name}.jpg`);
  download(new Blob([JSON.stringify(json, null, 1)], { type: "application/json" }), `${name}.json`);
  notice(`Saved ${name}.jpg and .json`);
}

/** A COCO data set: the image, its boxes [x, y, width, height] in its own pixels, and all classes. */
export function coco(tile, file, now) {
  const { width, height } = tile.image;
  const [sx, sy] = [width / tile.packet.size[1], height / tile.packet.size[0]];
  const annotations = tile.shown.map((row, i) => {
    const [index, score, x1, y1, x2, y2, track] = row;
    const bbox = [x1 * sx, y1 * sy, (x2 - x1) * sx, (y2 - y1) * sy].map((value) => Math.round(value * 100) / 100);
    const more = track >= 0 ? { track_id: track } : {};
    const area = Math.round(bbox[2] * bbox[3] * 100) / 100;
    return { id: i + 1, image_id: 1, category_id: state.classes[index].id, bbox, area, iscrowd: 0, score, ...more };
  });
  return {
    info: { description: `${tile.name}, seen by ${state.detector}`, date_created: now.toISOString(), threshold: state.score },
    images: [{ id: 1, file_name: file, width, height, date_captured: now.toISOString() }],
    annotations,
    categories: state.classes.map(({ id, name }) => ({ id, name })),
  };
}

function asJpeg(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
}

function stamp(date) {
  const two = (value) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
