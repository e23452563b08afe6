// A change that the server is asked for: JSON there, JSON back.

/** The server's answer. Throws an Error with its line for the person. */
export async function ask(method, path, body) {
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
