/* Runs UMAP beside the page: umap-js (see umap-js.LICENSE.txt), which is no module. */

importScripts('/static/umap-js.min.js');

const NEIGHBOURS = 15;
const MIN_DISTANCE = 0.1;
const SEED = 1;
const EPOCHS_AT_ONCE = 10;

/* Always the same numbers, so that the same records give the same picture (mulberry32). */
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/* Rows have the length 1: 1 less their product is the cosine's distance. */
function apart(left, right) {
  let sum = 0;
  for (let k = 0; k < left.length; k += 1) sum += left[k] * right[k];
  return Math.max(0, 1 - sum);
}

function unitRows(values, rows, columns) {
  return Array.from({ length: rows }, (_, row) => {
    const own = values.subarray(row * columns, (row + 1) * columns);
    const norm = Math.hypot(...own) || 1;
    return own.map((value) => value / norm);
  });
}

self.addEventListener('message', ({ data: { values, rows, columns } }) => {
  const umap = new self.UMAP.UMAP({
    nNeighbors: Math.min(NEIGHBOURS, rows - 1),
    minDist: MIN_DISTANCE,
    distanceFn: apart,
    random: seeded(SEED),
  });
  const epochs = umap.initializeFit(unitRows(values, rows, columns));
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    umap.step();
    if (epoch % EPOCHS_AT_ONCE === 0) self.postMessage({ fraction: epoch / epochs });
  }
  const points = Float32Array.from(umap.getEmbedding().flat());
  self.postMessage({ points }, [points.buffer]);
});
