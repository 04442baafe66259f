/* Runs analysis.js beside the page, so that the page answers while it counts. */

import { componentColours, cosine, principalComponents } from './analysis.js';

const TASKS = {
  cosine: ({ values, rows, columns, mean }) => cosine(values, rows, columns, mean),
  colours: ({ values, rows, columns }) => componentColours(values, rows, columns),
  pca: ({ values, rows, columns }) => principalComponents(values, rows, columns),
};

self.addEventListener('message', ({ data }) => {
  self.postMessage({ ticket: data.ticket, result: TASKS[data.task](data) });
});
