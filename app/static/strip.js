/* A strip along the bases of one record: ruler, tokens, and tracks of values under one another.
 *
 * Wheel with Ctrl (or a pinch) zooms, a sideways wheel and dragging move, a click chooses a token. For
 * keyboards and screen readers the canvas is a slider whose value is the chosen token. */

import { cssColour, keepDrawn } from './canvas.js';
import { followKeys, followPointers, placeOn, zoomKeys } from './gestures.js';
import { drawRuler, drawTokens } from './tracks.js';
import { hideTip, showTip } from './tip.js';

const OVERVIEW = 12;
const RULER = 24;
const TOKENS = 22;
const LABEL = 19;
const GAP = 7;
const CLOSEST = 30; // bases that stay in view

/** @typedef {object} Track
 * @property {number} height
 * @property {() => string} label
 * @property {(context, box: {top, height, width}, view: {from, to}) => void} draw
 */

export class Strip {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{describe: (token: number) => string, onChoose: (token: number) => void,
   *   onExtend: (token: number) => void,
   *   onView: (view: {from: number, to: number}) => void}} options
   */
  constructor(canvas, { describe, onChoose, onExtend, onView }) {
    Object.assign(this, { canvas, describe, onChoose, onExtend, onView });
    this.data = null;
    this.tracks = [];
    this.view = { from: 0, to: 1 };
    this.chosen = 0;
    this.region = [0, 1];
    this.hovered = null;
    this.redraw = keepDrawn(canvas, (context, width, height) => this.draw(context, width, height));
    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'slider');
    canvas.setAttribute('aria-valuemin', '1');
    followPointers(canvas, {
      onZoom: (factor, place) => this.zoom(factor, this.at(place).base),
      onPan: (x) => this.pan((-x * this.span) / canvas.clientWidth),
      onClick: (event) => this.click(event),
      onHover: (event) => this.hover(event),
      onLeave: () => this.leave(),
      ownDrag: (event) => this.press(event),
    });
    followKeys(canvas, (event) => this.keys(event));
  }

  /** @param {import('./record-data.js').RecordData} data @param {Track[]} tracks */
  show(data, tracks) {
    Object.assign(this, { data, chosen: 0, region: [0, 1], hovered: null });
    this.lay(tracks);
    this.canvas.setAttribute('aria-valuemax', String(data.count));
    this.look(0, data.bases);
    this.say();
  }

  /** These tracks from now on. */
  lay(tracks) {
    this.tracks = tracks;
    this.canvas.style.height = `${this.heightOf(tracks)}px`;
    this.redraw();
  }

  heightOf(tracks) {
    return tracks.reduce((sum, { height }) => sum + LABEL + height + GAP, OVERVIEW + RULER + TOKENS + 4);
  }

  get span() {
    return this.view.to - this.view.from;
  }

  /** Bring [from, to) into view, within the record and no closer than a few bases. */
  look(from, to) {
    const { bases } = this.data;
    const span = Math.min(bases, Math.max(Math.min(CLOSEST, bases), to - from));
    const first = Math.min(bases - span, Math.max(0, (from + to - span) / 2));
    this.view = { from: first, to: first + span };
    hideTip(); // of a token that is elsewhere now
    this.redraw();
    this.onView(this.view);
  }

  /** Zoom by a factor (above 1: closer) around a base; in the middle where none is given. */
  zoom(factor, base = this.view.from + this.span / 2) {
    const share = (base - this.view.from) / this.span;
    const { bases } = this.data;
    const span = Math.min(bases, Math.max(Math.min(CLOSEST, bases), this.span / factor));
    this.look(base - share * span, base + (1 - share) * span);
  }

  pan(bases) {
    this.look(this.view.from + bases, this.view.to + bases);
  }

  choose(token) {
    this.chosen = token;
    this.say();
    this.redraw();
  }

  /** Frame the tokens [first, end) that are asked about. */
  mark(region) {
    this.region = region;
    this.redraw();
  }

  /** Move the view so that a token is in it. */
  reveal(token) {
    if (token < 0) return;
    const [start, end] = [this.data.starts[token], this.data.ends[token]];
    if (start >= this.view.from && end <= this.view.to) return;
    const middle = (start + end) / 2;
    this.look(middle - this.span / 2, middle + this.span / 2);
  }

  draw(context, width, height, { plain = false } = {}) {
    if (!this.data) return;
    let top = 0;
    if (!plain) {
      this.drawOverview(context, width);
      top = OVERVIEW + 4;
    }
    drawRuler(context, { top, height: RULER - 4, width }, this.view, this.data.bases);
    top += RULER;
    drawTokens(context, { top, height: TOKENS - 4, width }, this.data, this.view);
    top += TOKENS;
    for (const track of this.tracks) {
      context.font = `12.5px ${cssColour('--sans')}`;
      context.textAlign = 'left';
      context.fillStyle = cssColour('--soft');
      context.fillText(track.label(), 1, top + LABEL - 6, width);
      track.draw(context, { top: top + LABEL, height: track.height, width }, this.view);
      top += LABEL + track.height + GAP;
    }
    this.drawSeams(context, width, height);
    this.frame(context, this.region, width, height, 0.16, plain ? 0 : OVERVIEW + 4);
    if (!plain && this.hovered !== null) {
      this.frame(context, [this.hovered, this.hovered + 1], width, height, 0.07, OVERVIEW + 4);
    }
  }

  /* The place of tokens through all tracks. */
  frame(context, [first, end], width, height, strength, top) {
    if (first < 0) return;
    const scale = width / this.span;
    const left = (this.data.starts[first] - this.view.from) * scale;
    const wide = Math.max(2, (this.data.ends[end - 1] - this.data.starts[first]) * scale);
    if (left + wide < 0 || left > width) return;
    context.globalAlpha = strength;
    context.fillStyle = cssColour('--ink');
    context.fillRect(left, top, wide, height - top);
    context.globalAlpha = 1;
    context.strokeStyle = cssColour('--ink');
    context.lineWidth = strength > 0.1 ? 1.5 : 0.5;
    context.strokeRect(left, top + RULER - 2, wide, TOKENS);
  }

  /* Where one window ends and the model begins to read anew. */
  drawSeams(context, width, height) {
    const scale = width / this.span;
    context.strokeStyle = cssColour('--strong-line');
    context.lineWidth = 1;
    context.setLineDash([3, 4]);
    context.beginPath();
    for (const token of this.data.firstTokens.slice(1, -1)) {
      const x = Math.round((this.data.starts[token] - this.view.from) * scale) + 0.5;
      context.moveTo(x, OVERVIEW);
      context.lineTo(x, height);
    }
    context.stroke();
    context.setLineDash([]);
  }

  /* The whole record, and which part of it is in view. */
  drawOverview(context, width) {
    const scale = width / this.data.bases;
    context.fillStyle = cssColour('--line');
    context.fillRect(0, 3, width, 5);
    context.fillStyle = cssColour('--accent');
    context.fillRect(this.view.from * scale, 1, Math.max(4, this.span * scale), 9);
    if (this.chosen < 0) return;
    context.fillStyle = cssColour('--ink');
    context.fillRect(this.data.starts[this.chosen] * scale - 1, 0, 2, 11);
  }

  at([x, y]) {
    const share = x / this.canvas.clientWidth;
    return {
      base: this.view.from + share * this.span,
      overall: share * this.data.bases,
      overview: y < OVERVIEW,
    };
  }

  tokenUnder(event) {
    const { base, overview } = this.at(placeOn(this.canvas, event));
    if (overview) return null;
    const token = this.data.tokenAt(base);
    return token < this.data.count && this.data.starts[token] <= base ? token : null;
  }

  /* On the overview, a press moves the view there. */
  press(event) {
    const { overview } = this.at(placeOn(this.canvas, event));
    if (!overview) return null;
    const move = (to) => {
      const { overall } = this.at(placeOn(this.canvas, to));
      this.look(overall - this.span / 2, overall + this.span / 2);
    };
    move(event);
    return { move, end: () => {} };
  }

  click(event) {
    const token = this.tokenUnder(event);
    if (token === null) return;
    if (event.shiftKey) this.onExtend(token);
    else this.onChoose(token);
  }

  hover(event) {
    this.hovered = this.tokenUnder(event);
    if (this.hovered === null) hideTip();
    else showTip(this.describe(this.hovered), event);
    this.redraw();
  }

  leave() {
    this.hovered = null;
    hideTip();
    this.redraw();
  }

  keys({ shiftKey }) {
    const step = (by) => () => {
      const token = Math.min(this.data.count - 1, Math.max(0, this.chosen + by));
      this.onChoose(token);
      this.reveal(token);
    };
    const quarter = this.span / 4;
    const middle = this.chosen < 0 ? undefined : this.data.starts[this.chosen];
    const inView = middle >= this.view.from && middle <= this.view.to ? middle : undefined;
    return {
      ArrowLeft: shiftKey ? () => this.pan(-quarter) : step(-1),
      ArrowRight: shiftKey ? () => this.pan(quarter) : step(1),
      PageUp: () => this.pan(-this.span),
      PageDown: () => this.pan(this.span),
      Home: step(-this.data.count),
      End: step(this.data.count),
      ...zoomKeys((factor) => this.zoom(factor, inView), () => this.look(0, this.data.bases)),
    };
  }

  say() {
    this.canvas.setAttribute('aria-valuenow', String(Math.max(0, this.chosen) + 1));
    this.canvas.setAttribute('aria-valuetext', this.chosen < 0 ? 'no base' : this.describe(this.chosen));
  }
}
