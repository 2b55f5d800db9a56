// What both charts share: a canvas that follows its box, the theme and the printer, and a text that stands for it.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { el, setText } from "../dom.js";
import { day, short, timeShort } from "../format.js";

const DAY_S = 86_400;

/**
 * A chart. `options(colour)` answers uPlot's options without a size; `colour(name)` is the value of a custom property in
 * the theme in force. `read(index)` says in words what is at a point, or (null) what the chart shows.
 */
export class Chart {
  #box = el("div", { class: "chart", role: "img" });
  #readout = el("p", { class: "readout", "aria-hidden": "true" });
  #node = el("div", {}, this.#readout, this.#box);
  #read;
  #height;
  #options;
  #data = null;
  #plot = null;
  #resized = new ResizeObserver(() => this.#fit());
  #rebuild = () => this.#build();

  constructor({ height, options, read }) {
    this.#height = height;
    this.#read = read;
    this.#options = options;
    this.#resized.observe(this.#box);
    addEventListener("themechange", this.#rebuild);
  }

  get node() {
    return this.#node;
  }

  /** Shows `data` (uPlot's columns), which `summary` says in a sentence. `anew`: series or axes are others. */
  show(data, summary, { anew = false } = {}) {
    this.#data = data;
    this.#box.setAttribute("aria-label", summary);
    setText(this.#readout, this.#read(null));
    if (anew || !this.#plot) this.#build();
    else this.#plot.setData(data);
  }

  close() {
    this.#resized.disconnect();
    removeEventListener("themechange", this.#rebuild);
    this.#plot?.destroy();
  }

  #build() {
    if (!this.#data || !this.#box.clientWidth) return;
    this.#plot?.destroy();
    const size = { width: this.#box.clientWidth, height: this.#height };
    const hooks = { setCursor: [({ cursor }) => setText(this.#readout, this.#read(cursor.idx ?? null))] };
    const options = this.#options(colourOf(this.#box));
    this.#plot = new uPlot(
      { ...size, ...common(), ...options, hooks: { ...hooks, ...options.hooks } },
      this.#data,
      this.#box,
    );
  }

  #fit() {
    if (!this.#plot) this.#build();
    else if (this.#plot.width !== this.#box.clientWidth) {
      this.#plot.setSize({ width: this.#box.clientWidth, height: this.#height });
    }
  }
}

function common() {
  const cursor = { y: false, drag: { x: false, y: false }, points: { show: false } };
  return { cursor, legend: { show: false }, tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC") };
}

/** Reads custom properties as colours: a probe resolves what depends on the theme. */
function colourOf(box) {
  return (name) => {
    const probe = el("span");
    probe.style.color = `var(--${name})`;
    box.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
}

/** The two axes: times in UTC, and amounts from zero. */
export function axes(colour) {
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const look = { stroke: colour("text-soft"), font, ticks: { show: false } };
  const grid = { stroke: colour("line"), width: 1 };
  return [
    { ...look, grid: { show: false }, space: 64, size: 28, values: (_, at, __, ___, step) => at.map((s) => when(s, step)) },
    { ...look, grid, space: 36, size: 48, gap: 8, values: (_, amounts) => amounts.map(short) },
  ];
}

function when(s, step) {
  return step >= DAY_S || s % DAY_S === 0 ? day(s * 1000) : timeShort(s * 1000);
}
