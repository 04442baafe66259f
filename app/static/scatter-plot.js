/* The map of records: one dot each. It zooms and moves, and a lasso takes dots together. */

import { cssColour, keepDrawn } from './canvas.js';
import { followKeys, followPointers, placeOn, zoomKeys } from './gestures.js';
import { hideTip, showTip } from './tip.js';

const MARGIN = { top: 18, right: 22, bottom: 30, left: 30 };
const NAMED_UP_TO = 24;
const REACH = 18;
const ROUND_UP_TO = 1500; // dots that are drawn round; of more, squares
const FADED = 0.16;

export class ScatterPlot {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{describe: (index: number) => string, onPick: (index: number) => void,
   *   onOpen: (index: number) => void, onSelect: (indices: Set<number>) => void}} options
   */
  constructor(canvas, { describe, onPick, onOpen, onSelect }) {
    Object.assign(this, { canvas, describe, onPick, onOpen, onSelect });
    this.count = 0;
    this.cursor = 0;
    this.hovered = null;
    this.chosen = null;
    this.selected = new Set();
    this.found = null;
    this.colours = [];
    this.lassoing = false;
    this.outline = [];
    this.redraw = keepDrawn(canvas, (...place) => this.draw(...place));
    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'slider');
    canvas.setAttribute('aria-valuemin', '1');
    followPointers(canvas, {
      onZoom: (factor, place) => this.zoom(factor, place),
      onPan: (x, y) => this.pan(x, y),
      onClick: (event) => this.click(event),
      onHover: (event) => this.hover(event),
      onLeave: () => this.leave(),
      ownDrag: (event) => (this.lassoing || event.shiftKey ? this.lasso(event) : null),
    });
    canvas.addEventListener('dblclick', (event) => {
      const index = this.nearest(event);
      if (index !== null) this.onOpen(index);
    });
    followKeys(canvas, () => this.keys());
    canvas.addEventListener('focus', () => this.redraw());
    canvas.addEventListener('blur', () => this.redraw());
  }

  /** `points`: count x 2; `names` stand beside the dots while there are few; `axes`: two labels. */
  show(points, names, axes) {
    Object.assign(this, { points, names, axes, count: names.length });
    this.cursor = Math.min(this.cursor, Math.max(0, this.count - 1));
    this.hovered = null;
    hideTip(); // of a dot that was elsewhere
    this.canvas.setAttribute('aria-valuemax', String(this.count));
    this.measure();
    this.whole();
    this.say();
  }

  /** A colour a record. */
  paint(colours) {
    this.colours = colours;
    this.groups = new Map();
    colours.forEach((colour, index) => {
      if (!this.groups.has(colour)) this.groups.set(colour, []);
      this.groups.get(colour).push(index);
    });
    this.redraw();
  }

  /** @param {Set<number>} selected @param {Set<number> | null} found what a search found */
  emphasise(selected, found) {
    Object.assign(this, { selected, found });
    this.redraw();
  }

  choose(index) {
    this.chosen = index;
    if (index !== null) this.cursor = index;
    this.say();
  }

  measure() {
    this.range = [0, 1].map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (let index = 0; index < this.count; index += 1) {
        low = Math.min(low, this.points[index * 2 + axis]);
        high = Math.max(high, this.points[index * 2 + axis]);
      }
      const pad = 0.08 * (high - low) || 1;
      return [low - pad, high + pad];
    });
  }

  /** All dots in view. */
  whole() {
    this.scale = 1;
    this.shift = [0, 0];
    this.redraw();
  }

  /** Zoom by a factor around a place of the canvas, in CSS pixels; its middle where none is given. */
  zoom(factor, place) {
    const [x, y] = place ?? [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const scale = Math.min(200, Math.max(1, this.scale * factor));
    const by = scale / this.scale;
    this.shift = [x - (x - this.shift[0]) * by, y - (y - this.shift[1]) * by];
    this.scale = scale;
    if (scale === 1) this.shift = [0, 0];
    hideTip(); // of a dot that is elsewhere now
    this.redraw();
  }

  pan(x, y) {
    if (this.scale > 1) this.shift = [this.shift[0] + x, this.shift[1] + y];
    hideTip();
    this.redraw();
  }

  draw(context, width, height) {
    if (!this.count) return;
    this.canvas.dataset.zoom = String(this.scale);
    const position = this.layout(width, height);
    context.font = `12px ${cssColour('--sans')}`;
    this.drawAxes(context, width, height);
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, MARGIN.top, width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom);
    context.clip();
    this.drawDots(context, position);
    if (this.count <= NAMED_UP_TO) this.drawNames(context, width, position);
    this.drawRings(context, position);
    this.drawLasso(context);
    context.restore();
  }

  drawDots(context, position) {
    const round = this.count <= ROUND_UP_TO;
    const size = this.count > 100 ? 4 : 6;
    const edge = cssColour('--panel');
    const faint = this.selected.size || this.found;
    const strong = (index) => (this.selected.size ? this.selected.has(index) : this.found.has(index));
    for (const [colour, indices] of this.groups) {
      context.fillStyle = colour;
      for (const index of indices) {
        const [x, y] = position(index);
        context.globalAlpha = !faint || strong(index) ? 1 : FADED;
        if (round) {
          context.beginPath();
          context.arc(x, y, size, 0, 2 * Math.PI);
          context.fill();
          context.lineWidth = 1;
          context.strokeStyle = edge;
          context.stroke();
        } else context.fillRect(x - 2, y - 2, 4, 4);
      }
    }
    context.globalAlpha = 1;
  }

  drawRings(context, position) {
    const focused = document.activeElement === this.canvas ? this.cursor : null;
    context.lineWidth = 2;
    context.strokeStyle = cssColour('--ink');
    for (const index of new Set([this.chosen, this.hovered ?? focused])) {
      if (index === null) continue;
      const [x, y] = position(index);
      context.beginPath();
      context.arc(x, y, 10, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  drawLasso(context) {
    if (this.outline.length < 2) return;
    context.beginPath();
    for (const [x, y] of this.outline) context.lineTo(x, y);
    context.closePath();
    context.globalAlpha = 0.12;
    context.fillStyle = cssColour('--accent');
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = cssColour('--accent');
    context.lineWidth = 1.5;
    context.stroke();
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
    context.fillText(this.axes[0], (MARGIN.left + width - MARGIN.right) / 2, height - 9);
    context.save();
    context.translate(16, (MARGIN.top + height - MARGIN.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(this.axes[1], 0, 0);
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
    const [[left, right], [bottom, top]] = this.range;
    const [wide, tall] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    const { points, scale, shift } = this;
    return (index) => [
      shift[0] + scale * (MARGIN.left + ((points[index * 2] - left) / (right - left)) * wide),
      shift[1] + scale * (MARGIN.top + ((top - points[index * 2 + 1]) / (top - bottom)) * tall),
    ];
  }

  nearest(event) {
    const [left, top] = placeOn(this.canvas, event);
    const position = this.layout(this.canvas.clientWidth, this.canvas.clientHeight);
    let [best, distance] = [null, REACH];
    for (let index = 0; index < this.count; index += 1) {
      const [x, y] = position(index);
      const away = Math.hypot(x - left, y - top);
      if (away < distance) [best, distance] = [index, away];
    }
    return best;
  }

  /* A press that draws around dots: those inside are selected. */
  lasso(event) {
    const outline = [placeOn(this.canvas, event)];
    const end = (done) => {
      this.outline = [];
      if (done) this.onSelect(this.within(outline));
      this.redraw();
    };
    const move = (to) => {
      outline.push(placeOn(this.canvas, to));
      this.outline = outline;
      hideTip();
      this.redraw();
    };
    return { move, end };
  }

  click(event) {
    const index = this.nearest(event);
    if (index !== null) this.pick(index);
  }

  /* Records whose dots lie inside an outline. */
  within(outline) {
    const position = this.layout(this.canvas.clientWidth, this.canvas.clientHeight);
    const inside = new Set();
    for (let index = 0; index < this.count; index += 1) {
      if (contains(outline, position(index))) inside.add(index);
    }
    return inside;
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

  keys() {
    const last = this.count - 1;
    const go = (index) => () => {
      this.cursor = Math.min(last, Math.max(0, index));
      this.say();
    };
    return {
      ArrowLeft: go(this.cursor - 1),
      ArrowUp: go(this.cursor - 1),
      ArrowRight: go(this.cursor + 1),
      ArrowDown: go(this.cursor + 1),
      Home: go(0),
      End: go(last),
      Enter: () => this.onOpen(this.cursor),
      ' ': () => this.pick(this.cursor),
      s: () => this.toggle(this.cursor),
      ...zoomKeys((factor) => this.zoom(factor), () => this.whole()),
    };
  }

  toggle(index) {
    const selected = new Set(this.selected);
    if (!selected.delete(index)) selected.add(index);
    this.onSelect(selected);
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

/** Whether a point lies inside a polygon: how often a ray from it crosses the edge. */
export function contains(polygon, [x, y]) {
  let inside = false;
  polygon.forEach(([ax, ay], index) => {
    const [bx, by] = polygon[(index + 1) % polygon.length];
    if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}
