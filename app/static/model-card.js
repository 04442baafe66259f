/* "About this model": what /info knows, in words for people who want to rely on it. */

import { SPECIALS } from './answers.js';
import { find, format } from './page.js';
import { getJson } from './service.js';

const HUMAN = 'the human genome (assembly T2T-CHM13 v2.0)';
const VARIANTS = `${HUMAN}, with variants of the 1000 Genomes Project`;
const HELD_OUT = 'Chromosomes 7 and 10 were left out.';

/** What the authors say of their training data, by the checkpoint's name. */
const TRAINED_ON = {
  'gena-mini': 'Escherichia coli 536, phage lambda, and 2 kb upstream of genes of Drosophila '
    + 'melanogaster: 29.5 million tokens.',
  'gena-lm-bert-base': `${HUMAN}. Chromosomes 22 and Y were left out.`,
  'gena-lm-bert-base-t2t': `${VARIANTS}. ${HELD_OUT}`,
  'gena-lm-bert-base-lastln-t2t': `${VARIANTS}. ${HELD_OUT}`,
  'gena-lm-bert-base-t2t-multi': `${VARIANTS}, and genomes of other species. ${HELD_OUT}`,
  'gena-lm-bert-large-t2t': `${VARIANTS}. ${HELD_OUT}`,
};

const UNITS = {
  CPU_AND_NE: 'the Neural Engine and the CPU',
  CPU_AND_GPU: 'the GPU and the CPU',
  CPU_ONLY: 'the CPU',
  ALL: 'whatever Core ML chooses',
};

const PAPER = 'Fishman V. et al. GENA-LM: a family of open-source foundational DNA language models '
  + 'for long sequences. Nucleic Acids Research 53(2), gkae1310, 2025. doi:10.1093/nar/gkae1310';

/** This project knows of no paper on it. */
const MODERN = 'modernGENA, by AIRI-Institute: its page on the Hugging Face hub says how';

/** The name without its owner: what the table above goes by. */
const shortName = (model) => model.split('/').at(-1);

/** What stands beside every result of a model that is not for science. */
export const caution = (model) => (isMini(model) ? [`${shortName(model)} is not for science`] : []);

/** What made a result, under its picture. */
export const madeBy = ({ model, fingerprint }, ...more) =>
  [model, `fingerprint ${fingerprint}`, ...more, ...caution(model)].join(', ');

const isMini = (model) => shortName(model) === 'gena-mini';

/**
 * The rows of the card: a heading and a sentence each.
 *
 * @param {object} info what /info answers while the model is ready
 * @returns {[string, string][]}
 */
export function cardRows(info) {
  const { bundle, runtime, versions, letters, fingerprint, model, limits } = info;
  const name = shortName(model);
  const { num_hidden_layers: layers, vocab_size: words } = bundle.config;
  const commit = bundle.commit ? ` at commit ${bundle.commit.slice(0, 12)}` : '';
  const project = `gena-coreml ${versions['gena-coreml']}, ${model}${commit}, `
    + `fingerprint ${fingerprint}`;
  return [
    ['Model', `${model}${commit}: ${layers} layers, ${format(bundle.hidden_size)} features a token, `
      + `a vocabulary of ${format(words)} tokens. It reads ${format(limits.tokens_per_window - SPECIALS)} of them `
      + `at a time. It knows the letters ${letters}; a token with any `
      + 'other is unknown to it.'],
    ['Trained on', TRAINED_ON[name]
      ?? 'This page does not know this checkpoint: ask whoever made it.'],
    ['Fidelity', fidelity(bundle.fidelity, runtime)],
    ['Runs on', where(runtime)],
    ['How to cite', isMini(model) ? `${project}. Nothing to cite for results: see above.`
      : `${bundle.config.model_type === 'modernbert' ? MODERN : PAPER}. And how it was computed: ${project}.`],
    ['Fingerprint', `${fingerprint}. It stands for weights, tokenizer and package: results with the `
      + 'same fingerprint belong together, others cannot be compared.'],
  ];
}

function fidelity({ flag, gates }, { compute }) {
  const figures = gates.map(({ psnr_db: psnr }) => psnr).filter((psnr) => psnr !== null);
  const worst = figures.length ? ` The lowest of ${gates.length} comparisons is `
    + `${Math.min(...figures).toFixed(0)} dB (60 dB: errors of a thousandth of the largest value).` : '';
  const exact = compute === 'fp32' ? '' : ` It computes in ${compute}, which is less exact.`;
  return flag === 'expected'
    ? `As expected: what runs here was compared with the published network, number by number.${worst}${exact}`
    : `Less faithful than expected, and published with a flag.${worst}${exact} Check that your `
      + 'result does not hang on small differences.';
}

function where({ name, compute_units: units, compute }) {
  const place = name === 'coreml'
    ? `${UNITS[units] ?? units} of this Mac, by Core ML`
    : `${units.toUpperCase()} of the machine that runs the service, by PyTorch`;
  return `${place}, in ${compute}. Your sequences go there and nowhere else.`;
}

export class ModelCard {
  constructor() {
    this.shown = null;
  }

  /** Fill the card once the model is ready, and again when it is another one. */
  async follow({ status, fingerprint }) {
    if (status !== 'ready' || fingerprint === this.shown) return;
    this.shown = fingerprint;
    let info;
    try {
      info = await getJson('/info');
    } catch {
      // Without a key, say; the next change of state asks again.
      this.shown = null;
      return;
    }
    if (!info.bundle) return;
    find('not-science').hidden = !isMini(info.model);
    find('card').replaceChildren(...cardRows(info).flatMap(([head, words]) => {
      const term = document.createElement('dt');
      term.textContent = head;
      const meaning = document.createElement('dd');
      meaning.textContent = words;
      return [term, meaning];
    }));
    find('about').hidden = false;
  }
}
