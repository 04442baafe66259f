/* The colours of records on the map, and what they stand for. */

import { colourTable, missingColour, recordColour } from './colours.js';
import { compositionFields, headerFields, labelFields, classesOf, scaled } from './record-fields.js';
import { find, format, plural } from './page.js';
import { drawBand } from './legend.js';

const EACH = 'each its own';
const EACH_UP_TO = 24;

const hex = (packed) => `#${[packed, packed >>> 8, packed >>> 16]
  .map((channel) => (channel & 255).toString(16).padStart(2, '0')).join('')}`;

const varies = (field) => {
  const { low, high } = scaled(field);
  return low < high;
};

/* A column with one value for all, or with another for each, shows nothing as colours. */
const tellsApart = (field) => (field.kind === 'number' ? varies(field)
  : (({ size }) => size > 1 && size < field.values.length)(new Set(field.values)));

export class RecordColours {
  /** @param {{onChange: () => void, onClass: (indices: Set<number>) => void}} options `onClass`: a
   *   class of the legend was clicked */
  constructor({ onChange, onClass }) {
    Object.assign(this, { onChange, onClass });
    this.labels = '';
    find('colour-by').addEventListener('change', () => this.apply());
    find('labels-use').addEventListener('click', () => this.useLabels(find('labels').value));
    find('labels-open').addEventListener('click', () => find('labels-file').click());
    find('labels-file').addEventListener('change', async ({ target }) => {
      const [file] = target.files;
      target.value = '';
      if (!file) return;
      find('labels').value = await file.text();
      this.useLabels(find('labels').value);
    });
  }

  /**
   * Offer what these records have. Labels that were pasted before are used again.
   *
   * @param {import('./record-fields.js').Field[]} measured what else is known of them
   */
  show(records, measured) {
    this.records = records;
    this.composition = compositionFields(records);
    this.fields = [...this.composition, ...measured, ...headerFields(records)];
    this.labelled = [];
    find('labels-said').textContent = '';
    if (this.labels) this.useLabels(this.labels);
    else {
      const class_ = this.fields.find(({ kind }) => kind === 'class');
      const field = class_ ?? this.fields.find(varies) ?? this.fields[0];
      this.offer(records.length <= EACH_UP_TO ? EACH : field.name);
    }
  }

  /** GC content of each record in percent, for the table. */
  get gc() {
    return this.composition[1].values;
  }

  useLabels(text) {
    const { fields, matched, unknown } = labelFields(text, this.records);
    this.labels = matched ? text : '';
    this.labelled = fields;
    const missing = unknown.length
      ? `; ${plural(unknown.length, 'name is', 'names are')} none of theirs, such as ${unknown[0].slice(0, 40)}` : '';
    find('labels-said').textContent = `${format(matched)} of ${plural(this.records.length, 'record')} `
      + `have a label${missing}.`;
    const telling = fields.find(tellsApart) ?? fields[0];
    this.offer(telling?.name ?? (find('colour-by').value || this.fields[0].name));
    if (matched) find('scatter').scrollIntoView({ block: 'nearest' });
  }

  offer(name) {
    const names = [...(this.records.length <= EACH_UP_TO ? [EACH] : []),
      ...this.labelled.map((field) => field.name), ...this.fields.map((field) => field.name)];
    find('colour-by').replaceChildren(...names.map((each) => new Option(each, each)));
    find('colour-by').value = names.includes(name) ? name : names[0];
    this.apply();
  }

  apply() {
    const name = find('colour-by').value;
    this.field = [...this.labelled, ...this.fields].find((field) => field.name === name) ?? null;
    this.recolour();
  }

  /** Once more, where the theme has changed. */
  recolour() {
    const { field, records } = this;
    if (!field) {
      this.colours = records.map((_, index) => recordColour(index));
      this.key = null;
      find('map-legend').replaceChildren();
    } else if (field.kind === 'class') this.byClass(classesOf(field));
    else this.byNumber(scaled(field));
    this.onChange();
  }

  byClass({ names, counts, of }) {
    this.colours = Array.from(of, (number) => (number < 0 ? missingColour() : recordColour(number)));
    const classes = names.map((name, number) => ({ colour: recordColour(number), name, count: counts[number], number }));
    const none = of.reduce((sum, number) => sum + (number < 0 ? 1 : 0), 0);
    if (none) classes.push({ colour: missingColour(), name: 'none', count: none, number: -1 });
    const items = classes.map(({ colour, name, count, number }) => (
      { colour, text: `${name} (${format(count)})`, number }));
    this.key = { items };
    find('map-legend').replaceChildren(...items.map((item) => this.classItem(item, of)));
  }

  classItem({ colour, text, number }, of) {
    const item = document.createElement('button');
    item.type = 'button';
    item.className = 'quiet key';
    const swatch = document.createElement('span');
    swatch.className = 'swatch';
    swatch.style.background = colour;
    item.append(swatch, text);
    item.addEventListener('click', () => this.onClass(new Set(
      this.records.map((_, index) => index).filter((index) => of[index] === number))));
    return item;
  }

  byNumber({ low, high, of }) {
    const table = colourTable('ordered');
    this.colours = Array.from(of, (value) => (Number.isNaN(value) ? missingColour()
      : hex(table[Math.round(value * (table.length - 1))])));
    const canvas = document.createElement('canvas');
    canvas.width = 220;
    canvas.height = 10;
    canvas.setAttribute('aria-hidden', 'true');
    drawBand(canvas.getContext('2d'), 'ordered', 0, 0, 220, 10);
    const short = (value) => format(Number(value.toPrecision(4)));
    this.key = low < high ? { kind: 'ordered', labels: [short(low), '', short(high)] } : null;
    const [left, right, all] = [short(low), short(high), `${short(low)}, all of them`].map((text) => {
      const span = document.createElement('span');
      span.textContent = text;
      return span;
    });
    find('map-legend').replaceChildren(...(low < high ? [left, canvas, right] : [all]));
  }
}
