/* What is unlike the rest: stretches of a record, and records among others. */

/** Tokens on either side that are taken together with one: alone, it says little of where it stands. */
const REACH = 8;
const WIDTH = 2 * REACH + 1;
/** In a record of fewer tokens, a stretch is too large a part of "the rest". */
const FEWEST = 4 * WIDTH;
/** Times the usual, from which a stretch is worth a word. */
const LEAST = 1.1;

/**
 * How far the mean of the tokens around each token lies from the mean of all, in multiples of what is
 * usual (the median) in this record.
 *
 * @param {import('./record-data.js').RecordData} data
 * @returns {Float32Array | null} a value a token; null for a record that is too short
 */
export function unlikeness(data) {
  const { count, hidden, places, mean } = data;
  if (count < FEWEST) return null;
  const sum = new Float64Array(hidden);
  const distances = new Float32Array(count - WIDTH + 1);
  for (let token = 0; token < count; token += 1) {
    const [own, gone] = [token, token - WIDTH].map((at) => (at < 0 ? null : data.vector(places[at])));
    let square = 0;
    for (let k = 0; k < hidden; k += 1) {
      sum[k] += own[k] - (gone ? gone[k] : mean[k]);
      square += sum[k] ** 2;
    }
    if (token >= WIDTH - 1) distances[token - WIDTH + 1] = Math.sqrt(square);
  }
  const times = inUsual(distances);
  // At the ends, what is taken together lies to one side.
  const around = (token) => Math.min(times.length - 1, Math.max(0, token - REACH));
  return Float32Array.from({ length: count }, (_, token) => times[around(token)]);
}

/**
 * The stretches around the highest values, the highest first: as far as these are nearer to the peak
 * than to what is usual.
 *
 * @param {Float32Array} values from `unlikeness`
 * @returns {{first: number, end: number, peak: number}[]} tokens [first, end)
 */
export function peaks(values, count) {
  const order = Array.from(values.keys()).sort((left, right) => values[right] - values[left]);
  const taken = new Uint8Array(values.length);
  const found = [];
  for (const top of order) {
    if (found.length === count || values[top] < LEAST) break;
    if (taken[top]) continue;
    const level = (1 + values[top]) / 2;
    let [first, end] = [top, top + 1];
    while (first > 0 && values[first - 1] > level) first -= 1;
    while (end < values.length && values[end] > level) end += 1;
    taken.fill(1, Math.max(0, first - WIDTH), end + WIDTH);
    found.push({ first, end, peak: values[top] });
  }
  return found;
}

/** Whether a stretch touches the first or last tokens of a window, which are a little apart anyway. */
export const atSeam = ({ firstTokens }, first, end) =>
  firstTokens.some((seam) => first < seam + REACH && end > seam - REACH);

/** With fewer records, none is usual. */
const FEWEST_RECORDS = 10;

/**
 * How far each record's vector lies from the mean of all, in multiples of what is usual (the median).
 *
 * @param {Float32Array} values rows x columns
 * @returns {Float32Array | null} a value a record; null where there are too few
 */
export function unlikeRecords(values, rows, columns) {
  if (rows < FEWEST_RECORDS) return null;
  const mean = new Float64Array(columns);
  for (let at = 0; at < rows * columns; at += 1) mean[at % columns] += values[at] / rows;
  return inUsual(Float32Array.from({ length: rows }, (_, row) => {
    let square = 0;
    for (let k = 0; k < columns; k += 1) square += (values[row * columns + k] - mean[k]) ** 2;
    return Math.sqrt(square);
  }));
}

function inUsual(distances) {
  const sorted = distances.slice().sort();
  const usual = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 || 1;
  return distances.map((distance) => distance / usual);
}
