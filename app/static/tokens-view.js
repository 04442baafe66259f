/* A window of a sequence, token by token: a list box in which one token is chosen. */

import { hideTip, showTip } from './tip.js';

export class TokensView {
  /** @param {{describe: (row: number) => string, onChoose: (row: number) => void}} options */
  constructor(element, { describe, onChoose }) {
    this.element = element;
    this.describe = describe;
    this.onChoose = onChoose;
    this.chosen = 0;
    element.addEventListener('click', (event) => {
      const option = event.target.closest('[role=option]');
      if (option) this.onChoose(Number(option.dataset.row));
    });
    element.addEventListener('pointermove', (event) => {
      const option = event.target.closest('[role=option]');
      if (option) showTip(this.describe(Number(option.dataset.row)), event);
      else hideTip();
    });
    element.addEventListener('pointerleave', hideTip);
    element.addEventListener('keydown', (event) => this.key(event));
  }

  /** @param {{text: string, kind: 'base' | 'unknown' | 'special'}[]} tokens */
  show(tokens) {
    this.count = tokens.length;
    this.chosen = -1;
    this.element.replaceChildren(...tokens.map(({ text, kind }, row) => {
      const option = document.createElement('span');
      option.id = `token-${row}`;
      option.className = `tok ${kind}`;
      option.setAttribute('role', 'option');
      option.setAttribute('aria-selected', 'false');
      option.setAttribute('aria-label', this.describe(row));
      option.dataset.row = String(row);
      option.textContent = text;
      return option;
    }));
    this.element.scrollTop = 0;
  }

  /** -1: the chosen token is not among these. */
  choose(row) {
    const { children } = this.element;
    children[this.chosen]?.setAttribute('aria-selected', 'false');
    this.chosen = row;
    const option = children[row];
    if (!option) {
      this.element.removeAttribute('aria-activedescendant');
      return;
    }
    option.setAttribute('aria-selected', 'true');
    this.element.setAttribute('aria-activedescendant', option.id);
    // Only within the list: the page itself must not jump.
    const [top, bottom] = [option.offsetTop, option.offsetTop + option.offsetHeight];
    if (top < this.element.scrollTop) this.element.scrollTop = top - 8;
    const floor = this.element.scrollTop + this.element.clientHeight;
    if (bottom > floor) this.element.scrollTop += bottom - floor + 8;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.count - 1;
    const moves = {
      ArrowLeft: this.chosen - 1,
      ArrowRight: this.chosen + 1,
      ArrowUp: this.neighbour(-1),
      ArrowDown: this.neighbour(1),
      PageUp: this.chosen - 50,
      PageDown: this.chosen + 50,
      Home: 0,
      End: last,
    };
    if (moves[event.key] === undefined) return;
    this.onChoose(Math.min(last, Math.max(0, moves[event.key] ?? 0)));
    event.preventDefault();
  }

  /* The token above or below, where the lines are as the page laid them out. */
  neighbour(direction) {
    const options = this.element.children;
    const from = options[Math.max(0, this.chosen)];
    const middle = from.offsetLeft + from.offsetWidth / 2;
    let line = null;
    let [best, distance] = [this.chosen, Infinity];
    for (let row = this.chosen; row >= 0 && row < options.length; row += direction) {
      const option = options[row];
      if (option.offsetTop === from.offsetTop) continue;
      line ??= option.offsetTop;
      if (option.offsetTop !== line) break;
      const away = Math.abs(option.offsetLeft + option.offsetWidth / 2 - middle);
      if (away < distance) [best, distance] = [row, away];
    }
    return best;
  }
}
