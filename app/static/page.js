/* The elements of the page, and how counts are written on it. */

/** The element of `index.html` with this id. */
export const find = (id) => document.getElementById(id);

/** `12345` -> `12,345` */
export const format = (number) => number.toLocaleString('en');

/** `1 record`, `12,345 records` */
export const plural = (count, one, many = `${one}s`) => (
  `${format(count)} ${count === 1 ? one : many}`
);
