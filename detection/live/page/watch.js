// The server's lines and zones: asked for changes one after the other, so that none overtakes another.

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

async function ask(method, path, body) {
  const options = { method };
  if (body) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer: nothing was changed");
  }
  const words = await answer.json().catch(() => ({}));
  if (answer.ok) return words;
  const error = words.error || `The server answers ${answer.status}`;
  throw new Error(error.charAt(0).toUpperCase() + error.slice(1));
}

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
