/* Two records, such as alleles, base by base. */

/**
 * Which base of another sequence stands for each base: the same one where both are as long, else
 * counted from the end that both have in common; -1 in between.
 *
 * @returns {(base: number) => number}
 */
export function counterpart(sequence, other) {
  if (sequence.length === other.length) return (base) => base;
  const most = Math.min(sequence.length, other.length);
  let [front, back] = [0, 0];
  while (front < most && sequence[front] === other[front]) front += 1;
  while (back < most - front && sequence.at(-1 - back) === other.at(-1 - back)) back += 1;
  const shift = other.length - sequence.length;
  return (base) => {
    if (base < front) return base;
    return base >= sequence.length - back ? base + shift : -1;
  };
}

/**
 * 1 less the cosine between each token's features and those of the other record at the same bases (the
 * mean of its tokens there), both without the mean of this record's tokens.
 *
 * @param {import('./record-data.js').RecordData} data
 * @param {import('./record-data.js').RecordData} other
 * @returns {Float32Array} a value a token, from 0 to 2; NaN where the other has no such bases
 */
export function differences(data, other) {
  const { count, hidden, mean, starts, ends } = data;
  const across = counterpart(data.record.sequence, other.record.sequence);
  const theirs = new Float64Array(hidden);
  return Float32Array.from({ length: count }, (_, token) => {
    theirs.fill(0);
    let bases = 0;
    for (let base = starts[token]; base < ends[token]; base += 1) {
      const place = other.places[other.tokenAt(across(base))];
      if (across(base) < 0 || place === undefined) continue;
      bases += 1;
      const row = other.vector(place);
      for (let k = 0; k < hidden; k += 1) theirs[k] += row[k];
    }
    if (!bases) return NaN;
    const own = data.vector(data.places[token]);
    let [product, ownSquare, square] = [0, 0, 0];
    for (let k = 0; k < hidden; k += 1) {
      const [a, b] = [own[k] - mean[k], theirs[k] / bases - mean[k]];
      product += a * b;
      ownSquare += a * a;
      square += b * b;
    }
    return Math.max(0, 1 - product / (Math.sqrt(ownSquare * square) || 1));
  });
}

/** The tokens that differ most, the first one first: at most `count`, no two side by side. */
export function mostDifferent(values, count) {
  const order = Array.from(values.keys()).filter((token) => values[token] > 0)
    .sort((left, right) => values[right] - values[left]);
  const found = [];
  for (const token of order) {
    if (found.length === count) break;
    if (found.every((other) => Math.abs(other - token) > 1)) found.push(token);
  }
  return found;
}
