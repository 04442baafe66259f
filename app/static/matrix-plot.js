/* A matrix as a picture: the mosaic, the heat map and the similarities are all this.
 *
 * The canvas is a slider for keyboards and screen readers: its value is the cell under the cursor,
 * and its value text says what the cell holds.
 */

import { cssColour, keepDrawn } from './canvas.js';
import { colourTable } from './colours.js';
import { hideTip, showTip } from './tip.js';

const GRID_FROM = 9; // CSS pixels of a cell from which the cells are drawn apart

export class MatrixPlot {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{kind: 'diverging' | 'sequential', describe: (row: number, column: number,
   *   value: number) => string, onPick?: (row: number, column: number) => void,
   *   readout?: HTMLElement, hint?: string}} options
   */
  constructor(canvas, { kind, describe, onPick = () => {}, readout = null, hint = '' }) {
    this.canvas = canvas;
    this.kind = kind;
    this.describe = describe;
    this.onPick = onPick;
    this.readout = readout;
    this.hint = hint;
    this.rows = this.columns = 0;
    this.cursor = 0;
    this.hovered = null;
    this.markedRow = this.markedColumn = null;
    this.image = document.createElement('canvas');
    this.imageColours = null;
    this.redraw = keepDrawn(canvas, (...place) => this.draw(...place));

    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'slider');
    canvas.setAttribute('aria-valuemin', '1');
    canvas.addEventListener('pointermove', (event) => this.hover(event));
    canvas.addEventListener('pointerleave', () => this.leave());
    canvas.addEventListener('click', (event) => this.click(event));
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('focus', () => this.say());
    canvas.addEventListener('blur', () => this.say());
  }

  /** `values`: rows x columns, NaN where there is no cell; coloured from `low` to `high`. */
  show(values, rows, columns, [low, high]) {
    if (rows !== this.rows || columns !== this.columns) this.cursor = 0;
    Object.assign(this, { values, rows, columns, low, high, imageColours: null });
    this.hovered = null;
    this.canvas.setAttribute('aria-valuemax', String(rows * columns));
    this.say();
    this.redraw();
  }

  /** Frame a row and a column, to tie this plot to what is chosen elsewhere. */
  mark(row, column = null) {
    this.markedRow = row;
    this.markedColumn = column;
    this.redraw();
  }

  /** Move the cursor without the keyboard. */
  moveTo(row, column) {
    this.cursor = row * this.columns + column;
    this.say();
    this.redraw();
  }

  /** The cells alone, without what is chosen or pointed at. */
  drawCells(context, width, height) {
    this.paint();
    const [cellWidth, cellHeight] = [width / this.columns, height / this.rows];
    context.imageSmoothingEnabled = Math.min(cellWidth, cellHeight) < 1;
    context.imageSmoothingQuality = 'high';
    if (cellWidth < 1 && cellHeight > 1) {
      // Columns are averaged where they share a pixel; rows must not run into each other.
      for (let row = 0; row < this.rows; row += 1) {
        context.drawImage(this.image, 0, row, this.columns, 1, 0, row * cellHeight, width, cellHeight);
      }
    } else context.drawImage(this.image, 0, 0, width, height);
    if (Math.min(cellWidth, cellHeight) >= GRID_FROM) this.drawGrid(context, width, height);
  }

  draw(context, width, height) {
    if (!this.rows) return;
    this.drawCells(context, width, height);
    const [cellWidth, cellHeight] = [width / this.columns, height / this.rows];
    const ink = cssColour('--ink');
    const frame = (x, y, w, h) => {
      context.strokeStyle = cssColour('--panel');
      context.lineWidth = 3;
      context.strokeRect(x, y, w, h);
      context.strokeStyle = ink;
      context.lineWidth = 1.5;
      context.strokeRect(x, y, w, h);
    };
    const least = 3;
    if (this.markedRow !== null) {
      const tall = Math.max(cellHeight, least);
      frame(-2, (this.markedRow + 0.5) * cellHeight - tall / 2, width + 4, tall);
    }
    if (this.markedColumn !== null) {
      const wide = Math.max(cellWidth, least);
      frame((this.markedColumn + 0.5) * cellWidth - wide / 2, -2, wide, height + 4);
    }
    const cell = this.active();
    if (cell === null) return;
    const [row, column] = this.place(cell);
    const [wide, tall] = [Math.max(cellWidth, 5), Math.max(cellHeight, 5)];
    frame(
      (column + 0.5) * cellWidth - wide / 2,
      (row + 0.5) * cellHeight - tall / 2,
      wide,
      tall,
    );
  }

  /* The cells, one pixel each, redone when the values or the colours have changed. */
  paint() {
    const table = colourTable(this.kind);
    if (this.imageColours === table) return;
    this.imageColours = table;
    this.image.width = this.columns;
    this.image.height = this.rows;
    const context = this.image.getContext('2d');
    const image = context.createImageData(this.columns, this.rows);
    const pixels = new Uint32Array(image.data.buffer);
    const scale = (table.length - 1) / (this.high - this.low || 1);
    for (let k = 0; k < pixels.length; k += 1) {
      const value = this.values[k];
      if (Number.isNaN(value)) continue;
      const level = Math.round((value - this.low) * scale);
      pixels[k] = table[Math.min(table.length - 1, Math.max(0, level))];
    }
    context.putImageData(image, 0, 0);
  }

  drawGrid(context, width, height) {
    context.fillStyle = cssColour('--panel');
    for (let column = 1; column < this.columns; column += 1) {
      context.fillRect((column * width) / this.columns - 0.5, 0, 1, height);
    }
    for (let row = 1; row < this.rows; row += 1) {
      context.fillRect(0, (row * height) / this.rows - 0.5, width, 1);
    }
  }

  place(cell) {
    return [Math.floor(cell / this.columns), cell % this.columns];
  }

  text(cell) {
    const [row, column] = this.place(cell);
    return this.describe(row, column, this.values[cell]);
  }

  /* The cell to speak of: under the pointer, else under the keyboard's cursor. */
  active() {
    if (this.hovered !== null) return this.hovered;
    return document.activeElement === this.canvas ? this.cursor : null;
  }

  say() {
    if (!this.rows) return;
    this.canvas.setAttribute('aria-valuenow', String(this.cursor + 1));
    this.canvas.setAttribute('aria-valuetext', this.text(this.cursor));
    if (this.readout) {
      const cell = this.active();
      this.readout.textContent = cell === null ? this.hint : this.text(cell);
    }
    this.redraw();
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.rows);
    if (row < 0 || column < 0 || row >= this.rows || column >= this.columns) return null;
    const cell = row * this.columns + column;
    return Number.isNaN(this.values[cell]) ? null : cell;
  }

  hover(event) {
    if (!this.rows) return;
    this.hovered = this.cellAt(event);
    if (this.hovered === null) hideTip();
    else showTip(this.text(this.hovered), event);
    this.say();
  }

  leave() {
    this.hovered = null;
    hideTip();
    this.say();
  }

  click(event) {
    const cell = this.rows ? this.cellAt(event) : null;
    if (cell === null) return;
    this.cursor = cell;
    this.say();
    this.onPick(...this.place(cell));
  }

  key(event) {
    if (!this.rows || event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = this.place(this.cursor);
    const [lastRow, lastColumn] = [this.rows - 1, this.columns - 1];
    const page = Math.max(1, Math.round(this.rows / 10));
    const moves = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      PageUp: [row - page, column],
      PageDown: [row + page, column],
      Home: [row, 0],
      End: [row, lastColumn],
    };
    if (event.key === 'Enter' || event.key === ' ') this.onPick(row, column);
    else if (!moves[event.key]) return;
    else {
      const [toRow, toColumn] = moves[event.key];
      const target = Math.min(lastRow, Math.max(0, toRow)) * this.columns
        + Math.min(lastColumn, Math.max(0, toColumn));
      if (!Number.isNaN(this.values[target])) this.cursor = target;
      this.hovered = null;
      hideTip();
      this.say();
    }
    event.preventDefault();
  }
}

/** The shape, near 3 : 4, in which `count` features lie best: 768 is 24 x 32. */
export function mosaicShape(count) {
  const ideal = 4 / 3;
  const misfit = (rows, columns) => Math.abs(Math.log(columns / rows / ideal));
  let best = null;
  for (let rows = 1; rows <= count; rows += 1) {
    if (count % rows) continue;
    const shape = [rows, count / rows];
    if (!best || misfit(...shape) < misfit(...best)) best = shape;
  }
  if (misfit(...best) < Math.log(2)) return best;
  const columns = Math.ceil(Math.sqrt(count * ideal));
  return [Math.ceil(count / columns), columns];
}
