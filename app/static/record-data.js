/* One record and its features: which token stands where, and what can be measured along it.
 *
 * A *place* is a row of the answer, window * length + row; a *token* counts the sequence's own tokens
 * along the record from 0, all windows in one line. */

const UNKNOWN_ID = 0;
/** Bases that a value of GC content is taken over, where a pixel shows fewer. */
export const GC_BASES = 50;

export class RecordData {
  /**
   * @param {{id: string, sequence: string, named: boolean}} record
   * @param {import('./answers.js').Features} features
   */
  constructor(record, features) {
    Object.assign(this, { record, features });
    [this.windows, this.length, this.hidden] = features.shape;
    const { counts, offsets } = features;
    const total = counts.reduce((sum, count) => sum + Math.max(0, count - 2), 0);
    this.count = total;
    this.places = new Int32Array(total);
    this.starts = new Float64Array(total);
    this.ends = new Float64Array(total);
    this.firstTokens = [];
    let token = 0;
    counts.forEach((count, window) => {
      this.firstTokens.push(token);
      for (let row = 1; row < count - 1; row += 1, token += 1) {
        const place = window * this.length + row;
        this.places[token] = place;
        this.starts[token] = offsets[2 * place];
        this.ends[token] = offsets[2 * place + 1];
      }
    });
    this.firstTokens.push(total);
    this.measure();
  }

  get bases() {
    return this.record.sequence.length;
  }

  vector(place) {
    return this.features.values.subarray(place * this.hidden, (place + 1) * this.hidden);
  }

  windowOf(place) {
    return Math.floor(place / this.length);
  }

  /** Index of the token at a place; -1 for [CLS] and [SEP]. */
  tokenOf(place) {
    const window = this.windowOf(place);
    const row = place % this.length;
    if (row === 0 || row === this.features.counts[window] - 1) return -1;
    return this.firstTokens[window] + row - 1;
  }

  /** All places of a window that hold something, [CLS] and [SEP] among them. */
  placesOfWindow(window) {
    const first = window * this.length;
    return Int32Array.from({ length: this.features.counts[window] }, (_, row) => first + row);
  }

  /** The first token that ends behind a base; `count` where there is none. */
  tokenAt(base) {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] > base) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Tokens with a base in [from, to): first and end. */
  tokensIn(from, to) {
    const first = this.tokenAt(from);
    let end = this.tokenAt(to);
    if (end < this.count && this.starts[end] < to) end += 1;
    return [first, Math.max(first, end)];
  }

  kind(place) {
    if (this.tokenOf(place) < 0) return 'special';
    return this.features.ids[place] === UNKNOWN_ID ? 'unknown' : 'base';
  }

  text(place) {
    const token = this.tokenOf(place);
    if (token < 0) return place % this.length ? '[SEP]' : '[CLS]';
    return this.record.sequence.slice(this.starts[token], this.ends[token]);
  }

  /** `token 41, TATC`: tokens count from 1, and [CLS] of the only window is 0. */
  name(place) {
    const token = this.tokenOf(place);
    if (token >= 0) return `token ${token + 1}, ${this.text(place)}`;
    const window = this.windows > 1 ? ` of window ${this.windowOf(place) + 1}` : '';
    return `${this.text(place)}${window}`;
  }

  /* What every token is compared with: their mean, and each one's length with and without it. */
  measure() {
    const { hidden, count } = this;
    const mean = new Float64Array(hidden);
    for (const place of this.places) {
      const own = this.vector(place);
      for (let k = 0; k < hidden; k += 1) mean[k] += own[k] / count;
    }
    this.mean = Float32Array.from(mean);
    this.norms = new Float32Array(count);
    this.distances = new Float32Array(count);
    for (let token = 0; token < count; token += 1) {
      const own = this.vector(this.places[token]);
      let [plain, centred] = [0, 0];
      for (let k = 0; k < hidden; k += 1) {
        plain += own[k] ** 2;
        centred += (own[k] - this.mean[k]) ** 2;
      }
      this.norms[token] = Math.sqrt(plain);
      this.distances[token] = Math.sqrt(centred);
    }
  }

  /**
   * Cosine of the mean of some places' rows with every token's row; without the mean of all tokens
   * if `centred`.
   *
   * @param {Int32Array | number[]} places
   * @returns {Float32Array} a value a token
   */
  similarities(places, centred) {
    const { hidden, count } = this;
    const query = new Float64Array(hidden);
    for (const place of places) {
      const own = this.vector(place);
      for (let k = 0; k < hidden; k += 1) query[k] += own[k] / places.length;
    }
    let [shift, square] = [0, 0];
    for (let k = 0; k < hidden; k += 1) {
      if (centred) query[k] -= this.mean[k];
      if (centred) shift += query[k] * this.mean[k];
      square += query[k] ** 2;
    }
    const lengths = centred ? this.distances : this.norms;
    const result = new Float32Array(count);
    for (let token = 0; token < count; token += 1) {
      const other = this.vector(this.places[token]);
      let sum = -shift;
      for (let k = 0; k < hidden; k += 1) sum += query[k] * other[k];
      const scale = Math.sqrt(square) * lengths[token];
      result[token] = scale > 0 ? sum / scale : 0;
    }
    return result;
  }

  /** The rows of places, one after the other: a copy. */
  gather(places) {
    const rows = new Float32Array(places.length * this.hidden);
    places.forEach((place, row) => rows.set(this.vector(place), row * this.hidden));
    return rows;
  }

  /** G and C, and all of A, C, G, T, before each base: what GC content is read from. */
  get composition() {
    if (!this.sums) {
      const { sequence } = this.record;
      const gc = new Uint32Array(sequence.length + 1);
      const known = new Uint32Array(sequence.length + 1);
      for (let at = 0; at < sequence.length; at += 1) {
        const letter = sequence[at];
        const strong = letter === 'G' || letter === 'C';
        gc[at + 1] = gc[at] + (strong ? 1 : 0);
        known[at + 1] = known[at] + (strong || letter === 'A' || letter === 'T' ? 1 : 0);
      }
      this.sums = { gc, known };
    }
    return this.sums;
  }

  /** Share of G and C among the bases A, C, G, T in [from, to); NaN where there is none. */
  gcContent(from, to) {
    const { gc, known } = this.composition;
    const first = Math.max(0, Math.round(from));
    const end = Math.min(this.bases, Math.max(first, Math.round(to)));
    const all = known[end] - known[first];
    return all ? (gc[end] - gc[first]) / all : NaN;
  }
}
