/* A plot as a picture to show elsewhere: with its title, its key, and what it was made from. */

import { cssColour } from './canvas.js';
import { save } from './downloads.js';
import { drawBand } from './legend.js';

const WIDTH = 1400;
const MARGIN = 40;
const INNER = WIDTH - 2 * MARGIN;
const TITLE = 34;
const LINE = 26;
const BAND = 18;
const SWATCH = 16;
const APART = 28; // between two classes of a key

/** @typedef {{kind: string, labels: string[]}} Scale a band of colours, and what its ends stand for */
/** @typedef {{items: {colour: string, text: string}[]}} Classes colours that each stand for something */

/**
 * @param {{draw: (context, width: number, height: number) => void, aspect: number, title: string,
 *   note: string, name: string, legend?: Scale | Classes}} picture `name`: of the file
 */
export function savePng({ draw, aspect, title, note, name, legend }) {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  const sans = cssColour('--sans');
  context.font = `18px ${sans}`;
  const key = legend?.items ? lines(context, legend.items) : legend;
  const plotHeight = Math.round(INNER / aspect);
  const top = MARGIN + TITLE + 16;
  const below = top + plotHeight + 24;
  canvas.width = WIDTH;
  canvas.height = below + keyHeight(key) + LINE + MARGIN / 2;
  context.fillStyle = cssColour('--panel');
  context.fillRect(0, 0, WIDTH, canvas.height);
  context.fillStyle = cssColour('--ink');
  context.font = `600 26px ${sans}`;
  context.fillText(title, MARGIN, MARGIN + 24, INNER);
  context.save();
  context.beginPath();
  context.rect(MARGIN, top, INNER, plotHeight);
  context.clip();
  context.translate(MARGIN, top);
  draw(context, INNER, plotHeight);
  context.restore();
  context.font = `18px ${sans}`;
  context.fillStyle = cssColour('--soft');
  if (Array.isArray(key)) drawClasses(context, key, below);
  else if (key) drawScale(context, key, below);
  context.textAlign = 'left';
  context.fillText(note, MARGIN, canvas.height - MARGIN / 2 - 4, INNER);
  canvas.toBlob((blob) => save([blob], name, 'image/png'), 'image/png');
}

function keyHeight(key) {
  if (!key) return 0;
  return Array.isArray(key) ? key.length * LINE + LINE / 2 : BAND + 2 * LINE;
}

function drawScale(context, { kind, labels }, top) {
  drawBand(context, kind, MARGIN, top, INNER, BAND);
  labels.forEach((label, index) => {
    context.textAlign = ['left', 'center', 'right'][index];
    context.fillText(label, MARGIN + (INNER * index) / 2, top + BAND + LINE);
  });
}

/* The classes in lines that fit. */
function lines(context, items) {
  const found = [[]];
  let left = 0;
  for (const { colour, text } of items) {
    const width = SWATCH + 8 + context.measureText(text).width + APART;
    if (left > 0 && left + width > INNER) {
      found.push([]);
      left = 0;
    }
    found.at(-1).push({ colour, text, left });
    left += width;
  }
  return found;
}

function drawClasses(context, key, top) {
  const ink = context.fillStyle;
  key.forEach((line, row) => {
    for (const { colour, text, left } of line) {
      const [x, y] = [MARGIN + left, top + row * LINE];
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x + SWATCH / 2, y + SWATCH / 2, SWATCH / 2, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = ink;
      context.fillText(text, x + SWATCH + 8, y + SWATCH - 2, INNER - left - SWATCH - 8);
    }
  });
}
