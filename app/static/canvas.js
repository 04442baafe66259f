/* What the plots share: a canvas as sharp as the screen, drawn once a frame at most. */

import { onThemeChange } from './colours.js';

/**
 * Call `draw(context, width, height)` (in CSS pixels) whenever the size or the colours of the page
 * change, and once in the next frame after each call of the function that is returned.
 */
export function keepDrawn(canvas, draw) {
  const context = canvas.getContext('2d');
  let requested = false;
  const drawNow = () => {
    requested = false;
    const { width, height } = canvas.getBoundingClientRect();
    if (!width || !height) return;
    const density = window.devicePixelRatio || 1;
    const [columns, rows] = [Math.round(width * density), Math.round(height * density)];
    if (canvas.width !== columns || canvas.height !== rows) {
      canvas.width = columns;
      canvas.height = rows;
    }
    context.setTransform(columns / width, 0, 0, rows / height, 0, 0);
    context.clearRect(0, 0, width, height);
    draw(context, width, height);
  };
  const request = () => {
    if (requested) return;
    requested = true;
    requestAnimationFrame(drawNow);
  };
  new ResizeObserver(request).observe(canvas);
  // At once: what is printed waits for no frame.
  onThemeChange(drawNow);
  return request;
}

/** A colour of the style sheet, by the name of its custom property. */
export function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
