/* How many tokens DNA makes, until the model's own tokenizer has counted them. */

/* Tokens a base, and more of them a CG: GENA-LM's vocabularies were learnt from the human genome,
 * where CG is rare, so that few of their tokens span one. Fitted to stretches of bacteria, yeast, fly, chicken,
 * cattle and mouse, of 3 kb and more within 5 %; of human ones 4 to 13 % too many on average, since the genome's
 * repeats are in the vocabulary. gena-mini's was learnt from bacteria and flies. */
const GENA_LM = { base: 0.156, cg: 0.32 };
const MINI = { base: 0.204, cg: 0 };
/* What other letters become: a token each, but for long runs of N with the tokenizers of these. */
const FOLDS_N = /t2t|moderngena/i;
const RUN_OF_N = 10;

/* For each ASCII code: which of these it is. */
const [OTHER, BASE, C, G, N] = [0, 1, 2, 3, 4];
const KIND = new Uint8Array(128);
Object.entries({ A: BASE, T: BASE, C, G, N }).forEach(([letter, kind]) => { KIND[letter.charCodeAt(0)] = kind; });

/**
 * @param {string[]} sequences clean, in upper case
 * @param {string | undefined} model the checkpoint's name, if it is known
 * @returns {number} of all of them, [CLS] and [SEP] left out
 */
export function estimateTokens(sequences, model = '') {
  const { base, cg } = model.split('/').at(-1) === 'gena-mini' ? MINI : GENA_LM;
  const folds = FOLDS_N.test(model);
  let total = 0;
  for (const sequence of sequences) {
    const { bases, pairs, others, folded } = composition(sequence);
    total += base * bases + cg * pairs + (folds ? folded : others);
  }
  return Math.round(total);
}

/* Bases; CG among them; letters that are none; and these where a long run of N is one. */
function composition(sequence) {
  const counts = new Uint32Array(5);
  let [pairs, folded, run, before] = [0, 0, 0, OTHER];
  const fold = () => (run < RUN_OF_N ? run : 1);
  for (let at = 0; at < sequence.length; at += 1) {
    const kind = KIND[sequence.charCodeAt(at)];
    counts[kind] += 1;
    if (kind === G && before === C) pairs += 1;
    if (kind === N) run += 1;
    else if (run) {
      folded += fold();
      run = 0;
    }
    before = kind;
  }
  const others = counts[OTHER];
  return {
    bases: counts[BASE] + counts[C] + counts[G],
    pairs,
    others: others + counts[N],
    folded: others + folded + fold(),
  };
}
