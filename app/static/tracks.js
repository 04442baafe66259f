/* Tracks of the strip: values along the bases, drawn for the part that is in view.
 *
 * Each `draw*` gets a context, a box {top, height, width} in CSS pixels, and what of the record is in
 * view: {from, to} in bases. */

import { cssColour } from './canvas.js';
import { GC_BASES } from './record-data.js';

/**
 * Values of tokens, gathered in the pixels that they cover.
 *
 * @param {Float32Array} values one a token, or `channels` a token
 * @returns {{mean: Float32Array, low: Float32Array, high: Float32Array}} width x channels, NaN where
 *   no token is
 */
export function toPixels(values, data, { from, to }, width, channels = 1) {
  const size = Math.max(1, Math.round(width));
  const mean = new Float32Array(size * channels);
  const low = new Float32Array(size * channels).fill(Infinity);
  const high = new Float32Array(size * channels).fill(-Infinity);
  const counts = new Uint32Array(size);
  const scale = size / (to - from);
  const [first, end] = data.tokensIn(from, to);
  for (let token = first; token < end; token += 1) {
    const left = Math.max(0, Math.floor((data.starts[token] - from) * scale));
    const right = Math.min(size, Math.max(left + 1, Math.floor((data.ends[token] - from) * scale)));
    for (let x = left; x < right; x += 1) {
      counts[x] += 1;
      for (let c = 0; c < channels; c += 1) {
        const value = values[token * channels + c];
        const at = x * channels + c;
        mean[at] += value;
        if (value < low[at]) low[at] = value;
        if (value > high[at]) high[at] = value;
      }
    }
  }
  for (let at = 0; at < mean.length; at += 1) {
    const count = counts[Math.floor(at / channels)];
    mean[at] = count ? mean[at] / count : NaN;
  }
  return { mean, low, high };
}

/** Bars from `base` to the mean in each pixel, and paler to its highest token. */
export function drawBars(context, box, pixels, [bottom, top], base) {
  const scale = box.height / (top - bottom || 1);
  const y = (value) => box.top + box.height - (value - bottom) * scale;
  const floor = y(base);
  const bar = (x, wide, value) => {
    const end = y(Math.min(top, Math.max(bottom, value)));
    // Half a pixel over its neighbour: where pixels are no whole ones of the screen, no seams show.
    context.fillRect(x, Math.min(end, floor), wide + 0.5, Math.max(1, Math.abs(end - floor)));
  };
  const { mean, high } = pixels;
  context.fillStyle = cssColour('--pale');
  high.forEach((value, x) => {
    if ((value - mean[x]) * scale >= 0.5) bar(x, 1, value); // less is not seen
  });
  context.fillStyle = cssColour('--accent');
  for (let x = 0, end = 1; x < mean.length; x = end, end += 1) {
    while (mean[end] === mean[x]) end += 1; // one token, one bar
    if (!Number.isNaN(mean[x])) bar(x, end - x, mean[x]);
  }
  context.fillStyle = cssColour('--line');
  context.fillRect(0, Math.round(floor), box.width, 1);
}

/** Three components as red, green and blue; each from 0 to 1. */
export function mixed(pixels) {
  const size = pixels.mean.length / 3;
  const colours = new Uint32Array(size);
  for (let x = 0; x < size; x += 1) {
    if (Number.isNaN(pixels.mean[3 * x])) continue;
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(30 + 205 * pixels.mean[3 * x + c]));
    colours[x] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }
  return colours;
}

const row = typeof document === 'undefined' ? null : document.createElement('canvas');

/** A band of packed colours, one a pixel. */
export function drawBand(context, box, colours) {
  row.width = colours.length;
  row.height = 1;
  const image = new ImageData(colours.length, 1);
  new Uint32Array(image.data.buffer).set(colours);
  row.getContext('2d').putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(row, 0, box.top, box.width, box.height);
}

/** GC content as a line, over at least 50 bases, and the half as a rule. */
export function drawGc(context, box, data, { from, to }) {
  const step = (to - from) / box.width;
  const reach = Math.max(GC_BASES, step) / 2;
  context.fillStyle = cssColour('--line');
  context.fillRect(0, Math.round(box.top + box.height / 2), box.width, 1);
  context.strokeStyle = cssColour('--note');
  context.lineWidth = 1.5;
  context.beginPath();
  let pen = false;
  for (let x = 0; x <= box.width; x += 1) {
    const base = from + x * step;
    const share = data.gcContent(base - reach, base + reach);
    const y = box.top + box.height * (1 - share);
    if (!Number.isNaN(y)) context[pen ? 'lineTo' : 'moveTo'](x, y);
    pen = !Number.isNaN(y);
  }
  context.stroke();
}

const LETTERS_FROM = 8; // CSS pixels of a base from which its letter is written
const BLOCKS_FROM = 3; // and of a token, from which it is drawn apart from its neighbours

/** The tokens as blocks, with their letters where these have room; unknown ones stand out. */
export function drawTokens(context, box, data, { from, to }) {
  const scale = box.width / (to - from);
  const [first, end] = data.tokensIn(from, to);
  const apart = (box.width / Math.max(1, end - first)) >= BLOCKS_FROM;
  const colours = ['--token-a', '--token-b', '--note'].map(cssColour);
  if (!apart) {
    context.fillStyle = colours[0];
    const left = Math.max(0, -from * scale);
    context.fillRect(left, box.top, Math.min(box.width, (data.bases - from) * scale) - left, box.height);
  }
  for (let token = first; token < end; token += 1) {
    const unknown = data.kind(data.places[token]) === 'unknown';
    if (!apart && !unknown) continue;
    context.fillStyle = unknown ? colours[2] : colours[token % 2];
    const x = (data.starts[token] - from) * scale;
    context.fillRect(x, box.top, Math.max(1, (data.ends[token] - data.starts[token]) * scale), box.height);
  }
  if (scale >= LETTERS_FROM) drawLetters(context, box, data, from, to, scale);
}

function drawLetters(context, box, data, from, to, scale) {
  context.font = `600 ${Math.min(14, Math.floor(scale * 1.3))}px ${cssColour('--mono')}`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  for (const letter of new Set(data.record.sequence.slice(Math.max(0, from), to))) {
    context.fillStyle = cssColour(`--base-${'ACGT'.includes(letter) ? letter.toLowerCase() : 'n'}`);
    for (let base = Math.max(0, Math.floor(from)); base < Math.min(data.bases, to); base += 1) {
      if (data.record.sequence[base] !== letter) continue;
      context.fillText(letter, (base + 0.5 - from) * scale, box.top + box.height / 2 + 1);
    }
  }
  context.textAlign = 'left';
  context.textBaseline = 'alphabetic';
}

/** Steps of 1, 2 or 5 times a power of ten, so that labels lie some 90 pixels apart. */
export function tickStep(bases, width) {
  const rough = Math.max(1, (bases * 90) / width);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

/** Positions of bases, counted from 1. */
export function drawRuler(context, box, { from, to }, bases) {
  const scale = box.width / (to - from);
  const step = tickStep(to - from, box.width);
  context.font = `12px ${cssColour('--sans')}`;
  context.textAlign = 'center';
  const [ink, line] = [cssColour('--soft'), cssColour('--strong-line')];
  for (let at = Math.ceil((from + 1) / step) * step || 1; at <= Math.min(to, bases); at += step) {
    const x = (Math.max(1, at) - 0.5 - from) * scale;
    context.fillStyle = line;
    context.fillRect(Math.round(x), box.top + box.height - 5, 1, 5);
    context.fillStyle = ink;
    const label = Math.max(1, at).toLocaleString('en');
    const half = context.measureText(label).width / 2;
    if (x > half && x < box.width - half) context.fillText(label, x, box.top + box.height - 8);
  }
  context.fillStyle = line;
  context.fillRect(0, box.top + box.height - 1, box.width, 1);
  context.textAlign = 'left';
}
