// The pulse wave on a canvas, in the colours of the style sheet, sharp on any screen.
const FOOT_PX = 18; // room for the seconds below the wave
const HIGHEST = 2.6; // standard deviations; the wave has one, and beats reach about two

export class Wave {
  constructor(canvas) {
    this.canvas = canvas;
    this.wave = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.draw();
  }

  show(wave, words) {
    this.wave = wave;
    this.canvas.setAttribute("aria-label", words);
    this.draw();
  }

  draw() {
    const { canvas, wave } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight - FOOT_PX;
    if (!width || height <= 0) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round((height + FOOT_PX) * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
    const seconds = wave ? Math.max(1, wave.values.length / wave.fps) : 8;
    pen.fillStyle = colour("--muted");
    pen.font = `12px ${getComputedStyle(canvas).fontFamily}`;
    pen.textAlign = "center";
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 1;
    pen.beginPath();
    for (let t = Math.ceil(wave?.start_s ?? 0); t <= (wave?.start_s ?? 0) + seconds; t++) {
      const x = Math.round(((t - (wave?.start_s ?? 0)) / seconds) * width) + 0.5;
      pen.moveTo(x, 0);
      pen.lineTo(x, height);
      // One number every two seconds, none that the border would cut.
      if (wave && t % 2 === 0 && x > 16 && x < width - 16) pen.fillText(`${t} s`, x, height + 14);
    }
    pen.moveTo(0, height / 2);
    pen.lineTo(width, height / 2);
    pen.stroke();
    if (!wave) return;
    pen.strokeStyle = colour("--pulse");
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    let drawing = false;
    wave.values.forEach((value, k) => {
      if (value === null) {
        drawing = false;
        return;
      }
      const x = (k / Math.max(1, wave.values.length - 1)) * width;
      const y = (0.5 - Math.max(-1, Math.min(1, value / HIGHEST)) * 0.47) * height;
      if (drawing) pen.lineTo(x, y);
      else pen.moveTo(x, y);
      drawing = true;
    });
    pen.stroke();
  }
}
