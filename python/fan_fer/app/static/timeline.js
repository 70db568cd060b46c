// The film strip between the frames' weights and their readings, on one axis of time; a slider for pointer and keyboard.
import { scaled, style } from "./drawing.js";

const SLOT = 64; // pixels of a face, about
const TOP = 14;
const BOTTOM = 2;

export class Timeline {
  // picked(index): called when the user goes to a frame.
  constructor(root, { weights, strip, readings, playhead }, picked) {
    Object.assign(this, { root, weights, strip, readings, playhead, picked, index: 0, prediction: null });
    const draw = () => this.prediction && this.draw();
    new ResizeObserver(draw).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    const follow = (event) => picked(this.at(event.clientX));
    root.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      root.setPointerCapture(event.pointerId);
      follow(event);
    });
    root.addEventListener("pointermove", (event) => root.hasPointerCapture(event.pointerId) && follow(event));
    root.addEventListener("keydown", (event) => this.key(event));
  }

  load(prediction, colors, face) {
    Object.assign(this, { prediction, colors, face, slots: 0 });
    const { frames } = prediction;
    const sum = frames.reduce((total, frame) => total + (frame.alpha ?? 0), 0) || 1;
    this.final = frames.map((frame) => frame.weight);
    this.alpha = frames.some((frame) => frame.beta !== null)
      ? frames.map((frame) => (frame.alpha === null ? null : frame.alpha / sum))
      : null;
    this.root.setAttribute("aria-valuemax", frames.length - 1);
    this.draw();
  }

  select(index) {
    this.index = index;
    const frame = this.prediction.frames[index];
    const reading =
      frame.weight === null
        ? "no face"
        : `${frame.emotion} ${(100 * frame.probabilities[frame.emotion]).toFixed(0)} %, weight ${(100 * frame.weight).toFixed(2)} %`;
    this.root.setAttribute("aria-valuenow", index);
    this.root.setAttribute("aria-valuetext", `frame ${index}, ${frame.time.toFixed(2)} seconds, ${reading}`);
    this.drawPlayhead();
  }

  key(event) {
    const last = this.prediction.frames.length - 1;
    const page = Math.max(1, Math.round(last / 10));
    const to = {
      ArrowLeft: this.index - 1,
      ArrowDown: this.index - 1,
      ArrowRight: this.index + 1,
      ArrowUp: this.index + 1,
      PageDown: this.index - page,
      PageUp: this.index + page,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.picked(Math.max(0, Math.min(last, to)));
  }

  at(clientX) {
    const { left, width } = this.root.getBoundingClientRect();
    const count = this.prediction.frames.length;
    return Math.max(0, Math.min(count - 1, Math.floor(((clientX - left) / width) * count)));
  }

  draw() {
    this.drawStrip();
    this.drawWeights();
    this.drawReadings();
    this.drawPlayhead();
  }

  // As many faces as there is room for, each the heaviest of its part of the clip.
  drawStrip() {
    const count = this.prediction.frames.length;
    const slots = Math.max(1, Math.min(count, 24, Math.round(this.root.clientWidth / SLOT)));
    if (slots === this.slots) return;
    this.slots = slots;
    const parts = Array.from({ length: slots }, (_, part) => {
      const from = Math.floor((part * count) / slots);
      const to = Math.floor(((part + 1) * count) / slots);
      return this.prediction.frames.slice(from, to).reduce((a, b) => ((b.weight ?? -1) > (a.weight ?? -1) ? b : a));
    });
    this.strip.replaceChildren(
      ...parts.map((frame) => {
        const slot = document.createElement("div");
        if (frame.weight === null) slot.textContent = "no face";
        else {
          const image = new Image();
          image.src = this.face(frame.index);
          image.alt = "";
          image.draggable = false;
          slot.append(image);
        }
        return slot;
      }),
    );
  }

  drawWeights() {
    const { context, width, height } = scaled(this.weights);
    const count = this.final.length;
    const most = this.final.concat(this.alpha ?? []).reduce((a, b) => Math.max(a, b ?? 0), 1e-30);
    const x = (index) => (index / count) * width;
    const y = (value) => height - BOTTOM - (value / most) * (height - TOP - BOTTOM);
    context.fillStyle = style("--gap");
    this.final.forEach((value, index) => value === null && context.fillRect(x(index), 0, width / count + 0.5, height));

    context.font = "11px system-ui, sans-serif";
    context.fillStyle = style("--orange");
    const gap = width / count > 6 ? 1 : 0;
    this.final.forEach((value, index) => {
      if (value !== null) context.fillRect(x(index), y(value), Math.max(width / count - gap, 0.5) + (gap ? 0 : 0.3), y(0) - y(value));
    });
    if (this.alpha) {
      context.strokeStyle = style("--blue");
      context.lineWidth = 2;
      context.beginPath();
      let drawn = false;
      this.alpha.forEach((value, index) => {
        if (value === null) drawn = false;
        else {
          if (!drawn) context.moveTo(x(index), y(value));
          else context.lineTo(x(index), y(value));
          context.lineTo(x(index + 1), y(value));
          drawn = true;
        }
      });
      context.stroke();
    }
    if (this.prediction.frames_with_face > 1) {
      const level = y(1 / this.prediction.frames_with_face);
      context.strokeStyle = style("--quiet");
      context.lineWidth = 1;
      context.setLineDash([5, 4]);
      context.beginPath();
      context.moveTo(0, level);
      context.lineTo(width, level);
      context.stroke();
      context.setLineDash([]);
    }
    context.fillStyle = style("--quiet");
    context.textBaseline = "top";
    context.fillText(`${(100 * most).toPrecision(2)} % of the clip`, 2, 0);
  }

  // The probabilities of every frame on its own, piled up to 1.
  drawReadings() {
    const { context, width, height } = scaled(this.readings);
    const { frames, probabilities } = this.prediction;
    const count = frames.length;
    const tall = height - 16;
    frames.forEach((frame, index) => {
      const left = (index / count) * width;
      const wide = width / count + 0.3;
      if (!frame.probabilities) {
        context.fillStyle = style("--gap");
        context.fillRect(left, 0, wide, tall);
        return;
      }
      let lower = tall;
      for (const name of Object.keys(probabilities)) {
        const part = frame.probabilities[name] * tall;
        context.fillStyle = this.colors[name];
        context.fillRect(left, lower - part, wide, part + 0.3);
        lower -= part;
      }
    });
    context.fillStyle = style("--quiet");
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "bottom";
    const ticks = Math.max(2, Math.min(count, Math.round(width / 110)));
    for (let tick = 0; tick < ticks; tick++) {
      const index = Math.round((tick / (ticks - 1)) * (count - 1));
      context.textAlign = tick === 0 ? "left" : tick === ticks - 1 ? "right" : "center";
      const place = tick === 0 ? 0 : tick === ticks - 1 ? width : ((index + 0.5) / count) * width;
      context.fillText(`${frames[index].time.toFixed(frames[count - 1].time < 10 ? 2 : 1)} s`, place, height);
    }
  }

  drawPlayhead() {
    const { context, width, height } = scaled(this.playhead);
    const count = this.prediction.frames.length;
    const place = ((this.index + 0.5) / count) * width;
    context.fillStyle = style("--ink");
    context.fillRect(Math.round(place) - 1, 0, 2, height - 16);
    context.beginPath();
    context.moveTo(place - 6, 0);
    context.lineTo(place + 6, 0);
    context.lineTo(place, 8);
    context.fill();
  }
}
