/* What the service answers with format=npz, as arrays. */

import { firstRows, parseNpy, toNpy, unzipStored } from './npy.js';

/* Of a row of `windows`: record, window, first token, end token, first base, end base. */
const WINDOW_FIELDS = 6;
/** [CLS] and [SEP]. */
export const SPECIALS = 2;

const npyReader = (buffer) => {
  const files = unzipStored(buffer);
  return { bytes: (name) => files.get(name), read: (name) => parseNpy(files.get(name)) };
};

/** @typedef {object} Features what /features?format=npz holds
 * @property {Float32Array} values windows x rows x hidden; a window's rows are the model's, 512 say
 * @property {number[]} shape
 * @property {Int32Array} ids windows x rows
 * @property {Float64Array} offsets windows x rows x 2
 * @property {Float64Array} windows windows x 6
 * @property {Float64Array} counts real rows of each window
 * @property {ArrayBuffer} npy the array as the service sent it
 * @property {string} model
 * @property {string} fingerprint
 */

/** @returns {Features} */
export function readFeatures(buffer) {
  const { bytes, read } = npyReader(buffer);
  const { shape, data } = read('features');
  return {
    values: data,
    shape,
    npy: bytes('features'),
    ids: read('input_ids').data,
    offsets: read('offsets').data,
    windows: read('windows').data,
    counts: read('n_tokens').data,
    model: read('model').data[0],
    fingerprint: read('fingerprint').data[0],
  };
}

/** @typedef {object} Vectors what /embeddings?format=npz holds
 * @property {Float32Array} values records x hidden
 * @property {number[]} shape
 * @property {number[]} counts tokens of each record, without specials
 * @property {number[]} windows of each record
 * @property {number} rows of the longest window, specials included: of a full one where a record has several
 * @property {ArrayBuffer} npy the array as the service sent it
 * @property {string} model
 * @property {string} fingerprint
 */

/** @returns {Vectors} */
export function readVectors(buffer, count) {
  const { bytes, read } = npyReader(buffer);
  const { shape, data } = read('features');
  const windows = read('windows').data;
  const counts = new Array(count).fill(0);
  const windowCounts = new Array(count).fill(0);
  let rows = 0;
  for (let at = 0; at < windows.length; at += WINDOW_FIELDS) {
    const [record, , firstToken, endToken] = windows.subarray(at, at + 4);
    counts[record] += endToken - firstToken;
    windowCounts[record] += 1;
    rows = Math.max(rows, endToken - firstToken + SPECIALS);
  }
  return {
    values: data,
    shape,
    npy: bytes('features'),
    counts,
    windows: windowCounts,
    rows,
    model: read('model').data[0],
    fingerprint: read('fingerprint').data[0],
  };
}

/**
 * The vectors that had arrived before an answer broke off.
 *
 * @returns {Vectors | null} of the first records; without their counts of tokens and windows
 */
export function readArrivedVectors(buffer, { model, fingerprint }) {
  const rows = firstRows(buffer);
  if (!rows) return null;
  const { shape, data } = rows;
  return { values: data, shape, npy: toNpy(data, shape), counts: [], windows: [], rows: 0, model, fingerprint };
}
