/* One small note beside the pointer, shared by everything that can be pointed at. */

import { find } from './page.js';

const DISTANCE = 14;
const note = find('tip');

/** Show `text` near the pointer; the same text reaches screen readers by other ways. */
export function showTip(text, event) {
  note.textContent = text;
  note.hidden = false;
  const { width, height } = note.getBoundingClientRect();
  const right = event.clientX + DISTANCE;
  const left = right + width > window.innerWidth - 4 ? event.clientX - DISTANCE - width : right;
  const below = event.clientY + DISTANCE;
  const top = below + height > window.innerHeight - 4 ? event.clientY - DISTANCE - height : below;
  note.style.left = `${Math.max(4, left)}px`;
  note.style.top = `${Math.max(4, top)}px`;
}

export function hideTip() {
  note.hidden = true;
}
