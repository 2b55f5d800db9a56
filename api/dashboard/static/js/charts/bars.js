// Usage over time, stacked by group: the columns of the table beside it, in the same colours.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { axes, Chart } from "./frame.js";

/** As many colours as the theme has; the groups beyond share the last. */
export const COLOURS = 6;

/** `show({times: [ms], step_ms, groups: [{values}], summary, read})`, the groups from the bottom up; `read` as of Chart. */
export class BarsChart extends Chart {
  #shape = null;

  constructor() {
    super({ height: 240, options: (colour) => this.#options(colour), read: (index) => this.#shape.read(index) });
  }

  show(shape) {
    this.#shape = shape;
    const sums = new Array(shape.times.length).fill(0);
    const stacked = shape.groups.map(({ values }) => values.map((value, at) => (sums[at] += value)));
    super.show([shape.times.map((ms) => ms / 1000), ...stacked.reverse()], shape.summary, { anew: true });
  }

  #options(colour) {
    const { times, step_ms, groups } = this.#shape;
    const paths = uPlot.paths.bars({ size: [0.78, 28], align: 1 });
    const bars = groups.map((_, index) => {
      const fill = colour(`series-${Math.min(index, COLOURS - 1) + 1}`);
      return { paths, fill, stroke: fill, width: 0, points: { show: false } };
    });
    const range = [times[0] / 1000, (times.at(-1) + step_ms) / 1000];
    return {
      padding: [12, 12, 0, 0],
      scales: { x: { range }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
      axes: axes(colour),
      series: [{}, ...bars.reverse()],
    };
  }
}
