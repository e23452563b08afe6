// Lines and zones with their counts, and what has happened, newest first.

/** Shows what the tiles' last packets and statuses tell; the card stays away where nothing is watched for. */
export function showEvents(tiles) {
  const gates = tiles.flatMap((tile) => (tile.packet?.gates || []).map((gate) => ({ ...gate, tile })));
  const events = tiles.flatMap((tile) => (tile.status.events || []).map((event) => ({ ...event, tile })));
  document.getElementById("events-card").hidden = !gates.length && !events.length;
  const several = tiles.length > 1;
  document.getElementById("gates").replaceChildren(
    ...gates.map((gate) => item("li", ["span", several ? `${gate.tile.name}: ${gate.name}` : gate.name], ["b", gate.counts])),
  );
  const newest = events.sort((a, b) => b.at - a.at).slice(0, 20);
  document.getElementById("events").replaceChildren(
    ...newest.map((event) => item("li", ["time", new Date(event.at * 1000).toLocaleTimeString()], ["span", event.text])),
  );
}

function item(kind, ...parts) {
  const element = document.createElement(kind);
  for (const [tag, text] of parts) {
    element.append(Object.assign(document.createElement(tag), { textContent: text }));
  }
  return element;
}
