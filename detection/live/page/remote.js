// A camera of the server, over a WebSocket: packets of frame and boxes, and twice a second how the source is.

import { ask } from "./ask.js";
import { notice } from "./state.js";

const SILENT = 4000; // milliseconds without a word after which the server counts as gone
const HIDDEN_PAUSE = 1000; // a page that nobody looks at takes a frame a second

export class Remote {
  constructor(tile) {
    this.tile = tile;
    this.pause = 500;
    tile.onmotion = () => this.motion(!tile.status.motion);
    this.connect();
    setInterval(() => this.look(), 1000);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws/view/${encodeURIComponent(this.tile.key)}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = performance.now();
    socket.onmessage = (event) => {
      this.heard = performance.now();
      this.pause = 500;
      if (typeof event.data === "string") this.tile.setStatus(JSON.parse(event.data));
      else this.take(socket, event.data);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      const message = event.code === 4401 ? "It asks for its token: load this page anew" : event.reason;
      this.tile.setStatus({ ...this.tile.status, state: "gone", message, stale: true, fps: 0 });
      setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(this.pause * 1.7, 5000);
    };
  }

  /** Whether the network looks only where something moves. */
  async motion(on) {
    try {
      const path = `/api/motion/${encodeURIComponent(this.tile.key)}`;
      this.tile.setStatus({ ...this.tile.status, ...(await ask("PUT", path, { on })) });
    } catch (error) {
      notice(error.message);
    }
  }

  look() {
    if (this.socket && performance.now() - this.heard > SILENT) this.socket.close();
  }

  async take(socket, data) {
    const length = new DataView(data).getUint32(0, true);
    const packet = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const blob = new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" });
    try {
      const image = await createImageBitmap(blob);
      this.tile.show(packet, image, blob);
    } catch {
      // a frame that does not decode is no reason to stop
    }
    const next = () => socket.readyState === WebSocket.OPEN && socket.send("next");
    document.hidden ? setTimeout(next, HIDDEN_PAUSE) : next();
  }
}
