/* FASTA, FASTQ, GenBank and EMBL -> records, as the service reads them; nothing is cleaned here. */

/** A record as written: its letters, and where in the text each piece of them stands. */
class Record {
  constructor(id, title = '', header = 0) {
    this.id = id;
    this.title = title; // what stands beside the id
    this.header = header; // where in the text it stands
    this.pieces = [];
    this.length = 0;
  }

  add(start, text) {
    if (!text) return;
    this.pieces.push({ from: this.length, start, text });
    this.length += text.length;
  }

  get raw() {
    return this.pieces.length === 1
      ? this.pieces[0].text
      : this.pieces.map((piece) => piece.text).join('');
  }

  /** Where in the whole text the letter at `index` of `raw` stands. */
  textIndex(index) {
    const piece = this.pieces.findLast((candidate) => candidate.from <= index);
    return piece.start + index - piece.from;
  }
}

/** How files begin, after white space; and of what kind of file that is. */
const BEGINNINGS = [['>', 'fasta'], ['@', 'fastq'], ['LOCUS ', 'genbank'], ['ID   ', 'embl']];
const NOT_WHITE_SPACE = /[^\s\x1c-\x1f\x85\u200b\ufeff]/;
const SPACES = /[ \t]+/;

const trimmed = (title) => title.replace(/^[ \t]+|[ \t]+$/g, '');
const firstWord = (title) => trimmed(title).split(SPACES, 1)[0];
const otherWords = (title) => trimmed(title).slice(firstWord(title).length).trim();

/** A file that is not what it begins as. */
class BrokenFile extends Error {
  constructor(message, line) {
    super(message);
    this.line = line;
  }
}

/** Lines of a text with where they start, one after the other. */
class Lines {
  constructor(text, first) {
    // Files that were put together have a byte order mark where the next one began.
    this.pattern = /(\ufeff*)([^\r\n]*)(?:\r\n|\n|\r|$)/y;
    this.pattern.lastIndex = first;
    this.text = text;
  }

  /** The next line; null after the last. */
  next() {
    const at = this.pattern.lastIndex;
    if (at >= this.text.length) return null;
    const [, marks, content] = this.pattern.exec(this.text);
    this.last = { start: at + marks.length, content };
    return this.last;
  }

  /** A line that has to be there. */
  expect() {
    return this.next() ?? this.fail('The text ends in the middle of a record.');
  }

  fail(message) {
    throw new BrokenFile(message, this.last);
  }
}

function readFasta(lines, records) {
  for (let line = lines.next(); line; line = lines.next()) {
    const { start, content } = line;
    if (content.startsWith('>')) {
      const title = content.slice(1);
      records.push(new Record(firstWord(title), otherWords(title), start));
    } else records.at(-1).add(start, content);
  }
}

/* Sequences and qualities may have several lines: qualities as many letters as bases. */
function readFastq(lines, records) {
  for (let line = lines.next(); line; line = lines.next()) {
    const title = line.content;
    if (!title.trim()) continue;
    if (!title.startsWith('@')) {
      lines.fail('This FASTQ record does not begin with @, or the one before has more qualities than bases.');
    }
    const record = new Record(firstWord(title.slice(1)), otherWords(title.slice(1)), line.start);
    let second = lines.expect();
    for (; !second.content.startsWith('+'); second = lines.expect()) {
      record.add(second.start, second.content.trimEnd());
    }
    const repeated = second.content.trimEnd();
    if (repeated !== '+' && repeated !== `+${title.slice(1).trimEnd()}`) {
      lines.fail('What follows + is not what follows @.');
    }
    let qualities = 0;
    while (qualities < record.length) qualities += lines.expect().content.trimEnd().length;
    if (qualities !== record.length) lines.fail('Lengths of sequence and qualities differ.');
    records.push(record);
  }
}

/* A sequence in blocks, with positions before or after them, up to the record's end. */
function addNumbered(record, lines) {
  for (let line = lines.expect(); !line.content.startsWith('//'); line = lines.expect()) {
    for (const part of line.content.matchAll(/\S+/g)) {
      if (!/^\d+$/.test(part[0])) record.add(line.start + part.index, part[0]);
    }
  }
}

function readGenbank(lines, records) {
  let names = {};
  let header = null;
  for (let line = lines.next(); line; line = lines.next()) {
    const [key] = line.content.split(' ', 1);
    const value = line.content.slice(key.length + 1);
    if (['LOCUS', 'ACCESSION', 'VERSION'].includes(key) && value.trim()) {
      names[key] = firstWord(value);
      header ??= line.start;
    } else if (key === 'DEFINITION') names.title = value.trim();
    else if (key === 'ORIGIN' || key === '//') {
      const whole = key === 'ORIGIN';
      const name = names.VERSION ?? (whole ? names.ACCESSION : undefined) ?? names.LOCUS ?? '';
      const record = new Record(name, names.title, header ?? line.start);
      if (whole) addNumbered(record, lines);
      records.push(record);
      [names, header] = [{}, null];
    }
  }
  if (header !== null) lines.expect();
}

/* `X56734; SV 1; linear; ...` -> X56734.1; `BSUB9999 standard; ...` -> BSUB9999 */
function emblId(value) {
  const [first, second = ''] = value.split(';').map((part) => part.trim());
  const version = /^SV +(\d+)$/.exec(second);
  return version ? `${firstWord(first)}.${version[1]}` : firstWord(first);
}

function readEmbl(lines, records) {
  let [name, title, header] = ['', '', 0];
  for (let line = lines.next(); line; line = lines.next()) {
    const [key, value] = [line.content.slice(0, 2), line.content.slice(5)];
    if (key === 'ID') [name, title, header] = [emblId(value), '', line.start];
    else if (key === 'DE') title = `${title} ${value.trim()}`.trim();
    else if (key === 'AC' && name && !name.includes('.') && firstWord(value).replace(/^[;.]+|[;.]+$/g, '')) {
      [name] = firstWord(value).split(';', 1);
    } else if (key === 'SV' && value.includes('.')) name = value.trim();
    else if (key === 'SQ' || (line.content.startsWith('//') && name)) {
      const record = new Record(name, title, header);
      if (key === 'SQ') addNumbered(record, lines);
      records.push(record);
      name = '';
    }
  }
  if (name) lines.expect();
}

const READERS = { fasta: readFasta, fastq: readFastq, genbank: readGenbank, embl: readEmbl };

/** What a kind of file is called. */
export const KINDS = { fasta: 'FASTA', fastq: 'FASTQ', genbank: 'GenBank', embl: 'EMBL' };

/**
 * Split a text into records by how it begins; what begins as no file is one plain sequence.
 *
 * @param {string} text
 * @returns {{kind: 'empty' | 'plain' | 'fasta' | 'fastq' | 'genbank' | 'embl', records: Record[],
 *   broken: null | {message: string, at: number, length: number}}}
 */
export function split(text) {
  const first = text.search(NOT_WHITE_SPACE);
  if (first < 0) return { kind: 'empty', records: [], broken: null };
  const [, kind] = BEGINNINGS.find(([start]) => text.startsWith(start, first)) ?? [];
  if (!kind) {
    const record = new Record('sequence');
    record.add(0, text);
    return { kind: 'plain', records: [record], broken: null };
  }
  const records = [];
  try {
    READERS[kind](new Lines(text, first), records);
  } catch (error) {
    if (!(error instanceof BrokenFile)) throw error;
    const { start, content } = error.line;
    const broken = { message: error.message, at: start, length: Math.max(1, content.length) };
    return { kind, records, broken };
  }
  return { kind, records, broken: null };
}
