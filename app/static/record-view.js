/* One record, seen closely: its tokens, one token's mosaic, the heat map, the similarities. */

import { absoluteMaximum, absoluteQuantile } from './analysis.js';
import { fileName, save, savePng, shortest, showCommand, tsv } from './downloads.js';
import { Legend } from './legend.js';
import { caution } from './model-card.js';
import { MatrixPlot, mosaicShape } from './matrix-plot.js';
import { find, format, plural, touched } from './page.js';
import { TokensView } from './tokens-view.js';

const UNKNOWN_ID = 0;
const signed = (value, digits = 4) => value.toFixed(digits).replace('-', '−');
const pause = () => new Promise((resolve) => { setTimeout(resolve); });
const TSV_ROWS_AT_ONCE = 64;

export class RecordView {
  /** @param {(task: object) => Promise<Float32Array>} compute runs a task of worker.js */
  constructor(compute) {
    this.compute = compute;
    this.row = 0;
    const choose = (row) => this.choose(row);
    this.tokens = new TokensView(find('tokens'), {
      describe: (row) => this.describeToken(row),
      onChoose: choose,
    });
    this.mosaic = new MatrixPlot(find('mosaic'), {
      kind: 'diverging',
      readout: find('mosaic-readout'),
      hint: touched() ? 'Tap a cell.' : 'Point at a cell, or use the arrow keys.',
      describe: (row, column, value) =>
        `feature ${row * this.mosaic.columns + column}: ${signed(value)}`,
    });
    this.heat = new MatrixPlot(find('heat'), {
      kind: 'diverging',
      readout: find('heat-readout'),
      hint: touched() ? 'Tap a row to choose its token.' : 'Click a row to choose its token.',
      describe: (row, column, value) =>
        `token ${row} ${this.tokenText(row)}, feature ${column}: ${signed(value)}`,
      onPick: (row, column) => {
        choose(row);
        this.mosaic.moveTo(Math.floor(column / this.mosaic.columns), column % this.mosaic.columns);
      },
    });
    this.cosine = new MatrixPlot(find('cosine'), {
      kind: 'sequential',
      readout: find('cosine-readout'),
      hint: touched() ? 'Tap a row to choose its token.' : 'Click a row to choose its token.',
      describe: (row, column, value) => {
        const [one, other] = [row, column].map((place) => `${place} ${this.tokenText(place)}`);
        return `token ${one} with ${other}: ${signed(value, 3)}`;
      },
      onPick: choose,
    });
    this.legends = {
      mosaic: new Legend(find('mosaic-legend'), 'diverging'),
      heat: new Legend(find('heat-legend'), 'diverging'),
      cosine: new Legend(find('cosine-legend'), 'sequential'),
    };
    find('range').addEventListener('change', () => this.colour());
    find('centred').addEventListener('change', () => this.compare());
    find('window-previous').addEventListener('click', () => this.openWindow(this.window - 1));
    find('window-next').addEventListener('click', () => this.openWindow(this.window + 1));
    this.bindDownloads();
  }

  /**
   * @param {{id: string, sequence: string, named: boolean}} record
   * @param {import('./answers.js').Features} features
   * @param {string} command of curl
   */
  show(record, features, command) {
    Object.assign(this, { record, features });
    [, this.length, this.hidden] = features.shape;
    const total = features.counts.reduce((sum, count) => sum + count, 0);
    const specials = 2 * features.counts.length;
    find('result').hidden = false;
    find('result-title').textContent = record.named ? record.id : 'Features';
    find('result-facts').textContent = [
      `${format(record.sequence.length)} bases`,
      `${format(total - specials)} tokens in ${plural(features.counts.length, 'window')}`,
      `${format(this.hidden)} features each`,
      ...caution(features.model),
    ].join(' · ');
    showCommand(find('result-curl-panel'), command, 'the features');
    find('windows').hidden = features.counts.length < 2;
    find('unknown-key').hidden = !features.ids.some((id, place) =>
      id === UNKNOWN_ID && place % this.length < features.counts[Math.floor(place / this.length)]);
    this.scales = new Map();
    this.openWindow(0);
  }

  hide() {
    find('result').hidden = true;
    this.features = null;
  }

  openWindow(window) {
    this.window = window;
    const { counts, windows } = this.features;
    this.count = counts[window];
    const start = window * this.length * this.hidden;
    this.values = this.features.values.subarray(start, start + this.count * this.hidden);
    const [, , firstToken, endToken, firstBase, endBase] = windows.subarray(6 * window);
    find('window-text').textContent = `Window ${window + 1} of ${counts.length}: `
      + `tokens ${format(firstToken + 1)}–${format(endToken)}, `
      + `bases ${format(firstBase + 1)}–${format(endBase)}`;
    find('window-previous').disabled = window === 0;
    find('window-next').disabled = window === counts.length - 1;
    this.firstToken = firstToken;
    this.tokens.show(Array.from({ length: this.count }, (_, row) => ({
      text: this.tokenText(row),
      kind: this.tokenKind(row),
    })));
    this.row = Math.min(1, this.count - 1);
    this.colour();
    this.compare();
  }

  choose(row) {
    this.row = row;
    this.tokens.choose(row);
    find('token-text').textContent = this.describeToken(row);
    const [rows, columns] = mosaicShape(this.hidden);
    const cells = new Float32Array(rows * columns).fill(NaN);
    cells.set(this.values.subarray(row * this.hidden, (row + 1) * this.hidden));
    this.mosaic.show(cells, rows, columns, this.span);
    find('mosaic-title').textContent = `Mosaic of token ${row}, ${this.tokenText(row)}`;
    this.heat.mark(row);
    this.cosine.mark(row, row);
  }

  /* The same span for every token and window, so that they can be compared. */
  colour() {
    const share = Number(find('range').value);
    if (!this.scales.has(share)) this.scales.set(share, this.measure(share));
    const limit = this.scales.get(share);
    this.span = [-limit, limit];
    const [below, above] = share < 1 ? ['≤ ', '≥ '] : ['', ''];
    const labels = [`${below}−${limit.toFixed(2)}`, '0', `${above}${limit.toFixed(2)}`];
    this.legends.mosaic.show(labels);
    this.legends.heat.show(labels);
    this.heat.show(this.values, this.count, this.hidden, this.span);
    this.choose(this.row);
  }

  measure(share) {
    const { values, counts } = this.features;
    const parts = Array.from(counts, (count, window) => {
      const start = window * this.length * this.hidden;
      return values.subarray(start, start + count * this.hidden);
    });
    const limits = parts.map((part) =>
      (share < 1 ? absoluteQuantile(part, share) : absoluteMaximum(part)));
    return Math.max(...limits) || 1;
  }

  async compare() {
    const { values, count, hidden } = this;
    const centred = find('centred').checked;
    const ticket = (this.comparing = (this.comparing ?? 0) + 1);
    const result = await this.compute({
      task: 'cosine',
      values: values.slice(),
      rows: count,
      columns: hidden,
      centred,
    });
    if (ticket !== this.comparing) return;
    let low = 1;
    for (const value of result) low = Math.min(low, value);
    this.cosine.show(result, count, count, [low, 1]);
    this.legends.cosine.show([signed(low, 2), signed((1 + low) / 2, 2), '1']);
    this.cosine.mark(this.row, this.row);
  }

  tokenKind(row) {
    if (row === 0 || row === this.count - 1) return 'special';
    const id = this.features.ids[this.window * this.length + row];
    return id === UNKNOWN_ID ? 'unknown' : 'base';
  }

  bases(row) {
    const at = 2 * (this.window * this.length + row);
    return this.features.offsets.subarray(at, at + 2);
  }

  tokenText(row) {
    if (row === 0) return '[CLS]';
    if (row === this.count - 1) return '[SEP]';
    return this.record.sequence.slice(...this.bases(row));
  }

  describeToken(row) {
    const text = this.tokenText(row);
    const kind = this.tokenKind(row);
    if (kind === 'special') return `token ${row}, ${text}`;
    const [first, end] = this.bases(row);
    const place = end - first === 1
      ? `base ${format(end)}`
      : `bases ${format(first + 1)}–${format(end)}`;
    const id = this.features.ids[this.window * this.length + row];
    return `token ${row}, ${text}, ${place}, ${kind === 'unknown' ? 'unknown' : `id ${id}`}`;
  }

  bindDownloads() {
    const name = (suffix) => fileName(this.record.id, suffix);
    find('result-npy').addEventListener('click', () =>
      save([this.features.npy], name('.features.npy')));
    find('result-tsv').addEventListener('click', async () =>
      save(await this.table(), name('.features.tsv'), 'text/tab-separated-values'));
    const subject = () => (this.record.named ? this.record.id : 'Sequence');
    const note = () => `${this.features.model}, fingerprint ${this.features.fingerprint}`;
    const picture = (plot, legend, title, suffix, aspect) => savePng({
      draw: (...place) => plot.drawCells(...place),
      aspect: aspect ?? plot.columns / plot.rows,
      title: `${subject()} · ${title}`,
      note: note(),
      name: name(suffix),
      legend: { kind: legend.kind, labels: legend.labels },
    });
    const bind = (id, plot, title, suffix, aspect) => find(id).addEventListener('click', () =>
      picture(plot, this.legends[id.replace('-png', '')], title(), suffix(), aspect));
    bind('mosaic-png', this.mosaic, () => find('mosaic-title').textContent,
      () => `.token-${this.row}.png`);
    bind('heat-png', this.heat, () => this.titled('tokens × features'),
      () => '.heat-map.png', 4 / 3);
    bind('cosine-png', this.cosine, () => this.titled('cosine similarity of tokens'),
      () => '.similarity.png');
  }

  titled(what) {
    const { length } = this.features.counts;
    return length > 1 ? `${what}, window ${this.window + 1} of ${length}` : what;
  }

  /* One line a real token; bases 0-based and half-open, as the API counts. */
  async table() {
    const head = ['window', 'row', 'token', 'id', 'first_base', 'end_base'];
    for (let k = 0; k < this.hidden; k += 1) head.push(`f${k}`);
    const parts = tsv([head]);
    const { counts, values, ids } = this.features;
    for (let window = 0; window < counts.length; window += 1) {
      for (let row = 0; row < counts[window]; row += 1) {
        const place = window * this.length + row;
        const special = row === 0 || row === counts[window] - 1;
        const [first, end] = this.features.offsets.subarray(2 * place, 2 * place + 2);
        const token = special ? (row ? '[SEP]' : '[CLS]') : this.record.sequence.slice(first, end);
        const own = values.subarray(place * this.hidden, (place + 1) * this.hidden);
        const bases = special ? ['', ''] : [first, end];
        const cells = [window, row, token, ids[place], ...bases, ...Array.from(own, shortest)];
        parts.push(...tsv([cells]));
        // The page stays alive while a long table is written.
        if (place % TSV_ROWS_AT_ONCE === 0) await pause();
      }
    }
    return parts;
  }
}
