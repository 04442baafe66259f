/* Colour scales, for light and dark. */

const STOPS = {
  light: {
    diverging: ['#0b3c7d', '#3f7fc1', '#a9cbe8', '#f6f5f2', '#f3b995', '#d4643a', '#85200f'],
    sequential: ['#f6f5f2', '#b9dad3', '#5fa9a3', '#1d6f75', '#0a3a45'],
    // For dots on the ground: no end of it is the ground's own colour.
    ordered: ['#e0a100', '#c2501f', '#8d2f6b', '#3d2a86'],
  },
  dark: {
    diverging: ['#b8dcff', '#5aa5ea', '#27598f', '#1c1f23', '#8c4527', '#ea8351', '#ffd6b8'],
    sequential: ['#1c1f23', '#1c4a4f', '#2b8083', '#6bbdb2', '#dff5e8'],
    ordered: ['#7b74e8', '#c46bb5', '#f29a6b', '#ffe08a'],
  },
};

const RECORDS = {
  light: ['#1a6fb5', '#c2501f', '#2a7f4f', '#8a4bb0', '#9c6a00', '#b8336a', '#3c6e71', '#6b5b4b'],
  dark: ['#6fb4f0', '#f29a6b', '#6fcf97', '#c79bea', '#e3b341', '#f27fa9', '#7fc4c6', '#c9b8a4'],
};

const LEVELS = 256;
// Paper is light, whatever the screen is.
const darkQuery = window.matchMedia('screen and (prefers-color-scheme: dark)');

export const theme = () => (darkQuery.matches ? 'dark' : 'light');

const printQuery = window.matchMedia('print');

/** Call `listener` when the colours of the page change, and where it goes to paper or comes back. */
export function onThemeChange(listener) {
  for (const query of [darkQuery, printQuery]) query.addEventListener('change', listener);
}

const parse = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

/** A scale as 256 packed RGBA pixels, for a little-endian Uint32Array view of an image. */
function ramp(stops) {
  const colours = stops.map(parse);
  const table = new Uint32Array(LEVELS);
  for (let level = 0; level < LEVELS; level += 1) {
    const place = (level / (LEVELS - 1)) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    const mix = colours[below].map((channel, k) =>
      Math.round(channel + (colours[below + 1][k] - channel) * (place - below)));
    table[level] = (255 << 24) | (mix[2] << 16) | (mix[1] << 8) | mix[0];
  }
  return table;
}

const ramps = new Map();

/** @param {'diverging' | 'sequential' | 'ordered'} kind */
export function colourTable(kind) {
  const key = `${theme()} ${kind}`;
  if (!ramps.has(key)) ramps.set(key, ramp(STOPS[theme()][kind]));
  return ramps.get(key);
}

/** The colour of record number `index`: eight chosen ones, then the colour wheel. */
export function recordColour(index) {
  const palette = RECORDS[theme()];
  if (index < palette.length) return palette[index];
  return `hsl(${(index * 137.5) % 360} 55% ${theme() === 'dark' ? 68 : 40}%)`;
}

/** Of what has no value. */
export const missingColour = () => (theme() === 'dark' ? '#5b6169' : '#b9b6ae');
