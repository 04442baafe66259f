/* The key to a colour scale: the band of colours, and the numbers under it. */

import { keepDrawn } from './canvas.js';
import { colourTable } from './colours.js';

/** Draw the colours of `kind` from left to right into a rectangle. */
export function drawBand(context, kind, x, y, width, height) {
  const table = colourTable(kind);
  const strip = document.createElement('canvas');
  strip.width = table.length;
  strip.height = 1;
  const image = new ImageData(table.length, 1);
  new Uint32Array(image.data.buffer).set(table);
  strip.getContext('2d').putImageData(image, 0, 0);
  context.drawImage(strip, x, y, width, height);
}

/** Keeps a `<div class="legend">` with a canvas and three numbers. */
export class Legend {
  constructor(element, kind) {
    this.kind = kind;
    const canvas = document.createElement('canvas');
    canvas.setAttribute('aria-hidden', 'true');
    this.numbers = document.createElement('p');
    element.replaceChildren(canvas, this.numbers);
    this.redraw = keepDrawn(canvas, (context, width, height) =>
      drawBand(context, kind, 0, 0, width, height));
  }

  /** @param {string[]} labels low end, middle, high end */
  show(labels) {
    this.labels = labels;
    this.numbers.replaceChildren(...labels.map((label) => {
      const span = document.createElement('span');
      span.textContent = label;
      return span;
    }));
    this.redraw();
  }
}
