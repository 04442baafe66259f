/* Mistakes with one likely cause, put right: what a button says, and the text that it makes. */

import { toFasta } from './sequence.js';

/** @returns {[string, string] | null} */
export function repairOf(text, { kind, problem: { letter = '' } }) {
  if (kind === 'plain') {
    const bases = afterOrigin(text);
    if (bases) return ['Read the bases after ORIGIN', bases];
    const fasta = columnsToFasta(text);
    if (fasta) return ['Read the columns as names and sequences', fasta];
    const plain = withoutEnds(text);
    if (letter === '5' && plain !== text) return ['Remove 5′ and 3′', plain];
  }
  if (!/^\d$/.test(letter)) return null;
  const { text: kept, count } = withoutDigits(text);
  return [`Remove ${count} ${count === 1 ? 'digit' : 'digits'}`, kept];
}

/** FASTA of lines, each a record. */
export function linesToFasta(text) {
  return linesOf(text).map((line, index) => `>${index + 1}\n${line.trim()}\n`).join('');
}

/** FASTA of the stretches of a record, one after the other, named by their bases. */
export function piecesToFasta({ id, sequence }, bases) {
  const pieces = [];
  for (let from = 0; from < sequence.length; from += bases) {
    const piece = sequence.slice(from, from + bases);
    pieces.push({ id: `${id}:${from + 1}-${from + piece.length}`, sequence: piece });
  }
  return toFasta(pieces);
}

const linesOf = (text) => text.split(/\r\n|\n|\r/).filter((line) => line.trim());

/* Without digits, but for names; and how many there were. */
function withoutDigits(text) {
  let count = 0;
  const kept = text.split(/(?<=[\r\n])/).map((line) => (line.startsWith('>') ? line
    : line.replace(/\d/g, () => {
      count += 1;
      return '';
    })));
  return { text: kept.join(''), count };
}

/* The bases of a part of a GenBank record whose first lines are missing. */
function afterOrigin(text) {
  const [, numbered] = /^[ \t]*ORIGIN[^\r\n]*[\r\n]+([^/]*)/m.exec(text) ?? [];
  return numbered && withoutDigits(numbered).text;
}

/* `5'-ACGT-3'`, as primers are written. */
const withoutEnds = (text) => text.replace(/5\s*['′’]\s*-?|-?\s*3\s*['′’]/g, '');

const DNA_CELL = /^[ACGTURYSWKMBDHVN]+$/i;
const NUMBER = /^\d+$/;
const SPACES = / +/;
// Not between quotes.
const OUTSIDE = '(?=(?:[^"]*"[^"]*")*[^"]*$)';
const SEPARATORS = [/\t/, new RegExp(`,${OUTSIDE}`), new RegExp(`;${OUTSIDE}`), SPACES];

/* Cells of a sheet; null where the lines do not have as many each. Spaces part a name from its sequence
 * only: sequences are written in blocks, too, and with numbers of positions before them. */
function table(lines, separator) {
  if (!lines[0]?.trim().match(separator)) return null;
  const rows = lines.map((line) =>
    line.trim().split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, '$1')));
  const width = rows[0].length;
  if (width < 2 || rows.some((cells) => cells.length !== width)) return null;
  const isName = (cell) => !DNA_CELL.test(cell) && !NUMBER.test(cell);
  const named = width === 2 && rows.every(([first]) => isName(first));
  return separator !== SPACES || named ? rows : null;
}

/* FASTA of a table of names and sequences; null where it is no such table. */
function columnsToFasta(text) {
  const lines = linesOf(text);
  for (const separator of SEPARATORS) {
    const rows = table(lines, separator);
    const fasta = rows && rowsToFasta(rows);
    if (fasta) return fasta;
  }
  return null;
}

function rowsToFasta(rows) {
  const isSequence = (cells, column) => DNA_CELL.test(cells[column]);
  const columns = Array.from(rows[0], (_, column) => column);
  // The first line may be heads.
  const headed = !columns.some((column) => rows.every((cells) => isSequence(cells, column)));
  const body = headed ? rows.slice(1) : rows;
  const own = columns.findLast((column) => body.every((cells) => isSequence(cells, column)));
  if (own === undefined || !body.length) return null;
  const others = columns.filter((column) => column !== own);
  return body.map((cells, index) => {
    const [name, ...rest] = others;
    const id = cells[name].replace(/\s+/g, '_') || String(index + 1);
    const fields = rest.filter((column) => cells[column])
      .map((column) => field(headed ? rows[0][column] : '', column, cells[column]));
    return `>${[id, ...fields].join(' ')}\n${cells[own]}\n`;
  }).join('');
}

/* `[species=E. coli]`, which the map of records offers as a colour. */
function field(head, column, value) {
  const key = head.replace(/\W+/g, '_').replace(/^\d/, '_$&') || `column_${column + 1}`;
  const quoted = /[\]=;|,]/.test(value) ? `"${value.replaceAll('"', '')}"` : value;
  return `[${key}=${quoted}]`;
}
