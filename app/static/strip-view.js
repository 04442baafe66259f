/* The strip of one record: its tracks, what is most like the chosen token, going to a place. */

import { bestRuns } from './alike.js';
import { differences, mostDifferent } from './difference.js';
import { copy, fileName, save, shortest, tsv } from './downloads.js';
import { madeBy } from './model-card.js';
import { find, format, plural, touched } from './page.js';
import { savePng } from './picture.js';
import { findPlace } from './places.js';
import { toFasta } from './sequence.js';
import { listStretches } from './stretches.js';
import { Strip } from './strip.js';
import { drawBand, drawBars, drawGc, mixed, toPixels } from './tracks.js';
import { atSeam, peaks, unlikeness } from './unlike.js';

const ALIKE = 5;
const ELSEWHERE = 3; // at least, of which the place is no reason
const LOOKED_AT = 60;
const UNLIKE = 3;
const AROUND = 150; // bases on either side of a place that is gone to
const SETTLED = 150; // milliseconds without a movement, after which panels follow
const ZOOM = 2;
const SAME_PLACE = 0.1; // of a window: how far from the same place in another one
const LETTERS = 18; // of a stretch that are written out
const signed = (value, digits) => value.toFixed(digits).replace('-', '−');

export class StripView {
  /**
   * @param {(task: object) => Promise<object>} compute runs a task of worker.js
   * @param {{onChoose: (place: number) => void, onSettled: () => void}} options `onSettled`: the view
   *   has stood still for a moment
   */
  constructor(compute, { onChoose, onSettled }) {
    this.compute = compute;
    this.onSettled = onSettled;
    this.strip = new Strip(find('strip'), {
      describe: (token) => this.describe(token),
      onChoose: (token) => onChoose(this.data.places[token]),
      onExtend: (token) => this.extend(token),
      onView: () => this.moved(),
    });
    find('centred').addEventListener('change', () => this.compare());
    find('strip-in').addEventListener('click', () => this.strip.zoom(ZOOM, this.focus()));
    find('strip-out').addEventListener('click', () => this.strip.zoom(1 / ZOOM, this.focus()));
    find('strip-all').addEventListener('click', () => this.strip.look(0, this.data.bases));
    find('goto').addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.goTo(find('goto').value);
    });
    find('strip-tsv').addEventListener('click', () => save(
      tsv(this.table()), fileName(this.data.record.id, '.tracks.tsv'), 'text/tab-separated-values'));
    find('strip-png').addEventListener('click', () => this.picture());
    find('region-copy').addEventListener('click', () => this.copyRegion());
    this.jump = onChoose;
  }

  get view() {
    return this.strip.view;
  }

  /** @param {import('./record-data.js').RecordData} data */
  async show(data) {
    this.data = data;
    this.colours = null;
    this.similarity = new Float32Array(data.count);
    this.range = [0, 1];
    this.unlike = unlikeness(data);
    this.showUnlike();
    this.largest = 0;
    for (const norm of data.norms) this.largest = Math.max(this.largest, norm);
    this.difference = null;
    find('different').replaceChildren();
    find('goto-text').textContent = '';
    find('goto').value = '';
    this.strip.show(data, this.tracks());
    const result = await this.compute({
      task: 'colours', values: data.gather(data.places), rows: data.count, columns: data.hidden,
    });
    if (this.data !== data) return;
    this.colours = result;
    this.strip.redraw();
  }

  /** Beside another record, on a track of its own; null for none. @param {RecordData | null} other */
  compareWith(other) {
    this.other = other;
    this.difference = other && differences(this.data, other);
    const found = other ? mostDifferent(this.difference, UNLIKE) : [];
    find('different').replaceChildren(...listStretches(`Most different from ${other?.record.id}:`, found.map((token) => ({
      text: `${this.letters(token, token + 1)}, ${this.bases(token)} (${this.difference[token].toFixed(2)})`,
      onClick: () => this.take(token, token + 1),
    }))));
    this.strip.lay(this.tracks());
  }

  tracks() {
    const largest = this.largest || 1;
    const pixels = (values, box, view, channels) => toPixels(values, this.data, view, box.width, channels);
    return [
      {
        height: 58,
        label: () => `Similarity to ${this.subject()}: ${signed(this.range[0], 2)} to 1`,
        draw: (context, box, view) => drawBars(
          context, box, pixels(this.similarity, box, view), this.range, Math.max(0, this.range[0])),
      },
      this.difference && this.differenceTrack(pixels),
      this.unlike && this.unlikeTrack(pixels),
      {
        height: 34,
        label: () => `Length of the features: 0 to ${largest.toPrecision(3)}`,
        draw: (context, box, view) =>
          drawBars(context, box, pixels(this.data.norms, box, view), [0, largest], 0),
      },
      {
        height: 20,
        label: () => this.colourLabel(),
        draw: (context, box, view) => this.colours
          && drawBand(context, box, mixed(pixels(this.colours.colours, box, view, 3))),
      },
      {
        height: 34,
        label: () => 'GC content: 0 to 100 %, over 50 bases or a pixel',
        draw: (context, box, view) => drawGc(context, box, this.data, view),
      },
    ].filter(Boolean);
  }

  differenceTrack(pixels) {
    let high = 0;
    for (const value of this.difference) if (value > high) high = value;
    return {
      height: 34,
      label: () => `Difference from ${this.other.record.id}, base by base: 0 to ${high.toPrecision(2)}`,
      draw: (context, box, view) => drawBars(context, box, pixels(this.difference, box, view), [0, high], 0),
    };
  }

  unlikeTrack(pixels) {
    let [low, high] = [1, 1];
    for (const value of this.unlike) [low, high] = [Math.min(low, value), Math.max(high, value)];
    return {
      height: 34,
      label: () => `Unlike the rest: ${low.toFixed(1)} to ${high.toFixed(1)} times the usual`,
      draw: (context, box, view) => drawBars(context, box, pixels(this.unlike, box, view), [low, high], 1),
    };
  }

  colourLabel() {
    if (!this.colours) return 'Colours: being computed…';
    const percent = this.colours.explained.map((share) => Math.round(100 * share));
    return `Colours: three directions with ${percent.join(', ')} % of the variance`;
  }

  /** A place was chosen, here or elsewhere. */
  choose(place) {
    this.place = place;
    const token = this.data.tokenOf(place);
    this.region = [token, token + 1];
    this.strip.choose(token);
    this.compare();
  }

  /** From the chosen token to another one: similarity is to their mean. */
  extend(token) {
    const chosen = Math.max(0, this.data.tokenOf(this.place));
    this.ask(Math.min(chosen, token), Math.max(chosen, token) + 1);
  }

  ask(first, end) {
    this.region = [first, end];
    this.compare();
  }

  compare() {
    const [first, end] = this.region;
    const places = first < 0 ? [this.place] : this.data.places.slice(first, end);
    this.similarity = this.data.similarities(places, find('centred').checked);
    let low = 1;
    for (const value of this.similarity) low = Math.min(low, value);
    this.range = [low, 1];
    this.strip.mark(this.region);
    this.showAlike();
    this.showRegion();
    this.say();
  }

  /* What is chosen, as text that can be taken along. */
  showRegion() {
    const [first, end] = this.region;
    find('region').hidden = first < 0;
    if (first < 0) return;
    const [from, to] = [this.data.starts[first], this.data.ends[end - 1]];
    const gc = this.data.gcContent(from, to);
    const facts = [this.bases(first, end - 1), plural(end - first, 'token'), plural(to - from, 'base')];
    if (!Number.isNaN(gc)) facts.push(`GC ${Math.round(100 * gc)} %`);
    find('region-text').textContent = `Chosen: ${facts.join(', ')}`;
    find('region-said').textContent = '';
  }

  async copyRegion() {
    const [first, end] = this.region;
    const [from, to] = [this.data.starts[first], this.data.ends[end - 1]];
    const { id, sequence, named } = this.data.record;
    const fasta = toFasta([{ id: `${named ? id : 'sequence'}:${from + 1}-${to}`, sequence: sequence.slice(from, to) }]);
    const copied = await copy(fasta);
    find('region-said').textContent = copied ? 'Copied.' : 'This browser does not let a page copy here.';
  }

  /* What similarity is to. */
  subject() {
    const [first, end] = this.region;
    if (end - first < 2) return this.data.name(this.place);
    return `the mean of ${end - first} tokens, ${this.bases(first, end - 1)}`;
  }

  reveal(place) {
    this.strip.reveal(this.data.tokenOf(place));
  }

  look(from, to) {
    this.strip.look(from, to);
  }

  describe(token) {
    const place = this.data.places[token];
    const gc = this.data.gcContent(this.data.starts[token] - 25, this.data.ends[token] + 25);
    const parts = [
      this.data.name(place),
      this.bases(token),
      `similarity ${signed(this.similarity[token], 2)}`,
      ...(this.unlike ? [`unlike the rest ${this.unlike[token].toFixed(1)}`] : []),
      `length ${this.data.norms[token].toPrecision(3)}`,
    ];
    if (!Number.isNaN(gc)) parts.push(`GC ${Math.round(100 * gc)} % around it`);
    return parts.join(', ');
  }

  bases(token, last = token) {
    const [first, end] = [this.data.starts[token] + 1, this.data.ends[last]];
    return first === end ? `base ${format(end)}` : `bases ${format(first)}–${format(end)}`;
  }

  /* The chosen token if it is in view: what zooming keeps in its place. */
  focus() {
    const base = this.strip.chosen < 0 ? -1 : this.data.starts[this.strip.chosen];
    return base >= this.view.from && base <= this.view.to ? base : undefined;
  }

  moved() {
    this.say();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.onSettled(), SETTLED);
  }

  say() {
    const { from, to } = this.view;
    const shown = `Bases ${format(Math.floor(from) + 1)}–${format(Math.ceil(to))} of ${format(this.data.bases)}.`;
    find('strip-readout').textContent = touched()
      ? `${shown} Tap a token, drag to move, two fingers zoom; Go to takes a stretch (120-480).`
      : `${shown} Click a token, Shift and click another for all between; drag moves; Ctrl and the wheel, or + and −, zoom; arrow keys go token by token.`;
  }

  /* The stretches that are most like what was asked about, as ways to get there. */
  showAlike() {
    const [from, to] = this.region;
    const runs = bestRuns(this.similarity, to - from, this.region, LOOKED_AT)
      .map((run) => ({ ...run, beside: this.besides(run.first, run.end) }));
    const best = runs.slice(0, ALIKE);
    const elsewhere = ({ beside }) => !beside;
    const missing = Math.max(0, ELSEWHERE - best.filter(elsewhere).length);
    const others = runs.slice(ALIKE).filter(elsewhere).slice(0, missing);
    find('alike').replaceChildren(...this.listed('Most like it:', best), ...this.listed('Then, elsewhere:', others));
  }

  listed(words, runs) {
    return listStretches(words, runs.map(({ first, end, mean, beside }) => ({
      text: `${this.letters(first, end)}, ${this.bases(first, end - 1)} (${signed(mean, 2)}${beside})`,
      onClick: () => this.visit(first, end),
    })));
  }

  letters(first, end) {
    const all = this.data.record.sequence.slice(this.data.starts[first], this.data.ends[end - 1]);
    return all.length > LETTERS ? `${all.slice(0, LETTERS)}…` : all;
  }

  /* The stretches that are most unlike the rest, as ways to choose them. */
  showUnlike() {
    const found = this.unlike ? peaks(this.unlike, UNLIKE) : [];
    find('unlike').replaceChildren(...listStretches('Most unlike the rest:', found.map(({ first, end, peak }) => ({
      text: `${this.bases(first, end - 1)} (${peak.toFixed(1)} times the usual`
        + `${atSeam(this.data, first, end) ? ', at the edge of a window' : ''})`,
      onClick: () => this.take(first, end),
    }))));
  }

  /* What else makes a stretch like the one that was asked about: where it stands. */
  besides(first, end) {
    const { places, length } = this.data;
    const [from, to] = this.region;
    if (first < to + (to - from) && end > from - (to - from)) return ', next to it';
    if (from < 0 || this.data.windowOf(places[first]) === this.data.windowOf(places[from])) return '';
    const apart = Math.abs((places[first] % length) - (places[from] % length));
    // The end of a window is as near to the beginning of the next one.
    return Math.min(apart, length - apart) <= SAME_PLACE * length ? ', same place in its window' : '';
  }

  /* Look at a stretch; what was asked about stays. */
  visit(first, end) {
    const [from, to] = [this.data.starts[first], this.data.ends[end - 1]];
    const room = Math.max(0, Math.min(this.strip.span, 2 * AROUND) - (to - from)) / 2;
    this.strip.hovered = first;
    this.strip.look(from - room, to + room);
    find('goto-text').textContent = end - first > 1
      ? `${this.bases(first, end - 1)}, GC ${Math.round(100 * this.data.gcContent(from, to))} %` : this.describe(first);
  }

  /* Choose a stretch, and look at it with some of its surroundings. */
  take(first, end) {
    const [from, to] = [this.data.starts[first], this.data.ends[end - 1]];
    const room = Math.max(AROUND, to - from);
    this.jump(this.data.places[first]);
    this.ask(first, end);
    this.strip.look(from - room, to + room);
    find('goto-text').textContent = '';
  }

  /** A position, a range, or bases to be found after the chosen token. */
  goTo(text) {
    const after = this.strip.chosen < 0 ? 0 : this.data.ends[this.strip.chosen];
    const { from, to, said } = findPlace(text.trim(), this.data.record.sequence, after);
    find('goto-text').textContent = said;
    if (from === undefined) return;
    const [first, end] = this.data.tokensIn(from, to);
    if (first < end) this.jump(this.data.places[first]);
    // A range is asked about as a whole.
    if (first < end && to - from > 1) this.ask(first, end);
    // After the choice, which brings its token into view: that may begin before the range.
    const room = Math.max(0, AROUND - (to - from) / 2);
    this.strip.look(from - room, to + room);
  }

  /* A line a token; bases 0-based and half-open, as the API counts. */
  table() {
    const { difference } = this;
    const head = ['token', 'first_base', 'end_base', 'similarity', 'unlike', 'length', 'red', 'green', 'blue', 'gc',
      ...(difference ? ['difference'] : [])];
    const rows = Array.from(this.data.places, (place, token) => {
      const [first, end] = [this.data.starts[token], this.data.ends[token]];
      const colours = [0, 1, 2].map((c) => (this.colours ? shortest(this.colours.colours[3 * token + c]) : ''));
      const gc = this.data.gcContent(first - 25, end + 25);
      return [this.data.text(place), first, end, shortest(this.similarity[token]),
        this.unlike ? shortest(this.unlike[token]) : '', shortest(this.data.norms[token]), ...colours, Number.isNaN(gc) ? '' : gc.toFixed(4),
        ...(difference ? [Number.isNaN(difference[token]) ? '' : shortest(difference[token])] : [])];
    });
    return [head, ...rows];
  }

  picture() {
    const { record, features } = this.data;
    const { from, to } = this.view;
    const height = this.strip.heightOf(this.strip.tracks);
    savePng({
      draw: (context, width) => this.strip.draw(context, width, height, { plain: true }),
      aspect: 1320 / height,
      title: `${record.named ? record.id : 'Sequence'} · bases ${format(Math.floor(from) + 1)}–${format(Math.ceil(to))}`,
      note: madeBy(features),
      name: fileName(record.id, '.tracks.png'),
    });
  }
}
