/* Stretches of a record that are most like a chosen one. */

/**
 * The runs of `length` tokens with the highest mean similarity, the best first; none overlaps another,
 * or the tokens [from, to) that are asked about.
 *
 * @param {Float32Array} similarity one a token
 * @returns {{first: number, end: number, mean: number}[]}
 */
export function bestRuns(similarity, length, [from, to], count) {
  const means = [];
  let sum = 0;
  for (let token = 0; token < similarity.length; token += 1) {
    sum += similarity[token];
    if (token >= length) sum -= similarity[token - length];
    const first = token + 1 - length;
    if (first >= 0 && (token < from || first >= to)) means.push([sum / length, first]);
  }
  means.sort((left, right) => right[0] - left[0]);
  const found = [];
  for (const [mean, first] of means) {
    if (found.length === count) break;
    if (found.every((other) => first + length <= other.first || first >= other.end)) {
      found.push({ first, end: first + length, mean });
    }
  }
  return found;
}
