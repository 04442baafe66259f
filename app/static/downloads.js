/* What is seen, as files, and as the command that gives the same. */

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

/** @typedef {{title: string, code: string}} Block what gives or reads a result, and in which language */

/**
 * Fill a panel with code to paste, each block with a button that copies it.
 *
 * @param {Block[]} blocks
 * @param {string} subject what they give
 */
export function showCode(panel, blocks, subject) {
  panel.replaceChildren(...blocks.flatMap(({ title, code }) => {
    const head = document.createElement('p');
    head.className = 'soft';
    head.textContent = title;
    const pre = document.createElement('pre');
    const shown = document.createElement('code');
    shown.textContent = code;
    pre.append(shown);
    pre.tabIndex = 0;
    pre.setAttribute('role', 'region');
    pre.setAttribute('aria-label', `${title}, for ${subject}`);
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'quiet';
    button.textContent = 'Copy';
    const said = document.createElement('span');
    said.className = 'soft';
    said.setAttribute('role', 'status');
    button.addEventListener('click', async () => {
      const copied = await copy(code, shown);
      said.textContent = copied ? 'Copied.' : 'Marked: copy it with the keyboard.';
    });
    const actions = document.createElement('p');
    actions.className = 'actions';
    actions.append(button, said);
    return [head, pre, actions];
  }));
}

/* As R reads a table of this page: a name such as NA is one, and quotes and # are letters. */
const AS_TEXT = 'quote = "", comment.char = "", na.strings = ""';

/** How the vectors of records are computed and read elsewhere. @returns {Block[]} */
export const codeOfVectors = (command) => [
  { title: 'The same vectors, in a terminal', code: command },
  {
    title: 'The tsv in R, and a heat map of it',
    code: `vectors <- read.delim("vectors.tsv", row.names = "id", ${AS_TEXT})\nheatmap(as.matrix(vectors))\n`,
  },
  { title: 'The npy in Python', code: 'import numpy as np\n\nvectors = np.load("vectors.npy")  # a row a record\n' },
];

/** How the features of one record are computed and read elsewhere. @returns {Block[]} */
export const codeOfFeatures = (command, id) => [
  { title: 'The same features, in a terminal', code: command },
  {
    title: 'The tsv in R: a row a token, the features from the seventh column on',
    code: `tokens <- read.delim("${fileName(id, '.features.tsv')}", ${AS_TEXT})\nfeatures <- as.matrix(tokens[, -(1:6)])\n`,
  },
  {
    title: 'The npy in Python: windows, rows of a window, features',
    code: `import numpy as np\n\nfeatures = np.load("${fileName(id, '.features.npy')}")\n`,
  },
];

/** Copy a text. The clipboard needs https or this machine; elsewhere what holds it is marked. */
export async function copy(text, element = null) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (element) window.getSelection().selectAllChildren(element);
    return false;
  }
}
