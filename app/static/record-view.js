/* One record, seen closely: the strip along its bases, and of what is in view its tokens, one token's
 * mosaic, the heat map, the similarities. */

import { absoluteMaximum, absoluteQuantile } from './analysis.js';
import { codeOfFeatures, fileName, save, showCode } from './downloads.js';
import { featureTable } from './feature-table.js';
import { Legend } from './legend.js';
import { MatrixPlot, mosaicShape } from './matrix-plot.js';
import { caution, madeBy } from './model-card.js';
import { find, format, plural, touched } from './page.js';
import { savePng } from './picture.js';
import { RecordData } from './record-data.js';
import { StripView } from './strip-view.js';
import { TokensView } from './tokens-view.js';

const signed = (value, digits = 4) => value.toFixed(digits).replace('-', '−');

export class RecordView {
  /** @param {(task: object) => Promise<object>} compute runs a task of worker.js */
  constructor(compute) {
    this.compute = compute;
    const chooseRow = (row) => this.choose(this.places[row]);
    this.strip = new StripView(compute, {
      onChoose: (place) => this.choose(place),
      onSettled: () => this.follow(),
    });
    this.tokens = new TokensView(find('tokens'), {
      describe: (row) => this.describeToken(this.places[row]),
      onChoose: chooseRow,
    });
    this.mosaic = new MatrixPlot(find('mosaic'), {
      kind: 'diverging',
      readout: find('mosaic-readout'),
      hint: touched() ? 'Tap a cell.' : 'Point at a cell, or use the arrow keys.',
      describe: (row, column, value) =>
        `feature ${row * this.mosaic.columns + column}: ${signed(value)}`,
    });
    const rowHint = touched() ? 'Tap a row to choose its token.' : 'Click a row to choose its token.';
    this.heat = new MatrixPlot(find('heat'), {
      kind: 'diverging',
      readout: find('heat-readout'),
      hint: rowHint,
      describe: (row, column, value) =>
        `${this.data.name(this.places[row])}, feature ${column}: ${signed(value)}`,
      onPick: (row, column) => {
        chooseRow(row);
        this.mosaic.moveTo(Math.floor(column / this.mosaic.columns), column % this.mosaic.columns);
      },
    });
    this.cosine = new MatrixPlot(find('cosine'), {
      kind: 'sequential',
      readout: find('cosine-readout'),
      hint: rowHint,
      describe: (row, column, value) => {
        const [one, other] = [row, column].map((at) => this.data.name(this.places[at]));
        return `${one} with ${other}: ${signed(value, 3)}`;
      },
      onPick: chooseRow,
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
    const data = new RecordData(record, features);
    Object.assign(this, { record, features, data, hidden: data.hidden });
    find('result').hidden = false;
    find('result-title').textContent = record.named ? record.id : 'Features';
    find('result-facts').textContent = [
      `${format(data.bases)} bases`,
      `${format(data.count)} tokens in ${plural(data.windows, 'window')}`,
      `${format(data.hidden)} features each`,
      ...caution(features.model),
    ].join(' · ');
    showCode(find('result-code-panel'), codeOfFeatures(command, record.id), 'the features');
    for (const place of document.querySelectorAll('.window-tokens')) {
      place.textContent = format(data.length - 2);
    }
    find('unknown-key').hidden = !data.places.some((place) => data.kind(place) === 'unknown');
    this.scales = new Map();
    this.places = null;
    this.place = data.places[0] ?? 0;
    this.strip.show(data);
    this.strip.choose(this.place);
    this.showPlaces(data.placesOfWindow(0));
  }

  /** @param {{id: string, sequence: string} | null} record another one, or null for none */
  compareWith(record, features) {
    this.strip.compareWith(record && new RecordData(record, features));
  }

  hide() {
    find('result').hidden = true;
    this.data = null;
  }

  get window() {
    return this.data.windowOf(this.place);
  }

  /** Look at all of one window, its first token chosen. */
  openWindow(window) {
    const { data } = this;
    const [first, end] = data.firstTokens.slice(window, window + 2);
    this.place = data.places[first];
    this.strip.choose(this.place);
    this.strip.look(data.starts[first], data.ends[end - 1]);
    this.opened = this.strip.view;
    this.showPlaces(data.placesOfWindow(window));
  }

  /* What is in view of the strip, if that is less than a window; else the chosen token's window. */
  follow() {
    // A window of a few bases is less than the closest view: its neighbours are in view, too.
    if (!this.data || this.strip.view === this.opened) return;
    this.showPlaces(this.placesInView());
  }

  placesInView() {
    const { data } = this;
    const whole = data.placesOfWindow(this.window);
    const [first, end] = data.tokensIn(this.strip.view.from, this.strip.view.to);
    const window = data.windowOf(data.places[first] ?? 0);
    const fills = data.firstTokens[window] === first && data.firstTokens[window + 1] === end;
    if (fills) return data.placesOfWindow(window);
    if (first === end || end - first > data.length - 2) return whole;
    return data.places.slice(first, end);
  }

  showPlaces(places) {
    const same = this.places?.length === places.length
      && places.every((place, row) => place === this.places[row]);
    if (same) return;
    this.places = places;
    this.values = this.data.gather(places);
    this.sayWhere();
    this.tokens.show(Array.from(places, (place) => ({
      text: this.data.text(place),
      kind: this.data.kind(place),
    })));
    this.colour();
    this.compare();
  }

  /* Which part of the record the panels below the strip show. */
  sayWhere() {
    const { data, places } = this;
    const own = Array.from(places, (place) => data.tokenOf(place)).filter((token) => token >= 0);
    const [first, last] = [own[0], own.at(-1)];
    const all = places.length > own.length;
    find('windows').hidden = data.windows < 2 && all;
    const what = all ? `Window ${this.window + 1} of ${data.windows}` : 'In view';
    find('window-text').textContent = own.length === 0 ? what : `${what}: `
      + `tokens ${format(first + 1)}–${format(last + 1)}, `
      + `bases ${format(data.starts[first] + 1)}–${format(data.ends[last])}`;
    const alone = data.windows < 2;
    for (const [id, edge] of [['window-previous', 0], ['window-next', data.windows - 1]]) {
      find(id).disabled = this.window === edge;
      find(id).hidden = alone;
    }
  }

  /** Choose a place: every panel follows. */
  choose(place) {
    const { data } = this;
    this.place = place;
    this.strip.reveal(place);
    this.strip.choose(place);
    const [first, end] = data.tokensIn(this.strip.view.from, this.strip.view.to);
    // Elsewhere in a long record of which more is in view than the panels show: its window.
    if (!this.places.includes(place) && end - first > data.length - 2) {
      this.showPlaces(data.placesOfWindow(this.window));
    } else this.mark();
  }

  /* What is chosen, in every panel below the strip; it may be out of their view. */
  mark() {
    const { data, place } = this;
    const row = this.places.indexOf(place);
    this.tokens.choose(row);
    find('token-text').textContent = this.describeToken(place);
    const [rows, columns] = mosaicShape(this.hidden);
    const cells = new Float32Array(rows * columns).fill(NaN);
    cells.set(data.vector(place));
    this.mosaic.show(cells, rows, columns, this.span);
    find('mosaic-title').textContent = `Mosaic of ${this.title(place)}`;
    this.heat.mark(row < 0 ? null : row);
    this.cosine.mark(row < 0 ? null : row, row < 0 ? null : row);
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
    this.heat.show(this.values, this.places.length, this.hidden, this.span);
    this.mark();
  }

  measure(share) {
    const { values, counts } = this.features;
    const stride = this.data.length * this.hidden;
    const parts = Array.from(counts, (count, window) =>
      values.subarray(window * stride, window * stride + count * this.hidden));
    const limits = parts.map((part) =>
      (share < 1 ? absoluteQuantile(part, share) : absoluteMaximum(part)));
    return Math.max(...limits) || 1;
  }

  async compare() {
    const { values, hidden, data } = this;
    const count = this.places.length;
    const ticket = (this.comparing = (this.comparing ?? 0) + 1);
    const result = await this.compute({
      task: 'cosine',
      values: values.slice(),
      rows: count,
      columns: hidden,
      mean: find('centred').checked ? data.mean : null,
    });
    if (ticket !== this.comparing || this.data !== data) return;
    let low = 1;
    for (const value of result) low = Math.min(low, value);
    this.cosine.show(result, count, count, [low, 1]);
    this.legends.cosine.show([signed(low, 2), signed((1 + low) / 2, 2), '1']);
  }

  title(place) {
    const { data } = this;
    return data.tokenOf(place) < 0 && data.windows === 1
      ? `token ${place}, ${data.text(place)}` : data.name(place);
  }

  describeToken(place) {
    const { data } = this;
    const token = data.tokenOf(place);
    if (token < 0) return this.title(place);
    const id = data.kind(place) === 'unknown' ? 'unknown' : `id ${this.features.ids[place]}`;
    return `${data.name(place)}, ${this.strip.bases(token)}, ${id}`;
  }

  bindDownloads() {
    const name = (suffix) => fileName(this.record.id, suffix);
    find('result-npy').addEventListener('click', () =>
      save([this.features.npy], name('.features.npy')));
    find('result-tsv').addEventListener('click', async () =>
      save(await featureTable(this.data), name('.features.tsv'), 'text/tab-separated-values'));
    const subject = () => (this.record.named ? this.record.id : 'Sequence');
    const bind = (id, plot, title, suffix, aspect) => find(`${id}-png`).addEventListener('click', () =>
      savePng({
        draw: (...place) => plot.drawCells(...place),
        aspect: aspect ?? plot.columns / plot.rows,
        title: `${subject()} · ${title()}`,
        note: madeBy(this.features),
        name: name(suffix()),
        legend: { kind: this.legends[id].kind, labels: this.legends[id].labels },
      }));
    bind('mosaic', this.mosaic, () => find('mosaic-title').textContent, () => `.token-${this.tokenNumber()}.png`);
    bind('heat', this.heat, () => this.titled('tokens × features'), () => '.heat-map.png', 4 / 3);
    bind('cosine', this.cosine, () => this.titled('cosine similarity of tokens'), () => '.similarity.png');
  }

  tokenNumber() {
    const token = this.data.tokenOf(this.place);
    return token < 0 ? this.data.text(this.place).replace(/\W/g, '') : token + 1;
  }

  titled(what) {
    return find('windows').hidden ? what : `${what}, ${find('window-text').textContent}`;
  }
}
