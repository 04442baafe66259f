/* The map of records: one dot each, placed by the first two principal components. */

import { cssColour, keepDrawn } from './canvas.js';
import { recordColour } from './colours.js';
import { hideTip, showTip } from './tip.js';

const MARGIN = { top: 18, right: 22, bottom: 30, left: 30 };
const NAMED_UP_TO = 24;
const REACH = 18;

export class ScatterPlot {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{describe: (index: number) => string, onPick: (index: number) => void}} options
   */
  constructor(canvas, { describe, onPick }) {
    this.canvas = canvas;
    this.describe = describe;
    this.onPick = onPick;
    this.count = 0;
    this.cursor = 0;
    this.hovered = null;
    this.chosen = null;
    this.redraw = keepDrawn(canvas, (...place) => this.draw(...place));

    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'slider');
    canvas.setAttribute('aria-valuemin', '1');
    canvas.addEventListener('pointermove', (event) => this.hover(event));
    canvas.addEventListener('pointerleave', () => this.leave());
    canvas.addEventListener('click', (event) => {
      const index = this.nearest(event);
      if (index !== null) this.pick(index);
    });
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('focus', () => this.redraw());
    canvas.addEventListener('blur', () => this.redraw());
  }

  /** `points`: count x 2; `names` stand beside the dots while there are few. */
  show(points, names, explained) {
    Object.assign(this, { points, names, explained, count: names.length });
    this.cursor = 0;
    this.hovered = null;
    this.canvas.setAttribute('aria-valuemax', String(this.count));
    this.say();
  }

  choose(index) {
    this.chosen = index;
    if (index !== null) this.cursor = index;
    this.say();
  }

  draw(context, width, height) {
    if (!this.count) return;
    const position = this.layout(width, height);
    context.font = `12px ${cssColour('--sans')}`;
    this.drawAxes(context, width, height);
    for (let index = 0; index < this.count; index += 1) {
      const [x, y] = position(index);
      context.beginPath();
      context.arc(x, y, this.count > 100 ? 4 : 6, 0, 2 * Math.PI);
      context.fillStyle = recordColour(index);
      context.fill();
      context.lineWidth = 1;
      context.strokeStyle = cssColour('--panel');
      context.stroke();
    }
    if (this.count <= NAMED_UP_TO) this.drawNames(context, width, position);
    const focused = document.activeElement === this.canvas ? this.cursor : null;
    for (const index of new Set([this.chosen, this.hovered ?? focused])) {
      if (index === null) continue;
      const [x, y] = position(index);
      context.beginPath();
      context.arc(x, y, 10, 0, 2 * Math.PI);
      context.lineWidth = 2;
      context.strokeStyle = cssColour('--ink');
      context.stroke();
    }
  }

  drawAxes(context, width, height) {
    context.strokeStyle = cssColour('--line');
    context.lineWidth = 1;
    context.strokeRect(
      MARGIN.left - 0.5,
      MARGIN.top - 0.5,
      width - MARGIN.left - MARGIN.right,
      height - MARGIN.top - MARGIN.bottom,
    );
    context.fillStyle = cssColour('--soft');
    context.textAlign = 'center';
    const share = (axis) => `PC ${axis + 1} (${Math.round(100 * this.explained[axis])} %)`;
    context.fillText(share(0), (MARGIN.left + width - MARGIN.right) / 2, height - 9);
    context.save();
    context.translate(16, (MARGIN.top + height - MARGIN.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(share(1), 0, 0);
    context.restore();
  }

  /* Each name goes where it covers no other name and no dot, else it is left out. */
  drawNames(context, width, position) {
    context.fillStyle = cssColour('--ink');
    context.textAlign = 'left';
    const taken = Array.from({ length: this.count }, (_, index) => {
      const [x, y] = position(index);
      return [x - 7, y - 7, 14, 14];
    });
    const free = ([x, y, w, h]) =>
      x >= MARGIN.left && x + w <= width - MARGIN.right
      && taken.every(([a, b, c, d]) => x + w < a || a + c < x || y + h < b || b + d < y);
    for (let index = 0; index < this.count; index += 1) {
      const name = shorten(this.names[index]);
      const wide = context.measureText(name).width;
      const [x, y] = position(index);
      const places = [
        [x + 11, y - 7, wide, 14],
        [x - 11 - wide, y - 7, wide, 14],
        [x - wide / 2, y - 24, wide, 14],
        [x - wide / 2, y + 10, wide, 14],
      ];
      const box = places.find(free);
      if (!box) continue;
      taken.push(box);
      context.fillText(name, box[0], box[1] + 11);
    }
  }

  layout(width, height) {
    const range = (axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (let index = 0; index < this.count; index += 1) {
        low = Math.min(low, this.points[index * 2 + axis]);
        high = Math.max(high, this.points[index * 2 + axis]);
      }
      const pad = 0.08 * (high - low) || 1;
      return [low - pad, high + pad];
    };
    const [[left, right], [bottom, top]] = [range(0), range(1)];
    const [wide, tall] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    return (index) => [
      MARGIN.left + ((this.points[index * 2] - left) / (right - left)) * wide,
      MARGIN.top + ((top - this.points[index * 2 + 1]) / (top - bottom)) * tall,
    ];
  }

  nearest(event) {
    if (!this.count) return null;
    const box = this.canvas.getBoundingClientRect();
    const position = this.layout(box.width, box.height);
    let [best, distance] = [null, REACH];
    for (let index = 0; index < this.count; index += 1) {
      const [x, y] = position(index);
      const away = Math.hypot(x - event.clientX + box.left, y - event.clientY + box.top);
      if (away < distance) [best, distance] = [index, away];
    }
    return best;
  }

  hover(event) {
    this.hovered = this.nearest(event);
    this.canvas.classList.toggle('pointing', this.hovered !== null);
    if (this.hovered === null) hideTip();
    else showTip(this.describe(this.hovered), event);
    this.redraw();
  }

  leave() {
    this.hovered = null;
    hideTip();
    this.redraw();
  }

  pick(index) {
    this.cursor = index;
    this.say();
    this.onPick(index);
  }

  key(event) {
    if (!this.count || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.count - 1;
    const moves = {
      ArrowLeft: this.cursor - 1,
      ArrowUp: this.cursor - 1,
      ArrowRight: this.cursor + 1,
      ArrowDown: this.cursor + 1,
      Home: 0,
      End: last,
    };
    if (event.key === 'Enter' || event.key === ' ') this.pick(this.cursor);
    else if (moves[event.key] === undefined) return;
    else this.cursor = Math.min(last, Math.max(0, moves[event.key]));
    this.say();
    event.preventDefault();
  }

  say() {
    if (!this.count) return;
    this.canvas.setAttribute('aria-valuenow', String(this.cursor + 1));
    this.canvas.setAttribute('aria-valuetext', this.describe(this.cursor));
    this.redraw();
  }
}

function shorten(name) {
  return name.length > 22 ? `${name.slice(0, 21)}…` : name;
}
