/* "How to read this" opens by itself once, and from then on as somebody left it. */

import { find } from './page.js';

const KEY = 'gena.how';

/* A browser may keep nothing (private windows, blocked storage): then it opens every time. */
function remembered() {
  try {
    return window.localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(value) {
  try {
    window.localStorage.setItem(KEY, value);
  } catch {
    // Nothing is lost but the memory of it.
  }
}

let opened = false;

/** With the first result: open it, unless it was seen and closed before. */
export function openOnce() {
  if (opened) return;
  opened = true;
  const details = find('how');
  details.open = remembered() !== 'closed';
  remember('closed');
  // At the click it is still as it was; an event `toggle` would also tell of the line above.
  details.querySelector('summary').addEventListener('click', () =>
    remember(details.open ? 'closed' : 'open'));
}
