/* What people write to get to a place of a sequence. */

import { format } from './page.js';

/** A base or two, as genome browsers write them: chr1:1,200-1,480, 1200..1480, 1200 1480. */
const RANGE = /^(?:[^\s:]*[^\s:\d,][^\s:]*:)?\s*([\d,]*\d)(?:(?:\s*(?:-|–|\.\.|:)\s*|\s+)([\d,]*\d))?$/;

/**
 * A position, a range, or letters, of which the next after a base is found.
 *
 * @param {string} sequence
 * @param {number} after from where on letters are looked for first
 * @returns {{from?: number, to?: number, said: string}} bases [from, to) where there are any; `said`:
 *   what to tell
 */
export function findPlace(text, sequence, after) {
  const range = RANGE.exec(text);
  if (range) {
    const ends = range.slice(1).filter(Boolean).map((part) => Number(part.replaceAll(',', '')));
    const [first, last] = [Math.min(...ends), Math.max(...ends)];
    if (first < 1 || first > sequence.length) {
      return { said: `This sequence has bases 1 to ${format(sequence.length)}.` };
    }
    return { from: first - 1, to: Math.min(last, sequence.length), said: '' };
  }
  const motif = text.toUpperCase().replaceAll('U', 'T');
  if (!/^[ACGTRYSWKMBDHVN]+$/.test(motif)) {
    return { said: 'Write a base (120), a range (120-480), or bases to find (TATAAT).' };
  }
  const next = sequence.indexOf(motif, after);
  const at = next < 0 ? sequence.indexOf(motif) : next;
  if (at < 0) return { said: `${motif} does not occur on this strand.` };
  const where = `bases ${format(at + 1)}–${format(at + motif.length)}`;
  return { from: at, to: at + motif.length, said: `${motif}: ${where}. Enter again finds the next.` };
}
