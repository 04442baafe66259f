/* What is seen, as files, and as the command that gives the same. */

import { cssColour } from './canvas.js';
import { drawBand } from './legend.js';
import { toFasta, wrapLines } from './sequence.js';
import { needsKey } from './service.js';

/** Hand `parts` to the browser's downloads as a file. */
export function save(parts, name, type = 'application/octet-stream') {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  // The download has begun by then; a later release would keep the bytes in memory.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const fileName = (id, suffix) =>
  `${id.replace(/[^\p{L}\p{N}._-]+/gu, '_').slice(0, 80) || 'sequence'}${suffix}`;

/** The shortest decimal that is this float32 and no other. */
export function shortest(value) {
  for (const digits of [7, 8]) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

/** Rows of cells as tab-separated lines. */
export const tsv = (rows) => rows.map((row) => `${row.join('\t')}\n`);

/** Whether a spreadsheet would compute a cell, or take its beginning for a quote; as the service. */
export const isSpecial = (cell) => /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20"']/u.test(cell);

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** More than this is not for pasting into a terminal. */
const PASTEABLE = 60_000;

/**
 * The command that gives the same array.
 *
 * @param {string} path with its query
 * @param {{id: string, sequence: string}[]} records
 * @param {boolean} fasta records with names, or one bare sequence
 * @param {string} output
 * @param {string} [file] the name of the file that the records came from
 */
export function curlCommand(path, records, { fasta, output, file }) {
  const url = quote(`${window.location.origin}${path}`);
  const lines = [`curl --fail-with-body -sS ${url}`];
  if (needsKey()) lines.push('-H "Authorization: Bearer $GENA_API_KEY"');
  const text = fasta ? toFasta(records) : `${wrapLines(records[0].sequence)}\n`;
  lines.push(`-H 'Content-Type: ${fasta ? 'text/x-fasta' : 'text/plain'}'`);
  lines.push(`-o ${quote(output)}`);
  if (text.length > PASTEABLE) {
    const name = file ?? (fasta ? 'sequences.fa' : 'sequence.txt');
    return `${[...lines, `--data-binary ${quote(`@${name}`)}`].join(' \\\n  ')}\n`;
  }
  return `${[...lines, "--data-binary @- <<'END'"].join(' \\\n  ')}\n${text}END\n`;
}

/** Fill a panel with a command, for what `subject` names, and a button that copies it. */
export function showCommand(panel, command, subject) {
  const pre = document.createElement('pre');
  const code = document.createElement('code');
  code.textContent = command;
  pre.append(code);
  pre.tabIndex = 0;
  pre.setAttribute('role', 'region');
  pre.setAttribute('aria-label', `curl command for ${subject}`);
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'quiet';
  button.textContent = 'Copy';
  const said = document.createElement('span');
  said.className = 'soft';
  said.setAttribute('role', 'status');
  button.addEventListener('click', async () => {
    const copied = await copy(command, code);
    said.textContent = copied ? 'Copied.' : 'Marked: copy it with the keyboard.';
  });
  const actions = document.createElement('p');
  actions.className = 'actions';
  actions.append(button, said);
  panel.replaceChildren(pre, actions);
}

/** Copy a text. The clipboard needs https or this machine; elsewhere `element` is marked for copying. */
export async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    window.getSelection().selectAllChildren(element);
    return false;
  }
}

const PICTURE = { width: 1400, margin: 40, title: 34, line: 26, band: 18 };

/**
 * A plot with its title, its key and what it was made from, as a PNG file.
 *
 * @param {{draw: Function, aspect: number, title: string, note: string, name: string,
 *   legend?: {kind: string, labels: string[]}}} picture `draw(context, width, height)`
 */
export function savePng({ draw, aspect, title, note, name, legend }) {
  const { width, margin, line, band } = PICTURE;
  const inner = width - 2 * margin;
  const plotHeight = Math.round(inner / aspect);
  const top = margin + PICTURE.title + 16;
  const below = top + plotHeight + 24;
  const height = below + (legend ? band + 2 * line : 0) + line + margin / 2;
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d');
  const sans = cssColour('--sans');
  context.fillStyle = cssColour('--panel');
  context.fillRect(0, 0, width, height);
  context.fillStyle = cssColour('--ink');
  context.font = `600 26px ${sans}`;
  context.fillText(title, margin, margin + 24, inner);
  context.save();
  context.beginPath();
  context.rect(margin, top, inner, plotHeight);
  context.clip();
  context.translate(margin, top);
  draw(context, inner, plotHeight);
  context.restore();
  context.fillStyle = cssColour('--soft');
  context.font = `18px ${sans}`;
  if (legend) {
    drawBand(context, legend.kind, margin, below, inner, band);
    legend.labels.forEach((label, index) => {
      context.textAlign = ['left', 'center', 'right'][index];
      context.fillText(label, margin + (inner * index) / 2, below + band + line);
    });
  }
  context.textAlign = 'left';
  context.fillText(note, margin, height - margin / 2 - 4, inner);
  canvas.toBlob((blob) => save([blob], name, 'image/png'), 'image/png');
}
