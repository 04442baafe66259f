/* What mouse, wheel, fingers and keys do to a plot that zooms and moves. */

const DRAG_FROM = 4; // pixels from which a press is a drag
const PINCH_FROM = 8; // pixels between two fingers below which their distance says nothing
const WHEEL = 200; // pixels of the wheel that zoom by e
const STEP = 1.5; // of zooming by a key

/** @typedef {[number, number]} Place in CSS pixels, from the left and the top of the canvas */

/**
 * Ctrl and the wheel, or two fingers, zoom; a sideways wheel and dragging move; a press that does not
 * move is a click.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {{onZoom: (factor: number, place: Place) => void, onPan: (x: number, y: number) => void,
 *   onClick: (event: PointerEvent) => void, onHover: (event: PointerEvent) => void,
 *   onLeave: () => void,
 *   ownDrag?: (event: PointerEvent) => null | {move: (event: PointerEvent) => void, end: (done: boolean) => void}
 *   }} options `onPan`: how far what is drawn moves; `ownDrag`: what a press begins that is to do
 *   something else; `done` where it was not broken off
 */
export function followPointers(canvas, { onZoom, onPan, onClick, onHover, onLeave, ownDrag = () => null }) {
  const pointers = new Map();

  canvas.addEventListener('wheel', (event) => {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) onZoom(Math.exp(-event.deltaY / WHEEL), placeOn(canvas, event));
    else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) onPan(-sideways, 0);
    else return; // the page scrolls
    event.preventDefault();
  }, { passive: false });

  canvas.addEventListener('pointerdown', (event) => {
    if (event.button > 0) return;
    const place = placeOn(canvas, event);
    for (const pointer of pointers.values()) breakOff(pointer);
    const own = pointers.size ? null : ownDrag(event);
    pointers.set(event.pointerId, { start: place, last: place, moved: false, own });
    canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener('pointermove', (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointer) {
      onHover(event);
      return;
    }
    const place = placeOn(canvas, event);
    if (distance(place, pointer.start) >= DRAG_FROM) pointer.moved = true;
    if (pointers.size === 2) pinch(pointer, place);
    else if (pointer.moved && pointer.own) pointer.own.move(event);
    else if (pointer.moved) onPan(place[0] - pointer.last[0], place[1] - pointer.last[1]);
    pointer.last = place;
  });

  function breakOff(pointer) {
    pointer.own?.end(false);
    pointer.own = null;
  }

  function pinch(pointer, place) {
    const [other] = [...pointers.values()].filter((each) => each !== pointer);
    const [before, after] = [distance(pointer.last, other.last), distance(place, other.last)];
    const middle = [0, 1].map((axis) => (place[axis] + other.last[axis]) / 2);
    if (Math.min(before, after) > PINCH_FROM) onZoom(after / before, middle);
    onPan((place[0] - pointer.last[0]) / 2, (place[1] - pointer.last[1]) / 2);
    pointer.moved = true;
    other.moved = true;
  }

  canvas.addEventListener('pointerup', (event) => {
    const pointer = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (!pointer) return;
    if (!pointer.moved) onClick(event);
    else pointer.own?.end(true);
  });
  canvas.addEventListener('pointercancel', (event) => {
    if (pointers.has(event.pointerId)) breakOff(pointers.get(event.pointerId));
    pointers.delete(event.pointerId);
  });
  canvas.addEventListener('pointerleave', onLeave);
}

/** @returns {Place} where an event is on a canvas */
export function placeOn(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

const distance = ([x, y], [left, top]) => Math.hypot(x - left, y - top);

/**
 * Do what a key is for.
 *
 * @param {HTMLElement} element
 * @param {(event: KeyboardEvent) => Object<string, () => void>} keysOf what each key does now
 */
export function followKeys(element, keysOf) {
  element.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = keysOf(event)[event.key];
    if (!action) return;
    action();
    event.preventDefault();
  });
}

/** The keys that zoom: `zoom` by a factor, `whole` to see all. */
export const zoomKeys = (zoom, whole) => ({
  '+': () => zoom(STEP),
  '=': () => zoom(STEP),
  '-': () => zoom(1 / STEP),
  0: whole,
});
