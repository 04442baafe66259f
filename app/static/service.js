/* The service's public API: its state, and requests whose failures are sentences. */

const WHILE_READY = 3000;
const WHILE_NOT = 1000;
const HEALTH_TIMEOUT = 5000;

let apiKey = '';

/** Used for all requests from now on; kept in memory only. */
export function useApiKey(key) {
  apiKey = key.trim();
}

export const needsKey = () => apiKey !== '';

const headers = (extra = {}) =>
  apiKey ? { ...extra, Authorization: `Bearer ${apiKey}` } : extra;

/** What the service refused or could not do, as a sentence in `message`. */
export class ServiceError extends Error {
  /** @param {object} problem the members of problem+json, or {} */
  constructor(message, status, problem = {}) {
    super(message);
    this.arrived = null;
    this.status = status;
    this.problem = problem;
  }
}

/**
 * POST JSON or FASTA and receive the answer.
 *
 * @param {string} path
 * @param {object | string} body for JSON; FASTA as it is
 * @param {{signal?: AbortSignal, onBytes?: (received: number) => void}} options
 * @returns {Promise<{buffer: ArrayBuffer, headers: Headers}>}
 * @throws {ServiceError} with what has come as `arrived`, where the answer broke off
 */
export async function post(path, body, { signal, onBytes = () => {} } = {}) {
  const fasta = typeof body === 'string';
  let response;
  try {
    response = await fetch(path, {
      method: 'POST',
      headers: headers({ 'Content-Type': fasta ? 'text/x-fasta' : 'application/json' }),
      body: fasta ? body : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServiceError('The service does not answer. Is it still running?', 0);
  }
  if (!response.ok) throw await refusal(response);
  const parts = [];
  try {
    await receive(response, parts, onBytes);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    const broken = 'The connection broke before the answer was complete.';
    const failure = new ServiceError(`${broken} The log of the service says why.`, 0);
    failure.arrived = await new Blob(parts).arrayBuffer();
    throw failure;
  }
  return { buffer: await new Blob(parts).arrayBuffer(), headers: response.headers };
}

/** POST JSON, receive JSON. */
export async function postForJson(path, body, options) {
  const { buffer } = await post(path, body, options);
  return JSON.parse(new TextDecoder().decode(buffer));
}

/** GET JSON. */
export async function getJson(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

async function receive(response, parts, onBytes) {
  let received = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    onBytes(received);
  }
}

async function refusal(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // Not from the service itself: a proxy's page has nothing to tell beyond its status.
  }
  const message = problem.detail ?? problem.title ?? `The service answered ${response.status}.`;
  return new ServiceError(message, response.status, problem);
}

/** Ask the service to prepare its model again after a failure. */
export async function retryModel() {
  await fetch('/health/retry', { method: 'POST', headers: headers() });
}

/**
 * Keeps asking /health, sooner while the model is not ready, and not while nobody looks.
 * Sends `change` with the new state in `current`: what /health answers, or `{status: 'away'}`.
 */
export class Health extends EventTarget {
  constructor() {
    super();
    this.current = { status: 'unknown' };
    this.timer = 0;
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.ask();
    });
  }

  get ready() {
    return this.current.status === 'ready';
  }

  /** Whose tokenizer counts, null where none does: the model's by its fingerprint; before it is converted, by its name. */
  get counter() {
    const { tokenizes, fingerprint, model } = this.current;
    return tokenizes ? fingerprint ?? model : null;
  }

  get away() {
    return this.current.status === 'away';
  }

  async ask() {
    clearTimeout(this.timer);
    this.asked = (this.asked ?? 0) + 1;
    const ticket = this.asked;
    const state = await askHealth();
    if (ticket !== this.asked) return;
    const changed = JSON.stringify(state) !== JSON.stringify(this.current);
    this.current = state;
    if (changed) this.dispatchEvent(new Event('change'));
    if (document.hidden) return;
    this.timer = setTimeout(() => this.ask(), this.ready ? WHILE_READY : WHILE_NOT);
  }

  /** Resolves when the model is ready; rejects with the reason of `signal`. */
  whenReady(signal) {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (!this.ready) return;
        this.removeEventListener('change', check);
        resolve();
      };
      signal.addEventListener('abort', () => {
        this.removeEventListener('change', check);
        reject(signal.reason);
      });
      this.addEventListener('change', check);
      check();
    });
  }
}

async function askHealth() {
  try {
    const response = await fetch('/health', {
      cache: 'no-store',
      headers: headers(),
      signal: AbortSignal.timeout(HEALTH_TIMEOUT),
    });
    const state = await response.json();
    return state.status ? state : { status: 'away' };
  } catch {
    return { status: 'away' };
  }
}
