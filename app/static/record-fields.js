/* What records can be coloured and sorted by: what they are made of, fields of their headers, labels. */

const MOST_CLASSES = 24;
const FIELD = /\[?([A-Za-z_]\w*)=(?:"([^"]*)"|([^\]\s;|,]+(?: [^\]\s=;|,]+)*?(?=\])|[^\]\s;|,]+))\]?/g;

/** @typedef {object} Field
 * @property {string} name
 * @property {'number' | 'class'} kind
 * @property {(number | string)[]} values one a record; NaN or '' where there is none
 */

const share = (sequence, letters) => {
  let count = 0;
  for (const letter of sequence) if (letters.includes(letter)) count += 1;
  return count;
};

/** Length, GC content and the share of letters that are none of A, C, G, T. */
export function compositionFields(records) {
  const lengths = records.map(({ sequence }) => sequence.length);
  const strong = records.map(({ sequence }) => share(sequence, 'GC'));
  const known = records.map(({ sequence }, index) => strong[index] + share(sequence, 'AT'));
  return [
    { name: 'length', kind: 'number', values: lengths },
    {
      name: 'GC content, %',
      kind: 'number',
      values: strong.map((count, index) => (known[index] ? (100 * count) / known[index] : NaN)),
    },
    {
      name: 'unknown bases, %',
      kind: 'number',
      values: known.map((count, index) => 100 * (1 - count / (lengths[index] || 1))),
    },
  ];
}

/** Fields `key=value` and `[key=value]` of the headers, and the first word after the name. */
export function headerFields(records) {
  const found = new Map();
  records.forEach(({ title = '' }, index) => {
    for (const [, key, quoted, plain] of title.matchAll(FIELD)) {
      if (!found.has(key)) found.set(key, new Array(records.length).fill(''));
      found.get(key)[index] = (quoted ?? plain).trim();
    }
  });
  const words = records.map(({ title = '' }) => (title.includes('=') ? '' : title.split(/[ \t]+/, 1)[0]));
  const fields = Array.from(found, ([name, values]) => asField(`header: ${name}`, values));
  fields.push(asField('header: first word', words));
  const useful = ({ kind, values }) => {
    const different = new Set(values.filter((value) => value !== '' && !Number.isNaN(value))).size;
    return different > 1 && (kind === 'number' || different <= Math.max(2, records.length * 0.8));
  };
  return fields.filter(useful);
}

/* Numbers where all that is there are numbers, and there are too many for classes. */
function asField(name, values) {
  const given = values.filter((value) => value !== '');
  const numeric = given.length > 0 && given.every((value) => Number.isFinite(Number(value)));
  if (!numeric || new Set(given).size <= 8) return { name, kind: 'class', values };
  return { name, kind: 'number', values: values.map((value) => (value === '' ? NaN : Number(value))) };
}

/**
 * Labels that somebody pasted: a line a record, its name first, then a label or several with tabs (or
 * commas) between. A first line whose name is no record's gives the labels' names.
 *
 * @returns {{fields: Field[], matched: number, unknown: string[]}}
 */
export function labelFields(text, records) {
  const lines = text.split(/\r\n|\n|\r/).filter((line) => line.trim());
  const separator = lines.some((line) => line.includes('\t')) ? '\t' : ',';
  const rows = lines.map((line) => line.split(separator).map((cell) => cell.trim()));
  const places = new Map(records.map(({ id }, index) => [id, index]));
  const headed = rows.length > 1 && !places.has(rows[0][0]);
  const heads = headed ? rows[0] : [];
  const width = Math.max(0, ...rows.map((cells) => cells.length));
  const columns = Array.from({ length: Math.max(0, width - 1) }, () => new Array(records.length).fill(''));
  const unknown = [];
  let matched = 0;
  for (const cells of headed ? rows.slice(1) : rows) {
    const index = places.get(cells[0]);
    if (index === undefined) unknown.push(cells[0]);
    else {
      matched += 1;
      cells.slice(1).forEach((value, column) => { columns[column][index] = value; });
    }
  }
  const fields = columns.map((values, column) => asField(
    `label: ${heads[column + 1] || (columns.length > 1 ? column + 1 : 'yours')}`, values));
  return { fields: matched ? fields : [], matched, unknown };
}

/**
 * The classes of a field, the most frequent first; what is beyond the palette is one class.
 *
 * @returns {{names: string[], counts: number[], of: Int32Array}} `of` a record: its class, -1 for none
 */
export function classesOf({ values }) {
  const counts = new Map();
  for (const value of values) if (value !== '') counts.set(value, (counts.get(value) ?? 0) + 1);
  const sorted = [...counts].sort((left, right) => right[1] - left[1]);
  const kept = sorted.length > MOST_CLASSES ? sorted.slice(0, MOST_CLASSES - 1) : sorted;
  const names = kept.map(([name]) => name);
  const numbers = new Map(names.map((name, index) => [name, index]));
  const others = sorted.slice(kept.length);
  const tally = kept.map(([, count]) => count);
  if (others.length) {
    names.push(`${others.length} others`);
    tally.push(others.reduce((sum, [, count]) => sum + count, 0));
  }
  const of = Int32Array.from(values, (value) =>
    (value === '' ? -1 : numbers.get(value) ?? kept.length));
  return { names, counts: tally, of };
}

/** From 0 to 1 where the values of a number lie; NaN where there is none. */
export function scaled({ values }) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const span = high - low || 1;
  return { low, high, of: Float32Array.from(values, (value) => (value - low) / span) };
}
