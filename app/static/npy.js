/* NumPy's files: .npy arrays, and .npz (a zip of them, stored without compression). */

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY
const HEADER_ALIGNMENT = 64;

const READERS = {
  '<f4': (buffer, count) => new Float32Array(buffer, 0, count),
  '<i4': (buffer, count) => new Int32Array(buffer, 0, count),
  '<i8': (buffer, count) => Float64Array.from(new BigInt64Array(buffer, 0, count), Number),
};

const utf8 = new TextDecoder();

/**
 * Parse one .npy file.
 *
 * @param {ArrayBuffer} buffer
 * @returns {{shape: number[], data: Float32Array | Int32Array | Float64Array | string[]}}
 *   int64 becomes Float64Array (exact to 2^53); unicode becomes strings.
 */
export function parseNpy(buffer) {
  const view = new DataView(buffer);
  if (MAGIC.some((byte, at) => view.getUint8(at) !== byte)) throw new Error('Not a .npy file.');
  const wide = view.getUint8(6) > 1;
  const start = wide ? 12 : 10;
  const headerLength = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = utf8.decode(new Uint8Array(buffer, start, headerLength));
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const shapeText = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || shapeText === undefined || order !== 'False') {
    throw new Error(`A .npy header that this page does not read: ${header.trim()}`);
  }
  const shape = shapeText.split(',').filter((part) => part.trim()).map(Number);
  const count = shape.reduce((product, size) => product * size, 1);
  const body = buffer.slice(start + headerLength);
  const unicode = /^<U(\d+)$/.exec(descr);
  if (unicode) return { shape, data: readStrings(body, count, Number(unicode[1])) };
  if (!READERS[descr]) throw new Error(`A .npy data type that this page does not read: ${descr}`);
  return { shape, data: READERS[descr](body, count) };
}

function readStrings(buffer, count, width) {
  const points = new Uint32Array(buffer, 0, count * width);
  return Array.from({ length: count }, (_, index) => {
    const own = points.subarray(index * width, (index + 1) * width);
    const end = own.findLastIndex((point) => point !== 0) + 1;
    return String.fromCodePoint(...own.subarray(0, end));
  });
}

/**
 * The files in an .npz, by name without `.npy`: each the bytes of one .npy file.
 *
 * @param {ArrayBuffer} buffer
 * @returns {Map<string, ArrayBuffer>}
 */
export function unzipStored(buffer) {
  const view = new DataView(buffer);
  const files = new Map();
  let { count, offset } = centralDirectory(view);
  for (; count > 0; count -= 1) {
    if (view.getUint32(offset, true) !== 0x02014b50) throw new Error('A damaged .npz file.');
    const method = view.getUint16(offset + 10, true);
    const nameLength = view.getUint16(offset + 28, true);
    const extraLength = view.getUint16(offset + 30, true);
    const commentLength = view.getUint16(offset + 32, true);
    const name = utf8.decode(new Uint8Array(buffer, offset + 46, nameLength));
    if (method !== 0) throw new Error(`${name} in the .npz is compressed.`);
    const wide = zip64Values(view, offset + 46 + nameLength, extraLength);
    const field = (at) => {
      const value = view.getUint32(at, true);
      return value === 0xffffffff ? Number(wide.shift()) : value;
    };
    field(offset + 24); // the uncompressed size comes first in the zip64 field
    const size = field(offset + 20);
    const local = field(offset + 42);
    const skip = view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const start = local + 30 + skip;
    files.set(name.replace(/\.npy$/, ''), buffer.slice(start, start + size));
    offset += 46 + nameLength + extraLength + commentLength;
  }
  return files;
}

/**
 * What has arrived of the first array of an .npz that broke off: its whole rows.
 *
 * @param {ArrayBuffer} buffer
 * @returns {{shape: number[], data: Float32Array} | null} null where there is no whole row
 */
export function firstRows(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 30 || view.getUint32(0, true) !== 0x04034b50) return null;
  const start = 30 + view.getUint16(26, true) + view.getUint16(28, true);
  if (buffer.byteLength < start + 12) return null;
  const wide = view.getUint8(start + 6) > 1;
  const length = wide ? view.getUint32(start + 8, true) : view.getUint16(start + 8, true);
  const from = start + (wide ? 12 : 10) + length;
  if (buffer.byteLength <= from) return null;
  const header = utf8.decode(new Uint8Array(buffer, from - length, length));
  const [rows, columns] = /'shape':\s*\((\d+), (\d+)\)/.exec(header)?.slice(1).map(Number) ?? [];
  if (!columns || !header.includes("'<f4'")) return null;
  const whole = Math.min(rows, Math.floor((buffer.byteLength - from) / (4 * columns)));
  if (!whole) return null;
  const data = new Float32Array(buffer.slice(from, from + 4 * columns * whole));
  return { shape: [whole, columns], data };
}

function centralDirectory(view) {
  // The end record is 22 bytes, or longer with a comment.
  for (let at = view.byteLength - 22; at >= Math.max(0, view.byteLength - 65557); at -= 1) {
    if (view.getUint32(at, true) !== 0x06054b50) continue;
    const count = view.getUint16(at + 10, true);
    const offset = view.getUint32(at + 16, true);
    if (count !== 0xffff && offset !== 0xffffffff) return { count, offset };
    const end64 = Number(view.getBigUint64(at - 12, true));
    return {
      count: Number(view.getBigUint64(end64 + 32, true)),
      offset: Number(view.getBigUint64(end64 + 48, true)),
    };
  }
  throw new Error('The answer ended early: no complete .npz file.');
}

function zip64Values(view, start, length) {
  for (let at = start; at < start + length; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 1) continue;
    const count = view.getUint16(at + 2, true) >> 3;
    return Array.from({ length: count }, (_, k) => view.getBigUint64(at + 4 + 8 * k, true));
  }
  return [];
}

/**
 * A float32 array as the bytes of a .npy file (version 1.0, C order).
 *
 * @param {Float32Array} values
 * @param {number[]} shape
 * @returns {Uint8Array}
 */
export function toNpy(values, shape) {
  const dimensions = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${dimensions}), }`;
  const preamble = MAGIC.length + 4;
  const length = Math.ceil((preamble + text.length + 1) / HEADER_ALIGNMENT) * HEADER_ALIGNMENT;
  const header = `${text.padEnd(length - preamble - 1)}\n`;
  const bytes = new Uint8Array(length + values.byteLength);
  bytes.set([...MAGIC, 1, 0]);
  new DataView(bytes.buffer).setUint16(8, header.length, true);
  bytes.set(new TextEncoder().encode(header), preamble);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), length);
  return bytes;
}
