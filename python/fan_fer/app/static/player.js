// The video, with the face's box and the emotion of the running frame drawn over it.
import { frameAt, style, scaled } from "./drawing.js";

export class Player {
  // moved(index): called when the video shows another frame while it plays.
  constructor(video, canvas, base, { width, height }, moved) {
    Object.assign(this, { video, canvas, base, width, height, moved, shown: true, index: 0, wanted: null });
    this.ended = new AbortController();
    const listen = (name, handler) => video.addEventListener(name, handler, { signal: this.ended.signal });
    listen("error", () => this.fallBack());
    listen("loadedmetadata", () => {
      // A recording without a length cannot be sought in.
      if (!Number.isFinite(video.duration) || !video.videoWidth) this.fallBack();
      else if (this.wanted !== null) this.seek(this.wanted);
    });
    listen("timeupdate", () => this.step(video.currentTime));
    if (video.requestVideoFrameCallback) this.watch();
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(canvas);
    video.src = `${base}/video`;
  }

  get paused() {
    return this.video.paused;
  }

  load(prediction) {
    this.prediction = prediction;
    this.times = prediction.frames.map((frame) => frame.time);
    this.draw();
  }

  close() {
    this.ended.abort();
    this.resized.disconnect();
    this.video.removeAttribute("src");
    this.video.load();
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  setShown(shown) {
    this.shown = shown;
    this.draw();
  }

  seek(index) {
    this.video.pause();
    this.index = this.wanted = index;
    const { times } = this;
    const step = index + 1 < times.length ? times[index + 1] - times[index] : 1 / this.prediction.fps;
    // Into the frame, not onto its border: browsers round times.
    if (this.video.readyState >= 1) this.video.currentTime = times[index] + step / 2;
    this.draw();
  }

  fallBack() {
    const copy = `${this.base}/playable`;
    if (!this.video.src.endsWith(copy)) this.video.src = copy;
    else this.video.dispatchEvent(new Event("unplayable"));
  }

  watch() {
    this.video.requestVideoFrameCallback((_, { mediaTime }) => {
      if (this.ended.signal.aborted) return;
      if (!this.video.paused) this.step(mediaTime + 1e-3);
      this.watch();
    });
  }

  step(time) {
    if (this.video.paused || this.ended.signal.aborted) return; // a seek has set the frame already
    const index = frameAt(this.times, time);
    this.wanted = null;
    if (index === this.index) return;
    this.index = index;
    this.draw();
    this.moved(index);
  }

  draw() {
    const { context, width, height } = scaled(this.canvas);
    const frame = this.prediction?.frames[this.index];
    if (!this.shown || !frame?.box) return;
    // The picture is as large as fits and in the middle.
    const scale = Math.min(width / this.width, height / this.height);
    const left = (width - scale * this.width) / 2;
    const top = (height - scale * this.height) / 2;
    const [x, y, w, h] = frame.box.map((value) => value * scale);
    context.lineWidth = 3;
    context.strokeStyle = style("--orange");
    context.beginPath();
    context.roundRect(left + x, top + y, w, h, 8);
    context.stroke();
    const text = `${frame.emotion} ${(100 * frame.probabilities[frame.emotion]).toFixed(0)} %`;
    context.font = "600 15px system-ui, sans-serif";
    const wide = context.measureText(text).width + 18;
    const chipX = Math.max(4, Math.min(width - wide - 4, left + x - 1));
    const chipY = Math.max(4, top + y - 32);
    context.fillStyle = "rgba(20, 23, 26, 0.88)";
    context.beginPath();
    context.roundRect(chipX, chipY, wide, 27, 6);
    context.fill();
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, chipX + 9, chipY + 14);
  }
}
