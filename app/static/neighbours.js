/* Which records are most like a chosen one. */

/** Length of each row of a matrix. */
export function norms(values, rows, columns) {
  const result = new Float32Array(rows);
  for (let row = 0; row < rows; row += 1) {
    let sum = 0;
    for (let k = row * columns; k < (row + 1) * columns; k += 1) sum += values[k] ** 2;
    result[row] = Math.sqrt(sum);
  }
  return result;
}

/**
 * The rows with the largest cosine to one row, the nearest first; not the row itself.
 *
 * @param {Float32Array} values rows x columns
 * @param {Float32Array} lengths of the rows, from `norms`
 * @returns {{index: number, cosine: number}[]}
 */
export function nearest(values, lengths, columns, chosen, count) {
  const own = values.subarray(chosen * columns, (chosen + 1) * columns);
  const found = [];
  lengths.forEach((length, index) => {
    if (index === chosen) return;
    let sum = 0;
    const start = index * columns;
    for (let k = 0; k < columns; k += 1) sum += own[k] * values[start + k];
    const scale = length * lengths[chosen];
    found.push({ index, cosine: scale > 0 ? sum / scale : 0 });
  });
  return found.sort((left, right) => right.cosine - left.cosine).slice(0, count);
}
