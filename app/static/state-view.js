/* What the service says of itself, at the top of the page: the model's state, and what to do. */

import { find, setText } from './page.js';

const STATES = {
  unknown: 'Asking for the model…',
  away: 'The service does not answer',
  converting: 'Converting the model',
  loading: 'Loading the model',
  ready: 'Ready',
  failed: 'No model',
  stopping: 'Shutting down',
};

/** Steps of a conversion, in order, as a person would call them. */
const STEPS = {
  fetch: 'fetching the files',
  read: 'reading the weights',
  convert: 'converting',
  verify: 'comparing with the published model',
  publish: 'putting it in place',
};

const START = 'Start it in a terminal, in the folder of this project: make serve '
  + '(make demo for gena-mini; gena serve where it is installed).';

export class StateView {
  /** @param {import('./service.js').Health} health */
  constructor(health) {
    this.health = health;
    this.step = null;
    health.addEventListener('change', () => this.show());
  }

  show() {
    const { status, progress, model, fingerprint, fidelity } = this.health.current;
    find('state').dataset.status = status;
    const percent = progress ? ` ${Math.floor(100 * progress.fraction)} %` : '';
    const name = status === 'ready' ? ` · ${model}` : '';
    setText('state-text', `${STATES[status] ?? status}${percent}${name}`);
    find('state').title = fingerprint ? `Fingerprint ${fingerprint}` : '';
    if (fingerprint) {
      const flag = fidelity === 'flagged' ? ' · less faithful than expected, see above' : '';
      setText('provenance', `${model} · fingerprint ${fingerprint}${flag}`);
    }
    this.showNotice();
  }

  showNotice() {
    const { status, message, progress, error } = this.health.current;
    const left = this.timeLeft(progress);
    const notices = {
      away: [STATES.away, `${START} This page asks again every second; nothing here is lost.`],
      converting: ['The model is being prepared', `${sentence(message)} This is done once. ${left}`],
      loading: ['The model is being loaded', sentence(message)],
      failed: ['There is no model to answer', `${error?.message ?? message} ${error?.advice ?? ''}`],
      stopping: ['The service is shutting down', 'No new work is taken.'],
    };
    const notice = notices[status];
    find('notice').hidden = !notice;
    find('notice').classList.toggle('bad', status === 'failed' || status === 'away');
    find('notice-retry').hidden = status !== 'failed';
    if (notice) {
      setText('notice-title', notice[0]);
      setText('notice-text', notice[1].trim());
    }
    const bar = find('notice-progress');
    bar.hidden = status !== 'converting' && status !== 'loading';
    if (progress) bar.value = progress.fraction;
    else bar.removeAttribute('value');
  }

  /* Which step of how many, and how long it still takes at the pace seen since it was first seen. */
  timeLeft(progress) {
    if (!progress) {
      this.step = null;
      return '';
    }
    const { stage, fraction } = progress;
    const now = performance.now();
    if (this.step?.stage !== stage || fraction < this.step.fraction) {
      this.step = { stage, fraction, since: now };
    }
    const number = Object.keys(STEPS).indexOf(stage) + 1;
    if (!number) return '';
    const said = `Step ${number} of ${Object.keys(STEPS).length}, ${STEPS[stage]}`;
    const done = fraction - this.step.fraction;
    if (done <= 0) return `${said}.`;
    return `${said}: about ${duration(((now - this.step.since) * (1 - fraction)) / done)} left of it.`;
  }
}

function duration(milliseconds) {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  if (seconds < 90) return `${seconds} seconds`;
  return `${Math.round(seconds / 60)} minutes`;
}

const sentence = (text = '') => (text.endsWith('.') || !text ? text : `${text}.`);
