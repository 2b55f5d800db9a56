// The month so far and where it is going: credits used, the projection, and the band that holds 80 % of outcomes.

import { axes, Chart } from "./frame.js";
import { count, day, dayTime, short } from "../format.js";

/** A limit farther away than this many times the rest of the chart would press the rest flat: it is left out. */
const LIMIT_SHOWN_MAX = 2.2;

/** `show({start, end, now, total, actual: [[ms, credits]], projection: {low, middle, high} | null, summary})`. */
export class BurnChart extends Chart {
  #shape = null;

  constructor() {
    super({ height: 300, options: (colour) => this.#options(colour), read: (index) => this.#read(index) });
  }

  show(shape) {
    this.#shape = shape;
    const { actual, projection, end, now } = shape;
    const times = actual.map(([at]) => at / 1000);
    const used = actual.map(([, credits]) => credits);
    const last = used.at(-1) ?? 0;
    const none = times.map(() => null);
    const columns = [times, used, [...none], [...none], [...none]];
    if (projection && now < end) {
      for (const column of columns.slice(2)) column[column.length - 1] = last;
      [end / 1000, null, projection.middle, projection.low, projection.high].forEach((value, index) => {
        columns[index].push(value);
      });
    }
    super.show(columns, shape.summary, { anew: true });
  }

  #read(index) {
    const { actual, projection, end } = this.#shape;
    const unread = "Credits used this month, with the projection and the band that holds 80 % of outcomes";
    if (index === null) return projection ? unread : "Credits used this month";
    if (index >= actual.length) {
      const { middle, low, high } = projection;
      return `${day(end)}: about ${count(middle)} credits, 80 % between ${count(low)} and ${count(high)}`;
    }
    return `${dayTime(actual[index][0])} UTC: ${count(actual[index][1])} credits used`;
  }

  #options(colour) {
    const { start, end, total, projection, actual } = this.#shape;
    const top = Math.max(1, actual.at(-1)?.[1] ?? 0, projection?.high ?? 0) * 1.12;
    const hasLimit = total !== null && total <= top * LIMIT_SHOWN_MAX;
    const none = { points: { show: false } };
    return {
      padding: [12, 24, 0, 0],
      scales: { x: { range: [start / 1000, end / 1000] }, y: { range: [0, hasLimit ? Math.max(top, total * 1.1) : top] } },
      axes: axes(colour),
      bands: [{ series: [4, 3], fill: colour("band") }],
      series: [
        {},
        { ...none, stroke: colour("series-1"), width: 2 },
        { ...none, stroke: colour("series-1"), width: 2, dash: [5, 4] },
        { ...none, stroke: colour("series-1"), width: 0.5 },
        { ...none, stroke: colour("series-1"), width: 0.5 },
      ],
      hooks: { draw: [(plot) => this.#marks(plot, colour, hasLimit)] },
    };
  }

  #marks(plot, colour, hasLimit) {
    const { ctx, bbox } = plot;
    const { total, now, end, projection } = this.#shape;
    const unit = devicePixelRatio;
    ctx.save();
    ctx.font = `${12 * unit}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.lineWidth = unit;
    if (hasLimit) {
      const y = Math.round(plot.valToPos(total, "y", true));
      line(ctx, colour("critical"), [bbox.left, y], [bbox.left + bbox.width, y], [6 * unit, 4 * unit]);
      ctx.fillStyle = colour("critical");
      ctx.textAlign = "left";
      ctx.textBaseline = "bottom";
      ctx.fillText(`Limit ${count(total)}`, bbox.left + 4 * unit, y - 3 * unit);
    }
    if (now < end) {
      const x = Math.round(plot.valToPos(now / 1000, "x", true));
      line(ctx, colour("line-strong"), [x, bbox.top], [x, bbox.top + bbox.height], [2 * unit, 3 * unit]);
      const right = x > bbox.left + bbox.width * 0.8;
      ctx.fillStyle = colour("text-soft");
      ctx.textAlign = right ? "right" : "left";
      ctx.textBaseline = "bottom";
      ctx.fillText("Now", x + (right ? -5 : 5) * unit, bbox.top + bbox.height - 4 * unit);
    }
    if (projection && now < end) {
      ctx.textAlign = "right";
      ctx.textBaseline = "bottom";
      ctx.fillStyle = colour("text");
      const place = [bbox.left + bbox.width - 4 * unit, plot.valToPos(projection.middle, "y", true) - 5 * unit];
      ctx.lineWidth = 4 * unit;
      ctx.lineJoin = "round";
      ctx.strokeStyle = colour("surface");
      ctx.strokeText(short(projection.middle), ...place);
      ctx.fillText(short(projection.middle), ...place);
    }
    ctx.restore();
  }
}

function line(ctx, colour, from, to, dash) {
  ctx.beginPath();
  ctx.strokeStyle = colour;
  ctx.setLineDash(dash);
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
  ctx.setLineDash([]);
}

/** The rows of the table that says the same as the chart. */
export function burnRows({ actual, projection, end, total }) {
  const rows = actual.map(([at, credits]) => [day(at), count(credits), ""]);
  if (projection) {
    rows.push([`${day(end)} (projected)`, count(projection.middle), `${count(projection.low)} to ${count(projection.high)}`]);
  }
  if (total !== null) rows.push(["Limit", count(total), ""]);
  return rows;
}
