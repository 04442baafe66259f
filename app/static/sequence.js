/* What is pasted -> records of clean DNA, by the same rules as the service:
 * white space removed, lower case folded, U read as T, IUPAC letters kept, all else refused.
 */

import { split } from './flat-files.js';

const REFUSED = 0;
const BASE = 1;
const LOWER = 2;
const URACIL = 4;
const SPACE = 8;
const AMBIGUOUS = 16;

const LF = 10;
const CR = 13;

/* For each ASCII code: what it is, and the letter it becomes. */
const KIND = new Uint8Array(128);
const LETTER = new Uint8Array(128);

function define(letters, kind) {
  for (const letter of letters) {
    const upper = letter.charCodeAt(0);
    const lower = letter.toLowerCase().charCodeAt(0);
    const becomes = letter === 'U' ? 'T'.charCodeAt(0) : upper;
    KIND[upper] = kind;
    KIND[lower] = kind | LOWER;
    LETTER[upper] = LETTER[lower] = becomes;
  }
}

define('ACGT', BASE);
define('U', BASE | URACIL);
define('RYSWKMBDHVN', AMBIGUOUS);
// Python's white space, and the zero-width ones that come with text from web pages.
const WHITE_SPACE = /[\s\x1c-\x1f\x85\u200b\ufeff]/;
for (let code = 0; code < 128; code += 1) {
  if (WHITE_SPACE.test(String.fromCharCode(code))) KIND[code] = SPACE;
}

/** More refused letters than this are counted, not listed. */
const LISTED = 200;

/**
 * Clean one submitted sequence.
 *
 * @param {string} raw
 * @returns {{sequence: string, folded: number, uracil: number, space: number,
 *   ambiguous: Map<string, number>, ambiguousAt: number[],
 *   refused: {letter: string, index: number}[], refusedCount: number}}
 *   `index` and `ambiguousAt` count UTF-16 units of `raw` from 0.
 */
export function clean(raw) {
  const kept = new Uint8Array(raw.length);
  const refused = [];
  const ambiguousAt = [];
  const ambiguousCounts = new Uint32Array(128);
  let [length, folded, uracil, space, refusedCount, ambiguousCount] = [0, 0, 0, 0, 0, 0];
  for (let index = 0; index < raw.length; index += 1) {
    const code = raw.charCodeAt(index);
    let kind = code < 128 ? KIND[code] : REFUSED;
    if (code >= 128 && WHITE_SPACE.test(raw[index])) kind = SPACE;
    if (kind === SPACE) {
      // Line breaks are how sequences are written; only other white space is worth a word.
      if (code !== LF && code !== CR) space += 1;
    } else if (kind === REFUSED) {
      refusedCount += 1;
      const letter = String.fromCodePoint(raw.codePointAt(index));
      if (refused.length < LISTED) refused.push({ letter, index });
      index += letter.length - 1;
    } else {
      kept[length] = LETTER[code];
      length += 1;
      if (kind & LOWER) folded += 1;
      if (kind & URACIL) uracil += 1;
      if (kind & AMBIGUOUS) {
        ambiguousCounts[LETTER[code]] += 1;
        ambiguousCount += 1;
        if (ambiguousCount <= LISTED) ambiguousAt.push(index);
      }
    }
  }
  const ambiguous = new Map();
  ambiguousCounts.forEach((count, code) => {
    if (count) ambiguous.set(String.fromCharCode(code), count);
  });
  return {
    sequence: new TextDecoder('latin1').decode(kept.subarray(0, length)),
    folded,
    uracil,
    space,
    ambiguous,
    ambiguousAt,
    refused,
    refusedCount,
  };
}

/** What no name may hold: controls, spaces but the plain one, what the eye does not see. */
const UNSEEN = /\p{C}|\p{Zl}|\p{Zp}|(?! )\p{Zs}|\p{Default_Ignorable_Code_Point}|\u2800/u;

/**
 * Everything that can be said about a text without the model.
 *
 * @returns {{kind, records: {id, title, sequence, source}[], bases: number, folded: number,
 *   uracil: number, space: number, lines: number, ambiguous: Map<string, number>,
 *   marks: {at, length, kind}[],
 *   problem: null | {message: string, at: number, length: number, position?: number,
 *   letter?: string, record?: string}, problems: number}}
 *   `at` counts UTF-16 units of the text from 0; `position` counts letters of the submitted
 *   sequence from 1, as the service does.
 */
export function examine(text) {
  const { kind, records, broken } = split(text);
  const inFile = kind !== 'plain';
  const total = { kind, records: [], bases: 0, problems: 0 };
  Object.assign(total, { folded: 0, uracil: 0, space: 0, lines: 0 });
  total.ambiguous = new Map();
  total.marks = [];
  total.problem = null;
  const seen = new Set();

  const complain = (problem) => {
    total.problem ??= problem;
    total.problems += 1;
  };

  if (broken) complain(broken);
  for (const [number, source] of records.entries()) {
    const named = inFile ? source.id : undefined;
    const raw = source.raw;
    const result = clean(raw);
    total.bases += result.sequence.length;
    total.folded += result.folded;
    total.uracil += result.uracil;
    total.space += result.space;
    for (const [letter, count] of result.ambiguous) {
      total.ambiguous.set(letter, (total.ambiguous.get(letter) ?? 0) + count);
    }
    for (const index of result.ambiguousAt) {
      total.marks.push({ at: source.textIndex(index), length: 1, kind: 'ambiguous' });
    }
    for (const { letter, index } of result.refused) {
      total.marks.push({ at: source.textIndex(index), length: letter.length, kind: 'refused' });
    }
    const odd = implausible(raw, result, named);
    if (odd) complain({ ...odd, at: source.textIndex(odd.index), record: named });
    const header = { at: source.header, length: 1 + source.id.length, record: named };
    if (inFile && !source.id) {
      const after = kind === 'fasta' ? ' after “>”' : '';
      complain({ ...header, message: `Record ${number + 1} has no name${after}.` });
    } else if (inFile && UNSEEN.test(source.id)) {
      const [letter] = UNSEEN.exec(source.id);
      const reason = `has in its name a character that is not seen (${codeOf(letter)}).`;
      complain({ ...header, message: `Record ${number + 1} ${reason}` });
    } else if (seen.has(source.id)) {
      complain({ ...header, message: `Two records are called “${source.id}”.` });
    }
    seen.add(source.id);
    if (result.refusedCount) {
      const { letter, index } = result.refused[0];
      const position = Array.from(raw.slice(0, index)).length + 1;
      complain({
        at: source.textIndex(index),
        length: letter.length,
        letter,
        position,
        record: named,
        message: meaning(raw, letter, position, named, kind),
      });
      total.problems += result.refusedCount - 1;
    } else if (!result.sequence && inFile) {
      complain({ ...header, message: `Record “${source.id}” has no sequence.` });
    }
    if (kind === 'plain') total.lines = unlikeLines(raw);
    total.records.push({ id: source.id, title: source.title, sequence: result.sequence, source });
  }
  return total;
}

const MISSING = /^\s*(NA|nan|NaN|None|<NA>|NaT|null|NULL|#?N\/A|--?|\.|\?)\s*$/;
// A tab that has something on both sides of its line.
const COLUMNS = /[^\s] *(?=\t[ \t]*[^\s])/;
/** Of a record's letters, that may be none of A C G T U N. */
const MOST_AMBIGUOUS = 1 / 3;

/** What has letters of DNA only and was hardly meant as DNA; by the rules of the service. */
function implausible(raw, { sequence, ambiguous, refusedCount }, named) {
  const who = named ? `Record “${named}”` : 'The sequence';
  const missing = MISSING.exec(raw);
  if (missing) {
    const message = `${who} is “${missing[1]}”, a missing value. Leave it out.`;
    return { message, index: raw.indexOf(missing[1]), length: missing[1].length };
  }
  const tab = COLUMNS.exec(raw);
  if (tab) {
    const index = tab.index + tab[0].length;
    const position = Array.from(raw.slice(0, index)).length + 1;
    const message = `${who}: a tab at position ${position.toLocaleString('en')} separates columns.`
      + ' Paste the column of sequences alone, a line with > and a name before each.';
    return { message, index, length: 1, position, letter: '\t' };
  }
  const counts = Array.from(ambiguous, ([letter, count]) => (letter === 'N' ? 0 : count));
  const count = counts.reduce((sum, each) => sum + each, 0);
  if (refusedCount || count <= MOST_AMBIGUOUS * sequence.length) return null;
  const share = `${count} of its ${sequence.length} letters`;
  const message = `${who} looks like a protein: ${share} are none of A, C, G, T and N.`
    + ' The API takes it with ambiguous=accept.';
  return { message, index: 0, length: 1 };
}

const SHORTEST_WRAPPED = 40;

/** How many lines a text has, where they do not look like one wrapped sequence; else 0. */
function unlikeLines(raw) {
  const lengths = raw.split(/\r\n|\n|\r/).map((line) => line.trim().length).filter(Boolean);
  const last = lengths.pop();
  const width = lengths[0];
  const wrapped = width >= SHORTEST_WRAPPED && last <= width
    && lengths.every((length) => length === width);
  return !lengths.length || wrapped ? 0 : lengths.length + 1;
}

const PROTEIN = 'It occurs in proteins; DNA is expected.';
const GAP = 'It is a gap: remove gaps from an alignment first.';
const INOSINE = 'It is inosine, which the model does not know: write N; or this is a protein.';
const HINTS = { '-': GAP, '.': GAP, I: INOSINE, X: 'Unknown bases are written N.' };
for (const letter of 'EFLPQZJO') HINTS[letter] = PROTEIN;
for (const digit of '0123456789') HINTS[digit] = 'Take numbers of positions out first.';
const PLAIN_HINTS = {
  '>': 'FASTA has its first “>” before any sequence.',
  '@': 'FASTQ has its first “@” before anything else.',
};

/** Letters of amino acids that are none of DNA; a name in a data base, or a place in a genome. */
const AMINO_ACIDS = /[EFILPQ]/gi;
const PROTEIN_FROM = 10;
const NAME = /^\s*(?:[a-z]{1,4}_?\d{5,}(?:\.\d+)?(?::c?[\d,]+[-–][\d,]+)?|chr\w+:[\d,]+[-–][\d,]+|rs\d+|ens[a-z]*\d{11}(?:\.\d+)?)\s*$/i;

/* What the whole text looks like, where that says more than its first letter that is wrong. */
function meaning(raw, letter, position, record, kind) {
  const kinds = new Set(raw.match(AMINO_ACIDS)?.map((one) => one.toUpperCase()));
  if (kinds.size > 2 && raw.length >= PROTEIN_FROM && /^[a-z\s*.-]+$/i.test(raw)) {
    const who = record ? `Record “${record}”` : 'The sequence';
    return `${who} looks like a protein. ${refused(letter, position)} Paste the DNA that codes for it.`;
  }
  return kind === 'plain' && NAME.test(raw)
    ? 'This looks like a name, or a place in a genome. Nothing is fetched here: paste the bases.'
    : refusal(letter, position, record, kind);
}

function codeOf(letter) {
  return `U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
}

function refusal(letter, position, record, kind) {
  const plainHint = kind === 'plain' ? PLAIN_HINTS[letter] : undefined;
  const hint = plainHint ?? HINTS[letter.toUpperCase()] ?? '';
  return `${refused(letter, position, record)} ${hint}`.trim();
}

function refused(letter, position, record) {
  const where = `position ${position.toLocaleString('en')}`;
  const place = record ? `${where} of record “${record}”` : where;
  const shown = /[\p{C}\p{Z}\p{M}]/u.test(letter)
    ? codeOf(letter)
    : `“${letter}”`;
  return `${shown} at ${place} is not a DNA letter.`;
}

/** FASTA of records, lines of 70 letters. */
export function toFasta(records) {
  return records
    .map(({ id, sequence }) => `>${id}\n${wrapLines(sequence)}\n`)
    .join('');
}

export function wrapLines(sequence) {
  return sequence.replace(/.{70}(?=.)/g, '$&\n');
}
