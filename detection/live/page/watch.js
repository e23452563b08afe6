// The server's lines and zones: asked for changes one after the other, so that none overtakes another.

import { ask } from "./ask.js";

let queue = Promise.resolve();

/** Makes a change when those before it are done; gives the server's answer. Throws an Error with its line for the person. */
export function inTurn(change) {
  const answer = queue.then(change);
  queue = answer.catch(() => {});
  return answer;
}

export const add = (kind, source, points) => ask("POST", "/api/watch", { kind, source, points });
export const change = (id, version, wish) => ask("PUT", `/api/watch/${id}`, { version, ...wish });
export const remove = (id, version) => ask("DELETE", `/api/watch/${id}?version=${version}`);
export const restore = (id) => ask("POST", `/api/watch/${id}/restore`);
export const listed = () => ask("GET", "/api/watch");

/** Puts text into the clipboard, also on pages that are not served by https. */
export async function copy(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error(text);
  }
}
