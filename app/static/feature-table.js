/* All features of a record as a table. */

import { shortest, tsv } from './downloads.js';

const ROWS_AT_ONCE = 64;
const pause = () => new Promise((resolve) => { setTimeout(resolve); });

/**
 * One line a real token, [CLS] and [SEP] among them; bases 0-based and half-open, as the API counts.
 *
 * @param {import('./record-data.js').RecordData} data
 * @returns {Promise<string[]>} parts of a tsv file
 */
export async function featureTable(data) {
  const head = ['window', 'row', 'token', 'id', 'first_base', 'end_base'];
  for (let k = 0; k < data.hidden; k += 1) head.push(`f${k}`);
  const parts = tsv([head]);
  for (let window = 0; window < data.windows; window += 1) {
    for (const place of data.placesOfWindow(window)) {
      const token = data.tokenOf(place);
      const bases = token < 0 ? ['', ''] : [data.starts[token], data.ends[token]];
      const cells = [window, place % data.length, data.text(place), data.features.ids[place]];
      parts.push(...tsv([[...cells, ...bases, ...Array.from(data.vector(place), shortest)]]));
      // The page stays alive while a long table is written.
      if (place % ROWS_AT_ONCE === 0) await pause();
    }
  }
  return parts;
}
