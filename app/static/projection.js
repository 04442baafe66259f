/* Where records lie on the map: principal components, or UMAP. */

import { find, format } from './page.js';

/** Of fewer, neighbourhoods of 15 are all of them. */
const UMAP_FROM = 30;
/** So few points lie somehow on every map. */
const FEW = 5;

export class Projection {
  /**
   * @param {(task: object) => Promise<object>} compute runs a task of worker.js
   * @param {(points: Float32Array, axes: string[]) => void} onPlaced
   */
  constructor(compute, onPlaced) {
    Object.assign(this, { compute, onPlaced });
    this.worker = null;
    find('projection').addEventListener('change', () => this.change());
  }

  get name() {
    return find('projection').value === 'umap' ? 'UMAP' : 'principal components';
  }

  get axisNames() {
    return find('projection').value === 'umap' ? ['UMAP 1', 'UMAP 2'] : ['PC 1', 'PC 2'];
  }

  /** Principal components of new records: `[points, axes]`, as `onPlaced` takes them. */
  async begin(values, rows, columns) {
    this.stop();
    Object.assign(this, { values, rows, columns, umap: null });
    const select = find('projection');
    select.value = 'pca';
    select.disabled = rows < UMAP_FROM;
    select.title = rows < UMAP_FROM ? `UMAP needs ${UMAP_FROM} records or more.` : '';
    const { points, explained } = await this.compute({
      task: 'pca', values: values.slice(), rows, columns,
    });
    const axes = explained.map((share, axis) => `PC ${axis + 1} (${Math.round(100 * share)} %)`);
    this.pca = [points, axes];
    this.explain();
    return this.pca;
  }

  change() {
    this.stop();
    this.explain();
    if (find('projection').value === 'pca') this.onPlaced(...this.pca);
    else if (this.umap) this.onPlaced(...this.umap);
    else this.startUmap();
  }

  startUmap() {
    find('projection-text').textContent = 'UMAP is being computed…';
    const worker = new Worker('/static/umap-worker.js');
    this.worker = worker;
    worker.addEventListener('message', ({ data }) => {
      if (this.worker !== worker) return;
      if (!data.points) {
        find('projection-text').textContent = `UMAP is being computed: ${Math.round(100 * data.fraction)} %`;
        return;
      }
      this.umap = [data.points, this.axisNames];
      this.stop();
      this.explain();
      this.onPlaced(...this.umap);
    });
    const { values, rows, columns } = this;
    worker.postMessage({ values, rows, columns });
  }

  stop() {
    this.worker?.terminate();
    this.worker = null;
  }

  explain() {
    const few = `With ${format(this.rows)} records, a map shows little: any few points lie somehow. `
      + 'The figures under “alike” say more.';
    find('projection-text').textContent = find('projection').value === 'umap'
      ? 'UMAP keeps neighbours together (15 of them, by cosine; always the same picture). Distances '
        + 'between groups, and how large they are, mean nothing; it has no axes.'
      : `${this.rows < FEW ? few : ''}`;
  }
}
