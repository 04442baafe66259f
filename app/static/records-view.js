/* Several records: a map of their vectors, a table of them, and what is taken from both. */

import { onThemeChange } from './colours.js';
import { codeOfVectors, copy, fileName, isSpecial, save, shortest, showCode, tsv } from './downloads.js';
import { caution, madeBy } from './model-card.js';
import { nearest, norms } from './neighbours.js';
import { toNpy } from './npy.js';
import { find, format, plural } from './page.js';
import { savePng } from './picture.js';
import { Projection } from './projection.js';
import { RecordColours } from './record-colours.js';
import { button, RecordsTable } from './records-table.js';
import { ScatterPlot } from './scatter-plot.js';
import { toFasta } from './sequence.js';
import { listStretches } from './stretches.js';
import { unlikeRecords } from './unlike.js';

const NEAREST = 10;
const TABLE = 'text/tab-separated-values';
const ZOOM = 1.5;
const ODD = 5;
const UNLIKE = 'unlike the rest, times the usual';

export class RecordsView {
  /**
   * @param {(task: object) => Promise<object>} compute runs a task of worker.js
   * @param {(index: number) => void} onOpen a record is to be seen along its bases
   */
  constructor(compute, onOpen) {
    this.onOpen = onOpen;
    // Before the map, which draws itself again: with these colours.
    onThemeChange(() => this.records && this.colours.recolour());
    this.map = new ScatterPlot(find('scatter'), {
      describe: (index) => this.describe(index),
      onPick: (index) => this.pick(index),
      onOpen,
      onSelect: (indices) => this.select(indices),
    });
    this.table = new RecordsTable({
      onOpen,
      onPick: (index) => this.pick(index),
      onDownload: (index) =>
        save([toNpy(this.vector(index), [this.hidden])], fileName(this.records[index].id, '.npy')),
    });
    this.projection = new Projection(compute, (points, axes) => this.place(points, axes));
    this.colours = new RecordColours({
      onChange: () => this.recolour(),
      onClass: (indices) => this.select(indices),
    });
    this.bindMap();
    this.bindDownloads();
  }

  bindMap() {
    find('map-in').addEventListener('click', () => this.map.zoom(ZOOM));
    find('map-out').addEventListener('click', () => this.map.zoom(1 / ZOOM));
    find('map-all').addEventListener('click', () => this.map.whole());
    find('lasso').addEventListener('click', ({ currentTarget }) => {
      this.map.lassoing = !this.map.lassoing;
      currentTarget.setAttribute('aria-pressed', String(this.map.lassoing));
      find('scatter').classList.toggle('lassoing', this.map.lassoing);
    });
    find('find-record').addEventListener('input', () => this.search());
    find('find-select').addEventListener('click', () => this.select(new Set(this.found)));
  }

  bindDownloads() {
    find('map-npy').addEventListener('click', () => save([this.vectors.npy], 'vectors.npy'));
    find('map-tsv').addEventListener('click', () => save(
      tsv([['id', ...this.featureNames()],
        ...this.records.map(({ id }, index) => [id, ...Array.from(this.vector(index), shortest)])]),
      'vectors.tsv', TABLE));
    find('scatter-png').addEventListener('click', () => savePng({
      draw: (...place) => this.map.draw(...place),
      aspect: 4 / 3,
      title: [plural(this.records.length, 'record'), this.projection.name,
        ...(this.colours.field ? [`coloured by ${this.colours.field.name}`] : [])].join(' · '),
      note: madeBy(this.vectors, `pooling ${this.pooling}`),
      name: 'map.png',
      legend: this.colours.key,
    }));
    find('selected-fasta').addEventListener('click', () => save(
      [toFasta(this.selectedIndices().map((index) => this.records[index]))], 'selected.fa', 'text/x-fasta'));
    find('selected-tsv').addEventListener('click', () =>
      save(tsv(this.selectedTable()), 'selected.tsv', TABLE));
    find('selected-names').addEventListener('click', async () => {
      const names = this.selectedIndices().map((index) => `${this.records[index].id}\n`).join('');
      const copied = await copy(names);
      find('selection-said').textContent = copied ? 'Copied.' : 'This browser does not let a page copy here.';
    });
    find('selected-clear').addEventListener('click', () => this.select(new Set()));
  }

  /**
   * @param {{id: string, title: string, sequence: string}[]} records
   * @param {import('./answers.js').Vectors} vectors
   * @param {string} pooling
   * @param {string} command of curl
   */
  async show(records, vectors, pooling, command) {
    Object.assign(this, { records: null, selected: new Set(), found: null, points: null });
    this.hidden = vectors.shape[1];
    const points = await this.projection.begin(vectors.values, records.length, this.hidden);
    Object.assign(this, { records, vectors, pooling });
    this.lengths = norms(vectors.values, records.length, this.hidden);
    find('map-result').hidden = false;
    this.describeResult();
    showCode(find('map-code-panel'), codeOfVectors(command), 'the vectors');
    find('find-record').value = '';
    find('near').replaceChildren();
    this.colours.field = null;
    this.map.chosen = null;
    this.place(...points);
    this.unlike = unlikeRecords(vectors.values, records.length, this.hidden);
    this.showUnlike();
    this.colours.show(records, this.unlike ? [{ name: UNLIKE, kind: 'number', values: Array.from(this.unlike) }] : []);
    this.table.show({
      records, counts: vectors.counts, gc: this.colours.gc, colourOf: (index) => this.colours.colours[index],
    });
    this.select(new Set());
    this.search();
  }

  describeResult() {
    const { records, vectors, pooling } = this;
    const alone = records.length === 1;
    const facts = [`${format(this.hidden)} features a record`, `pooling: ${pooling}`];
    facts.push(...caution(vectors.model));
    if (alone) facts.push('too long to show every token');
    const special = records.find(({ id }) => isSpecial(id));
    find('map-tsv').disabled = Boolean(special);
    find('selected-tsv').disabled = Boolean(special);
    if (special) facts.push(`no tsv: a spreadsheet would compute the name ${special.id}`);
    find('map-title').textContent = alone ? 'One vector' : plural(records.length, 'record');
    find('map-facts').textContent = facts.join(' · ');
    find('map-panel').hidden = alone;
  }

  /* The records that are most unlike the rest. */
  showUnlike() {
    const odd = this.unlike ? Array.from(this.unlike.keys())
      .sort((left, right) => this.unlike[right] - this.unlike[left]).slice(0, ODD) : [];
    find('unlike-records').replaceChildren(...listStretches('Most unlike the rest:', odd.map((index) => ({
      text: `${this.records[index].id} (${this.unlike[index].toFixed(1)} times the usual)`,
      onClick: () => this.pick(index),
    }))));
  }

  hide() {
    find('map-result').hidden = true;
  }

  place(points, axes) {
    this.points = points;
    this.axes = axes;
    this.map.show(points, this.records.map(({ id }) => id), axes);
  }

  recolour() {
    this.map.paint(this.colours.colours);
    if (this.table.records === this.records) this.table.recolour();
  }

  choose(index) {
    this.map.choose(index);
    this.table.choose(index);
  }

  /** A record is chosen: which are most like it. */
  pick(index) {
    this.choose(index);
    const open = button('quiet', 'See it along its bases', () => this.onOpen(index));
    const head = document.createElement('p');
    const name = document.createElement('strong');
    name.textContent = this.records[index].id;
    head.append('Most like ', name, ', by cosine of the vectors: ', open);
    const list = document.createElement('ol');
    const near = this.near(index);
    list.append(...near.map(({ index: other, cosine }) => {
      const item = document.createElement('li');
      item.append(button('link', this.records[other].id, () => this.pick(other)), ` ${cosine.toFixed(4)}`);
      return item;
    }));
    const all = button('quiet', `Select these ${near.length + 1}`, () =>
      this.select(new Set([index, ...near.map((each) => each.index)])));
    find('near').replaceChildren(head, list, all);
  }

  /** The records most like one. */
  near(index) {
    return nearest(this.vectors.values, this.lengths, this.hidden, index, NEAREST);
  }

  select(indices) {
    this.selected = indices;
    find('selection').hidden = !indices.size;
    find('selection-text').textContent = `${plural(indices.size, 'record is', 'records are')} selected:`;
    find('selection-said').textContent = '';
    this.map.emphasise(indices, this.found);
  }

  search() {
    const words = find('find-record').value.trim().toLowerCase();
    this.found = words ? new Set(this.records.map((_, index) => index).filter((index) => {
      const { id, title = '' } = this.records[index];
      return `${id} ${title}`.toLowerCase().includes(words);
    })) : null;
    find('find-text').textContent = this.found ? `${format(this.found.size)} found` : '';
    find('find-select').hidden = !this.found?.size;
    this.table.restrict(this.found);
    this.table.choose(this.map.chosen);
    this.map.emphasise(this.selected, this.found);
  }

  vector(index) {
    return this.vectors.values.subarray(index * this.hidden, (index + 1) * this.hidden);
  }

  featureNames() {
    return Array.from({ length: this.hidden }, (_, k) => `f${k}`);
  }

  selectedIndices() {
    return [...this.selected].sort((left, right) => left - right);
  }

  /* What is known of the selected records, then their vectors. */
  selectedTable() {
    const { field } = this.colours;
    const labelled = field?.kind === 'class';
    const head = ['id', 'bases', 'gc_percent', ...(labelled ? ['colour'] : []), 'x', 'y'];
    const rows = this.selectedIndices().map((index) => {
      const { id, sequence } = this.records[index];
      const gc = this.colours.gc[index];
      const label = labelled && !isSpecial(field.values[index]) ? field.values[index] : '';
      return [id, sequence.length, Number.isNaN(gc) ? '' : gc.toFixed(2), ...(labelled ? [label] : []),
        shortest(this.points[2 * index]), shortest(this.points[2 * index + 1]),
        ...Array.from(this.vector(index), shortest)];
    });
    return [[...head, ...this.featureNames()], ...rows];
  }

  describe(index) {
    const { id, sequence } = this.records[index];
    const place = [0, 1].map((axis) =>
      this.points[2 * index + axis].toPrecision(3).replace('-', '−'));
    const [x, y] = this.projection.axisNames;
    const { field } = this.colours;
    const value = field && field.name !== 'length' ? `, ${field.name}: ${shown(field.values[index])}` : '';
    return `${id}: ${format(sequence.length)} bases, ${x} ${place[0]}, ${y} ${place[1]}${value}`;
  }
}

function shown(value) {
  if (value === '' || Number.isNaN(value)) return 'none';
  return typeof value === 'number' ? format(Number(value.toPrecision(4))) : value;
}
