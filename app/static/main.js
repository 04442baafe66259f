/* The page: paste DNA, see what the model makes of it. Ties the parts together. */

import { readArrivedVectors, readFeatures, readVectors, SPECIALS } from './answers.js';
import { compute } from './counting.js';
import { curlCommand } from './downloads.js';
import { COUNTED_UP_TO, Editor, MOST_TOKENS } from './editor.js';
import { openOnce } from './how.js';
import { ModelCard } from './model-card.js';
import { find, format, plural, setText } from './page.js';
import { RecordView } from './record-view.js';
import { RecordsView } from './records-view.js';
import { toFasta } from './sequence.js';
import { Health, post, postForJson, retryModel, ServiceError, useApiKey } from './service.js';
import { StateView } from './state-view.js';

/** Letters; the service takes 5 MiB of JSON. What is longer goes as FASTA, whose names are ASCII. */
const JSON_UP_TO = 4_000_000;
const JSON_AROUND_A_RECORD = 24;
let hiddenSize = 768; // until the first answer says how many features there are

/* ---- What goes in ---- */

async function tokenize(records, signal) {
  if (health.counter === null) return null;
  const single = records.length === 1;
  const body = single
    ? { sequence: records[0].sequence }
    : { sequences: records.map(({ id, sequence }) => ({ id, sequence })) };
  try {
    const answer = await postForJson('/tokenize', body, { signal });
    const entries = single ? [answer] : answer.records;
    return {
      tokens: entries.map((entry) => entry.n_tokens - SPECIALS),
      unknown: entries.reduce((sum, entry) => sum + entry.n_unknown, 0),
      window: entries[0].limit - SPECIALS,
    };
  } catch {
    // The count is a help, not the task.
    return null;
  }
}

/* Whether a record is more than a page shows. What was not counted is counted now; where that fails,
 * a token may be of one base. */
async function isTooLong(record, counted, signal) {
  const bases = record.sequence.length;
  let tokens = counted;
  if (tokens === undefined && bases <= COUNTED_UP_TO) {
    work('Counting tokens…');
    tokens = (await tokenize([record], signal))?.tokens[0];
  }
  return (tokens ?? bases) > MOST_TOKENS;
}

const health = new Health();
const editor = new Editor(tokenize);
const stateView = new StateView(health);
const modelCard = new ModelCard();

/* ---- From DNA to features ---- */

let running = new AbortController();
let vectorsShown = null;

const recordView = new RecordView(compute);
const recordsView = new RecordsView(compute, (index) =>
  run((signal) => openRecord(index, signal)));

async function run(task) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  hideError();
  try {
    if (!health.ready) {
      work(health.away ? 'Waiting for the service, which does not answer…' : 'Waiting for the model…');
      await health.whenReady(signal);
    }
    await task(signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof ServiceError) showError(error);
    else {
      showError(new ServiceError(`This page failed: ${error.message}`, 0));
      console.error(error);
    }
  } finally {
    if (running.signal === signal) endWork();
  }
}

async function submit() {
  const { problem, bases, records, kind } = editor.examined;
  if (problem) {
    editor.show(problem);
    setText('announce', problem.message);
    return;
  }
  if (!bases) {
    find('text').focus();
    setText('run-hint', 'Paste a sequence first, or take an example.');
    return;
  }
  await run(async (signal) => {
    const [first] = records;
    const whole = records.length === 1 && !(await isTooLong(first, editor.counted?.tokens[0], signal));
    await (whole ? showRecord(first, signal, { named: kind !== 'plain' }) : showRecords(records, signal));
  });
}

async function featuresOf(record, signal, { named, index = null }) {
  const path = '/features?format=npz&overflow=window';
  const buffer = await receive(path, { sequence: record.source.raw }, signal, {
    text: named ? `Computing ${record.id}` : 'Computing',
    unit: 'window',
    ...windowsToCome(index),
  }, record);
  return readFeatures(buffer);
}

async function showRecord(record, signal, { named, index = null }) {
  const features = await featuresOf(record, signal, { named, index });
  [, , hiddenSize] = features.shape;
  const command = curlCommand('/features?format=npy&overflow=window', [record], {
    fasta: false,
    output: 'features.npy',
    file: named ? undefined : editor.fileName ?? undefined,
  });
  if (signal.aborted) return;
  if (index === null) {
    recordsView.hide();
    vectorsShown = null;
  }
  find('to-map').hidden = index === null;
  openOnce();
  recordView.show({ ...record, named }, features, command);
  offerToCompare(index);
  arrive('result', `Features of ${plural(features.shape[0], 'window')} are shown.`);
}

async function showRecords(records, signal) {
  const pooling = find('pooling').value;
  const query = `pooling=${pooling}&overflow=window`;
  const { vectors, failure } = await receiveVectors(query, records, signal);
  [, hiddenSize] = vectors.shape;
  const arrived = records.slice(0, vectors.shape[0]);
  const command = curlCommand(`/embeddings?format=npy&${query}`, records, {
    fasta: true,
    output: 'vectors.npy',
    file: editor.fileName ?? undefined,
  });
  await recordsView.show(arrived, vectors, pooling, command);
  if (signal.aborted) return;
  vectorsShown = { records: arrived, vectors };
  recordView.hide();
  arrive('map-result', `The map of ${plural(arrived.length, 'record')} is shown.`);
  if (!failure) return;
  const said = `${format(arrived.length)} of ${plural(records.length, 'record')} had arrived; they are shown below `
    + 'and can be downloaded.';
  const next = records[arrived.length]?.id;
  failure.message += ` ${said}${next ? ` The first that is missing is ${next}.` : ''}`;
  throw failure;
}

/* Vectors that arrived before a connection broke are worth keeping: `failure` says that it did. */
async function receiveVectors(query, records, signal) {
  try {
    const buffer = await receive(`/embeddings?format=npz&${query}`, asBody(records), signal, {
      text: `Computing ${plural(records.length, 'record')}`,
      unit: 'record',
      count: records.length,
      rows: 1,
    });
    return { vectors: readVectors(buffer, records.length), failure: null };
  } catch (failure) {
    const vectors = failure.arrived && readArrivedVectors(failure.arrived, health.current);
    if (!vectors) throw failure;
    return { vectors, failure };
  }
}

function asBody(records) {
  const size = ({ id, source }) => id.length + source.length + JSON_AROUND_A_RECORD;
  const total = records.reduce((sum, record) => sum + size(record), 0);
  if (total > JSON_UP_TO) return toFasta(records);
  return { sequences: records.map(({ id, source }) => ({ id, sequence: source.raw })) };
}

/* Of a map's record, those most like it can be looked at beside it. */
function offerToCompare(index) {
  const near = index === null ? [] : recordsView.near(index);
  find('compare-choice').hidden = !near.length;
  find('compare').replaceChildren(new Option('no other', ''), ...near.map(({ index: other }) =>
    new Option(vectorsShown.records[other].id, String(other))));
}

async function compareWith(index, signal) {
  const record = vectorsShown.records[index];
  await refuseTooLong(index, signal);
  const features = await featuresOf(record, signal, { named: true, index });
  if (!signal.aborted) recordView.compareWith(record, features);
}

async function openRecord(index, signal) {
  recordsView.choose(index);
  await refuseTooLong(index, signal);
  await showRecord(vectorsShown.records[index], signal, { named: true, index });
}

async function refuseTooLong(index, signal) {
  const { records, vectors } = vectorsShown;
  if (await isTooLong(records[index], vectors.counts[index], signal)) {
    const most = `this page shows ${format(MOST_TOKENS)} tokens of a record at most`;
    throw new ServiceError(`${records[index].id} is too long: ${most}. POST /features has them all.`, 0);
  }
}

/* How many windows an answer will have, if that is known, and of how many rows each is. */
function windowsToCome(index) {
  if (index !== null) {
    const { windows, rows } = vectorsShown.vectors;
    return { count: windows[index] ?? null, rows };
  }
  if (!editor.counted) return { count: null, rows: 0 };
  const { counted, tokens } = editor;
  return { count: Math.ceil(tokens / counted.window), rows: counted.window + SPECIALS };
}

/* Progress is what has arrived: the service sends windows and records as they are computed. */
async function receive(path, body, signal, { text, unit, count, rows }, record = null) {
  const total = count === null || count === 1 ? '' : ` ${plural(count, unit)}`;
  work(`${text}${unit === 'window' && total ? `:${total}` : ''}…`);
  const size = 4 * rows * hiddenSize;
  try {
    const { buffer } = await post(path, body, {
      signal,
      onBytes: (received) => {
        if (count === null || count === 1) return;
        const done = Math.min(count, Math.floor(received / size));
        work(`${text}: ${format(done)} of${total}`, Math.min(1, received / (count * size)));
      },
    });
    return buffer;
  } catch (error) {
    if (error instanceof ServiceError) error.record = record;
    throw error;
  }
}

/* ---- Work, results and failures, said aloud ---- */

function work(text, fraction = null) {
  find('work').hidden = false;
  setText('work-text', text);
  const bar = find('work-progress');
  if (fraction === null) bar.removeAttribute('value');
  else bar.value = fraction;
}

function endWork() {
  find('work').hidden = true;
}

function arrive(id, sentence) {
  // What stands above goes first, else the page would move on after the scroll.
  endWork();
  setText('announce', sentence);
  goTo(id);
}

function goTo(id) {
  const section = find(id);
  section.focus({ preventScroll: true });
  const still = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  section.scrollIntoView({ block: 'start', behavior: still ? 'auto' : 'smooth' });
}

let shownProblem = null;

function showError(error) {
  const { position, letter, record: id } = error.problem ?? {};
  find('error').hidden = false;
  setText('error-text', error.message);
  find('key-form').hidden = error.status !== 401;
  if (error.status === 401) find('key').focus();
  const record = error.record ?? editor.examined.records.find((candidate) => candidate.id === id);
  shownProblem = null;
  if (record && position) {
    const raw = record.source.raw;
    const index = Array.from(raw).slice(0, position - 1).join('').length;
    shownProblem = { at: record.source.textIndex(index), length: (letter ?? ' ').length };
  }
  find('error-show').hidden = shownProblem === null || editor.attached !== null;
  if (shownProblem) editor.show(shownProblem);
}

function hideError() {
  find('error').hidden = true;
}

/* ---- Events ---- */

health.addEventListener('change', () => {
  modelCard.follow(health.current);
  if (!health.away) editor.follow(health);
});
editor.addEventListener('change', hideError);

find('input').addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});
find('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submit();
  }
});
find('cancel').addEventListener('click', () => {
  running.abort(new DOMException('Cancelled', 'AbortError'));
  endWork();
  setText('announce', 'Cancelled.');
  find('run').focus();
});
find('compare').addEventListener('change', ({ target: { value } }) => {
  if (value === '') recordView.compareWith(null);
  else run((signal) => compareWith(Number(value), signal));
});
find('to-map').addEventListener('click', () => goTo('map-result'));
find('error-show').addEventListener('click', () => editor.show(shownProblem));
find('notice-retry').addEventListener('click', async () => {
  await retryModel();
  health.ask();
});
find('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  useApiKey(find('key').value);
  modelCard.follow(health.current);
  hideError();
  editor.count();
  submit();
});
for (const name of ['map-code', 'result-code']) {
  find(name).addEventListener('click', ({ currentTarget }) => {
    const panel = find(`${name}-panel`);
    panel.hidden = !panel.hidden;
    currentTarget.setAttribute('aria-expanded', String(!panel.hidden));
  });
}

// navigator.userAgentData is not everywhere; this is only the name of a key.
if (navigator.userAgent.includes('Macintosh')) setText('run-key', '⌘');
stateView.show();
health.ask();
