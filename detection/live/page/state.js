// What the person has chosen, and the classes. Everything that draws or counts looks here, so a change needs no request.

export const state = {
  classes: [], // {name, id, color, ink}
  score: 0.3,
  lowest: 0,
  labels: true,
  scores: true,
  boxes: true,
  hidden: new Set(), // class indices that are filtered out
};

/** The rows [class, score, x1, y1, x2, y2, track] that pass the threshold and the filter. */
export function chosen(rows) {
  return rows.filter((row) => row[1] >= state.score && !state.hidden.has(row[0]));
}

export function setClasses(classes) {
  state.classes = classes.map((one) => ({ ...one, ink: inkOn(one.color) }));
}

function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 110 ? "#000" : "#fff";
}

/** Seconds by a clock that nobody can set, unlike that of Date. */
export const seconds = () => performance.now() / 1000;

let timer = 0;

/** A line for the person, gone after some seconds. action: {text, act} of a button beside it. */
export function notice(text, seconds = 5, action = null) {
  const element = document.getElementById("notice");
  element.replaceChildren(Object.assign(document.createElement("span"), { textContent: text }));
  if (action) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: action.text });
    button.addEventListener("click", () => ((element.hidden = true), action.act()));
    element.append(button);
  }
  element.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => (element.hidden = true), seconds * 1000);
}
