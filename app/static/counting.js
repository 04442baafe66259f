/* Long arithmetic, done by worker.js beside the page. */

const worker = new Worker('/static/worker.js', { type: 'module' });
const waiting = new Map();
let tickets = 0;
worker.addEventListener('message', ({ data }) => {
  waiting.get(data.ticket)(data.result);
  waiting.delete(data.ticket);
});

/**
 * Run a task of worker.js.
 *
 * @param {{task: string, values: Float32Array}} task `values` are handed over: give a copy
 */
export function compute(task) {
  tickets += 1;
  const ticket = tickets;
  return new Promise((resolve) => {
    waiting.set(ticket, resolve);
    worker.postMessage({ ...task, ticket }, [task.values.buffer]);
  });
}
