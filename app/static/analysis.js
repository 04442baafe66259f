/* The arithmetic behind the plots. Matrices are Float32Array, row after row. */

/**
 * Cosine similarity of every row with every row.
 *
 * @param {Float32Array} values rows x columns
 * @param {Float32Array | null} mean a row that is subtracted from each first
 * @returns {Float32Array} rows x rows; a row of zeros has similarity 0 with all
 */
export function cosine(values, rows, columns, mean = null) {
  const unit = Float32Array.from(values);
  if (mean) for (let k = 0; k < unit.length; k += 1) unit[k] -= mean[k % columns];
  for (let row = 0; row < rows; row += 1) {
    const own = unit.subarray(row * columns, (row + 1) * columns);
    const norm = Math.sqrt(dot(own, own));
    if (norm > 0) for (let k = 0; k < columns; k += 1) own[k] /= norm;
  }
  return gram(unit, rows, columns);
}

/**
 * The first principal components of the rows.
 *
 * @param {number} count of components
 * @param {number} most rows that decide on the directions, taken evenly; all rows are placed
 * @returns {{points: Float32Array, explained: number[]}} rows x count scores, and the share of the
 *   variance that each axis explains. Signs are fixed: the largest score is positive.
 */
export function principalComponents(values, rows, columns, count = 2, most = Infinity) {
  const centred = Float32Array.from(values);
  subtractMean(centred, rows, columns);
  const { directions, explained } = leadingDirections(
    ...everyNth(centred, rows, columns, Math.ceil(rows / most)),
    columns,
    count,
  );
  const points = new Float32Array(rows * count);
  directions.forEach((direction, axis) => {
    let peak = 0;
    for (let row = 0; row < rows; row += 1) {
      const score = dot(centred.subarray(row * columns, (row + 1) * columns), direction);
      points[row * count + axis] = score;
      if (Math.abs(score) > Math.abs(peak)) peak = score;
    }
    if (peak < 0) for (let row = 0; row < rows; row += 1) points[row * count + axis] *= -1;
  });
  return { points, explained };
}

/**
 * The first components of the rows, each from 0 to 1 for use as a colour; what lies beyond 99 % of
 * the rows on either side is cut off.
 *
 * @returns {{colours: Float32Array, explained: number[]}} rows x 3
 */
export function componentColours(values, rows, columns) {
  const { points, explained } = principalComponents(values, rows, columns, 3, 2048);
  for (let axis = 0; axis < 3; axis += 1) {
    const sorted = Float32Array.from({ length: rows }, (_, row) => points[3 * row + axis]).sort();
    const [low, high] = [0.01, 0.99].map((share) => sorted[Math.round(share * (rows - 1))]);
    for (let at = axis; at < points.length; at += 3) {
      points[at] = Math.min(1, Math.max(0, high > low ? (points[at] - low) / (high - low) : 0.5));
    }
  }
  return { colours: points, explained };
}

/** The value below which `share` of the absolute values lie. */
export function absoluteQuantile(values, share) {
  const stride = Math.max(1, Math.floor(values.length / 100_000));
  const sample = new Float32Array(Math.ceil(values.length / stride));
  for (let k = 0; k < sample.length; k += 1) sample[k] = Math.abs(values[k * stride]);
  sample.sort();
  return sample[Math.min(sample.length - 1, Math.floor(share * sample.length))] ?? 0;
}

/** The largest absolute value. */
export function absoluteMaximum(values) {
  let maximum = 0;
  for (const value of values) maximum = Math.max(maximum, Math.abs(value));
  return maximum;
}

function dot(left, right) {
  let sum = 0;
  for (let k = 0; k < left.length; k += 1) sum += left[k] * right[k];
  return sum;
}

function gram(values, rows, columns) {
  const result = new Float32Array(rows * rows);
  const own = Array.from({ length: rows }, (_, row) =>
    values.subarray(row * columns, (row + 1) * columns));
  for (let i = 0; i < rows; i += 1) {
    for (let j = i; j < rows; j += 1) {
      result[i * rows + j] = result[j * rows + i] = dot(own[i], own[j]);
    }
  }
  return result;
}

function transpose(values, rows, columns) {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row += 1) {
    for (let k = 0; k < columns; k += 1) result[k * rows + row] = values[row * columns + k];
  }
  return result;
}

function everyNth(values, rows, columns, stride) {
  if (stride <= 1) return [values, rows];
  const kept = Math.ceil(rows / stride);
  const result = new Float32Array(kept * columns);
  for (let row = 0; row < kept; row += 1) {
    const start = row * stride * columns;
    result.set(values.subarray(start, start + columns), row * columns);
  }
  return [result, kept];
}

/* Unit vectors of `columns` along which the centred rows vary most, and their shares of it. */
function leadingDirections(centred, rows, columns, count) {
  const small = rows <= columns;
  const size = small ? rows : columns;
  const matrix = small
    ? gram(centred, rows, columns)
    : gram(transpose(centred, rows, columns), columns, rows);
  let total = 0;
  for (let k = 0; k < size; k += 1) total += matrix[k * size + k];
  const { vectors, eigenvalues } = leadingEigenvectors(matrix, size, Math.min(count, size));
  const explained = new Array(count).fill(0);
  const directions = eigenvalues.map((eigenvalue, axis) => {
    explained[axis] = total > 0 ? Math.max(eigenvalue, 0) / total : 0;
    return small ? rowSpace(centred, rows, columns, vectors[axis], eigenvalue) : vectors[axis];
  });
  return { directions, explained };
}

/* The direction in the columns that belongs to an eigenvector of the rows' gram matrix. */
function rowSpace(centred, rows, columns, vector, eigenvalue) {
  const direction = new Float64Array(columns);
  if (eigenvalue <= 0) return direction;
  const scale = 1 / Math.sqrt(eigenvalue);
  for (let row = 0; row < rows; row += 1) {
    axpy(direction, scale * vector[row], centred.subarray(row * columns, (row + 1) * columns));
  }
  return direction;
}

function subtractMean(values, rows, columns) {
  const mean = new Float64Array(columns);
  for (let k = 0; k < values.length; k += 1) mean[k % columns] += values[k] / rows;
  for (let k = 0; k < values.length; k += 1) values[k] -= mean[k % columns];
}

/* Eigenvectors of a symmetric positive matrix, one after the other: Lanczos with full
 * reorthogonalisation, whose small tridiagonal problem is solved by Jacobi rotations. */
function leadingEigenvectors(matrix, size, count) {
  const steps = Math.min(size, 60);
  const basis = [];
  const small = Array.from({ length: steps }, () => new Float64Array(steps));
  let scale = 0;
  for (let k = 0; k < size; k += 1) scale = Math.max(scale, matrix[k * size + k]);
  let next = startVector(size, 0);
  let used = 0;
  for (let starts = 1; used < steps; used += 1) {
    let norm = removeSpan(next, basis);
    if (norm <= 1e-9 * scale) {
      // The space reached so far is closed (equal eigenvalues do that): look outside it.
      next = startVector(size, starts);
      starts += 1;
      norm = removeSpan(next, basis);
      if (norm < 1e-6) break;
    }
    const vector = next.map((value) => value / norm);
    basis.push(vector);
    next = multiply(matrix, size, vector);
  }
  for (let i = 0; i < used; i += 1) {
    const image = multiply(matrix, size, basis[i]);
    for (let j = 0; j < used; j += 1) small[i][j] = dot(image, basis[j]);
  }
  const { values, rotation } = jacobi(small, used);
  const order = values.map((_, k) => k).sort((a, b) => values[b] - values[a]).slice(0, count);
  return {
    eigenvalues: order.map((k) => values[k]),
    vectors: order.map((k) => {
      const vector = new Float64Array(size);
      for (let i = 0; i < used; i += 1) axpy(vector, rotation[i][k], basis[i]);
      return vector;
    }),
  };
}

/* Fixed vectors, so that the same records give the same picture. */
function startVector(size, number) {
  return Float64Array.from({ length: size }, (_, k) => Math.sin((1.7 + number) * k + 1) + 0.01);
}

/* Makes `vector` orthogonal to all of `basis` (twice, for rounding); returns its norm. */
function removeSpan(vector, basis) {
  for (let pass = 0; pass < 2; pass += 1) {
    for (const direction of basis) axpy(vector, -dot(vector, direction), direction);
  }
  return Math.sqrt(dot(vector, vector));
}

function axpy(target, factor, vector) {
  for (let k = 0; k < target.length; k += 1) target[k] += factor * vector[k];
}

function multiply(matrix, size, vector) {
  const result = new Float64Array(size);
  for (let row = 0; row < size; row += 1) {
    result[row] = dot(vector, matrix.subarray(row * size, (row + 1) * size));
  }
  return result;
}

function jacobi(matrix, size) {
  const rotation = Array.from({ length: size }, (_, i) =>
    Float64Array.from({ length: size }, (__, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 30; sweep += 1) {
    let outside = 0;
    let inside = 0;
    for (let i = 0; i < size; i += 1) {
      inside += matrix[i][i] ** 2;
      for (let j = 0; j < i; j += 1) outside += matrix[i][j] ** 2;
    }
    if (outside <= 1e-24 * inside) break;
    for (let p = 0; p < size; p += 1) {
      for (let q = p + 1; q < size; q += 1) rotate(matrix, rotation, size, p, q);
    }
  }
  return { values: Array.from({ length: size }, (_, k) => matrix[k][k]), rotation };
}

function rotate(matrix, rotation, size, p, q) {
  const off = matrix[p][q];
  if (off === 0) return;
  const theta = (matrix[q][q] - matrix[p][p]) / (2 * off);
  const tangent = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(tangent, 1);
  const s = tangent * c;
  for (let k = 0; k < size; k += 1) {
    const [left, right] = [matrix[k][p], matrix[k][q]];
    matrix[k][p] = c * left - s * right;
    matrix[k][q] = s * left + c * right;
  }
  for (let k = 0; k < size; k += 1) {
    const [left, right] = [matrix[p][k], matrix[q][k]];
    matrix[p][k] = c * left - s * right;
    matrix[q][k] = s * left + c * right;
    const [a, b] = [rotation[k][p], rotation[k][q]];
    rotation[k][p] = c * a - s * b;
    rotation[k][q] = s * a + c * b;
  }
}
