/* The table of records: sorted by a click on a head, filtered by a search, a page of lines at a time. */

import { find, format } from './page.js';

const LINES = 200;

export class RecordsTable {
  /** @param {{onOpen, onPick, onDownload: (index: number) => void}} options */
  constructor({ onOpen, onPick, onDownload }) {
    Object.assign(this, { onOpen, onPick, onDownload });
    this.order = { column: null, falling: false };
    this.body = find('records').tBodies[0];
    for (const button of find('records').querySelectorAll('thead button')) {
      button.addEventListener('click', () => this.sortBy(button));
    }
    find('records-more').addEventListener('click', () => {
      this.lines += LINES;
      this.fill();
    });
  }

  /** @param {{records, counts, gc, colourOf: (index) => string}} content */
  show(content) {
    Object.assign(this, content);
    this.chosen = null;
    this.filter = null;
    this.sorted();
  }

  /** @param {Set<number> | null} filter which records; null for all */
  restrict(filter) {
    this.filter = filter;
    this.sorted();
  }

  sortBy(button) {
    const { column } = button.dataset;
    const falling = this.order.column === column ? !this.order.falling : column !== 'id';
    this.order = { column, falling };
    for (const head of find('records').querySelectorAll('thead th')) {
      head.removeAttribute('aria-sort');
    }
    button.closest('th').setAttribute('aria-sort', falling ? 'descending' : 'ascending');
    this.sorted();
  }

  sorted() {
    const { column, falling } = this.order;
    const values = {
      id: (index) => this.records[index].id,
      bases: (index) => this.records[index].sequence.length,
      tokens: (index) => this.counts[index] ?? 0,
      gc: (index) => this.gc[index],
    }[column];
    this.indices = this.records.map((_, index) => index)
      .filter((index) => !this.filter || this.filter.has(index));
    if (values) {
      const compare = column === 'id'
        ? (a, b) => values(a).localeCompare(values(b), 'en', { numeric: true })
        : (a, b) => values(a) - values(b);
      this.indices.sort((a, b) => (falling ? compare(b, a) : compare(a, b)));
    }
    this.lines = LINES;
    this.fill();
  }

  fill() {
    const shown = this.indices.slice(0, this.lines);
    this.body.replaceChildren(...shown.map((index) => this.line(index)));
    const left = this.indices.length - shown.length;
    find('records-more').hidden = left <= 0;
    find('records-more').textContent = `Show ${format(Math.min(LINES, left))} more of ${format(left)}`;
    this.recolour();
    this.mark();
  }

  line(index) {
    const { id, sequence } = this.records[index];
    const line = document.createElement('tr');
    line.dataset.index = String(index);
    const head = document.createElement('th');
    head.scope = 'row';
    const swatch = document.createElement('span');
    swatch.className = 'swatch';
    head.append(swatch, button('link', id, () => this.onOpen(index)));
    const gc = this.gc[index];
    const download = button('quiet', 'npy', () => this.onDownload(index));
    download.setAttribute('aria-label', `Vector of ${id} as npy`);
    const near = button('quiet', 'alike', () => this.onPick(index));
    near.setAttribute('aria-label', `Records most alike to ${id}`);
    const cell = document.createElement('td');
    cell.className = 'actions-cell';
    cell.append(near, download);
    line.append(
      head,
      numberCell(sequence.length),
      numberCell(this.counts[index]),
      numberCell(Number.isNaN(gc) ? undefined : Math.round(gc)),
      cell,
    );
    return line;
  }

  choose(index) {
    this.chosen = index;
    this.mark();
  }

  mark() {
    for (const line of this.body.rows) {
      const chosen = Number(line.dataset.index) === this.chosen;
      line.classList.toggle('chosen', chosen);
      const open = line.querySelector('button');
      if (chosen) open.setAttribute('aria-current', 'true');
      else open.removeAttribute('aria-current');
    }
  }

  recolour() {
    for (const line of this.body.rows) {
      line.querySelector('.swatch').style.background = this.colourOf(Number(line.dataset.index));
    }
  }
}

/** A button with a text. */
export function button(kind, text, onClick) {
  const element = document.createElement('button');
  element.type = 'button';
  element.className = kind;
  element.textContent = text;
  element.addEventListener('click', onClick);
  return element;
}

function numberCell(value) {
  const cell = document.createElement('td');
  cell.className = 'number';
  cell.textContent = value === undefined ? '' : format(value);
  return cell;
}
