// The visitor's own camera: frames go to the server as JPEG, boxes come back, and both are shown together.

const IN_FLIGHT = 2; // frames on their way, so that encoding, network and detection overlap
const SIDE = 640; // pixels of the longer side of what is sent; the detector sees less than that anyway

export class Camera {
  /** Asks for the camera. Throws an Error with a line for the person. */
  static async open(tile) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give cameras to https pages and to this machine's own pages only");
    }
    const wish = { video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } }, audio: false };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia(wish);
    } catch (error) {
      const why = { NotAllowedError: "it was not allowed", NotFoundError: "there is none", NotReadableError: "another program has it" };
      throw new Error(`The camera cannot be opened: ${why[error.name] || error.message}`);
    }
    return new Camera(tile, stream);
  }

  constructor(tile, stream) {
    this.tile = tile;
    this.stream = stream;
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
    this.canvas = document.createElement("canvas");
    this.flying = []; // {image, blob, sent} of frames whose boxes have not come yet, in order
    this.times = [];
    this.last = -1;
    this.number = 0;
    this.closed = false;
    stream.getVideoTracks()[0].onended = () => this.tile.setStatus({ state: "lost", message: "The camera has gone", stale: true });
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/ws/camera`);
    this.socket.onopen = () => this.start();
    this.socket.onmessage = (event) => this.answer(JSON.parse(event.data));
    this.socket.onclose = (event) => {
      if (!this.closed) this.tile.setStatus({ state: "gone", message: event.reason, stale: true });
    };
  }

  async start() {
    await this.video.play();
    this.loop();
  }

  loop() {
    if (this.closed || this.socket.readyState !== WebSocket.OPEN) return;
    const time = this.video.currentTime;
    if (this.flying.length < IN_FLIGHT && time !== this.last && this.video.videoWidth && !this.busy) {
      this.last = time;
      this.busy = true;
      this.send().finally(() => (this.busy = false));
    }
    document.hidden ? setTimeout(() => this.loop(), 500) : requestAnimationFrame(() => this.loop());
  }

  async send() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, SIDE / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.getContext("2d", { alpha: false }).drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const image = await createImageBitmap(this.video);
    const blob = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", 0.8));
    if (this.closed || this.socket.readyState !== WebSocket.OPEN) return image.close();
    this.flying.push({ image, sent: performance.now() });
    this.socket.send(blob);
  }

  answer(answer) {
    const { image, sent } = this.flying.shift();
    const now = performance.now();
    this.times = [...this.times.filter((time) => now - time < 3000), now];
    if (answer.error) {
      image.close();
      return this.tile.setStatus({ state: "live", message: answer.error });
    }
    const delay = now - sent;
    this.tile.show({ n: this.number++, t: now / 1000, size: answer.size, d: answer.d }, image);
    const fps = this.times.length > 1 ? ((this.times.length - 1) * 1000) / (now - this.times[0]) : 0;
    this.tile.setStatus({ state: "live", fps, total: [delay, delay] });
  }

  close() {
    this.closed = true;
    this.socket.close();
    for (const track of this.stream.getTracks()) track.stop();
    for (const { image } of this.flying) image.close();
    this.flying = [];
  }
}
