/* How many tokens DNA makes, until the model's own tokenizer has counted them. */

/* Tokens a base, and more of them a CG: GENA-LM's vocabularies were learnt from the human genome,
 * where CG is rare, so that few of their tokens span one. Fitted to stretches of bacteria, yeast, fly, chicken,
 * cattle and mouse, of 3 kb and more within 5 %; of the human genome too many, by a tenth on average,
 * since its repeats are in the vocabulary. gena-mini's was learnt from bacteria and flies. */
const GENA_LM = { base: 0.156, cg: 0.32 };
const MINI = { base: 0.204, cg: 0 };
/* What other letters become: a token each, but for long runs of N with the tokenizers of these. */
const FOLDS_N = /t2t|moderngena/i;
const RUN_OF_N = 10;

const [C, G, N] = ['C', 'G', 'N'].map((letter) => letter.charCodeAt(0));
const isBase = (code) => code === 65 || code === C || code === G || code === 84;

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
  let [bases, pairs, others, folded, run, before] = [0, 0, 0, 0, 0, 0];
  const endRun = () => {
    folded += run < RUN_OF_N ? run : 1;
    run = 0;
  };
  for (let at = 0; at < sequence.length; at += 1) {
    const code = sequence.charCodeAt(at);
    if (code === N) run += 1;
    else if (run) endRun();
    if (isBase(code)) bases += 1;
    else others += 1;
    if (code === G && before === C) pairs += 1;
    if (code !== N && !isBase(code)) folded += 1;
    before = code;
  }
  endRun();
  return { bases, pairs, others, folded };
}
