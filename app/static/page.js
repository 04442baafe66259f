/* The elements of the page, and how counts are written on it. */

/** The element of `index.html` with this id. */
export const find = (id) => document.getElementById(id);

/** `12345` -> `12,345` */
export const format = (number) => number.toLocaleString('en');

/** `1 record`, `12,345 records` */
export const plural = (count, one, many = `${one}s`) => (
  `${format(count)} ${count === 1 ? one : many}`
);

/** Write `text` into the element; unchanged text stays untouched, so that it is not read again. */
export function setText(id, text) {
  const element = find(id);
  if (element.textContent !== text) element.textContent = text;
}

/** Whether people point with a finger here, and not with a mouse. */
export const touched = () => window.matchMedia('(pointer: coarse)').matches;
