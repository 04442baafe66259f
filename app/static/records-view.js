/* Several records: a map of their vectors, and a table of them. */

import { recordColour, onThemeChange } from './colours.js';
import { fileName, isSpecial, save, savePng, shortest, showCommand, tsv } from './downloads.js';
import { caution } from './model-card.js';
import { toNpy } from './npy.js';
import { find, format } from './page.js';
import { ScatterPlot } from './scatter-plot.js';

export class RecordsView {
  /**
   * @param {(task: object) => Promise<object>} compute runs a task of worker.js
   * @param {(index: number) => void} onOpen a record is chosen
   */
  constructor(compute, onOpen) {
    this.compute = compute;
    this.onOpen = onOpen;
    this.map = new ScatterPlot(find('scatter'), {
      describe: (index) => this.describe(index),
      onPick: onOpen,
    });
    onThemeChange(() => this.colourTable());
    find('map-npy').addEventListener('click', () => save([this.vectors.npy], 'vectors.npy'));
    find('map-tsv').addEventListener('click', () => {
      const rows = this.records.map(({ id }, index) =>
        [id, ...Array.from(this.vector(index), shortest)]);
      const head = ['id', ...Array.from({ length: this.hidden }, (_, k) => `f${k}`)];
      save(tsv([head, ...rows]), 'vectors.tsv', 'text/tab-separated-values');
    });
    find('scatter-png').addEventListener('click', () => savePng({
      draw: (...place) => this.map.draw(...place),
      aspect: 4 / 3,
      title: `${this.records.length} records · principal components`,
      note: `${this.vectors.model}, fingerprint ${this.vectors.fingerprint}, ${this.pooling}`,
      name: 'map.png',
    }));
  }

  /**
   * @param {{id: string, sequence: string}[]} records
   * @param {import('./answers.js').Vectors} vectors
   * @param {string} pooling
   * @param {string} command of curl
   */
  async show(records, vectors, pooling, command) {
    Object.assign(this, { records, vectors, pooling });
    this.hidden = vectors.shape[1];
    const { points, explained } = await this.compute({
      task: 'pca',
      values: vectors.values.slice(),
      rows: records.length,
      columns: this.hidden,
    });
    this.points = points;
    find('map-result').hidden = false;
    const alone = records.length === 1;
    const facts = [`${format(this.hidden)} features a record`, `pooling: ${pooling}`];
    facts.push(...caution(vectors.model));
    if (alone) facts.push('too long to show every token');
    const special = records.find(({ id }) => isSpecial(id));
    find('map-tsv').disabled = Boolean(special);
    if (special) facts.push(`no tsv: a spreadsheet would compute the name ${special.id}`);
    find('map-title').textContent = alone ? 'One vector' : `${format(records.length)} records`;
    find('map-facts').textContent = facts.join(' · ');
    find('map-panel').hidden = alone;
    showCommand(find('map-curl-panel'), command, 'the vectors');
    this.map.choose(null);
    this.map.show(points, records.map(({ id }) => id), explained);
    this.fillTable();
  }

  hide() {
    find('map-result').hidden = true;
  }

  choose(index) {
    this.map.choose(index);
    for (const [row, line] of [...find('records').tBodies[0].rows].entries()) {
      line.classList.toggle('chosen', row === index);
      const button = line.querySelector('button');
      if (row === index) button.setAttribute('aria-current', 'true');
      else button.removeAttribute('aria-current');
    }
  }

  vector(index) {
    return this.vectors.values.subarray(index * this.hidden, (index + 1) * this.hidden);
  }

  describe(index) {
    const { id, sequence } = this.records[index];
    const place = [0, 1].map((axis) =>
      this.points[2 * index + axis].toPrecision(3).replace('-', '−'));
    return `${id}: ${format(sequence.length)} bases, PC 1 ${place[0]}, PC 2 ${place[1]}`;
  }

  fillTable() {
    const lines = this.records.map(({ id, sequence }, index) => {
      const line = document.createElement('tr');
      const head = document.createElement('th');
      head.scope = 'row';
      const swatch = document.createElement('span');
      swatch.className = 'swatch';
      const open = document.createElement('button');
      open.type = 'button';
      open.className = 'link';
      open.textContent = id;
      open.addEventListener('click', () => this.onOpen(index));
      head.append(swatch, open);
      const download = document.createElement('button');
      download.type = 'button';
      download.className = 'quiet';
      download.textContent = 'npy';
      download.setAttribute('aria-label', `Vector of ${id} as npy`);
      download.addEventListener('click', () =>
        save([toNpy(this.vector(index), [this.hidden])], fileName(id, '.npy')));
      const vectorCell = document.createElement('td');
      vectorCell.append(download);
      line.append(
        head,
        numberCell(sequence.length),
        numberCell(this.vectors.counts[index]),
        vectorCell,
      );
      return line;
    });
    find('records').tBodies[0].replaceChildren(...lines);
    this.colourTable();
  }

  colourTable() {
    for (const [index, swatch] of document.querySelectorAll('#records .swatch').entries()) {
      swatch.style.background = recordColour(index);
    }
  }
}

function numberCell(value) {
  const cell = document.createElement('td');
  cell.className = 'number';
  cell.textContent = value === undefined ? '' : format(value);
  return cell;
}
