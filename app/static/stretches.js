/* Stretches of a record as a line of ways to get there. */

/**
 * @param {string} words what they have in common
 * @param {{text: string, onClick: () => void}[]} stretches
 * @returns {HTMLElement[]} nothing where there are none
 */
export function listStretches(words, stretches) {
  if (!stretches.length) return [];
  const head = document.createElement('span');
  head.className = 'soft';
  head.textContent = words;
  return [head, ...stretches.map(({ text, onClick }) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'link';
    button.textContent = text;
    button.addEventListener('click', onClick);
    return button;
  })];
}
