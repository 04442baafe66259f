/* Where DNA goes in: the text field, files, and what can be said before the model is asked. */

import { GENES_FASTA, SWITCH_FASTA } from './example.js';
import { KINDS } from './flat-files.js';
import { find, format, plural } from './page.js';
import { linesToFasta, piecesToFasta, repairOf } from './repairs.js';
import { examine } from './sequence.js';

const MARKED_UP_TO = 20_000; // letters of text that are laid out twice, to mark some of them
const IN_FIELD_UP_TO = 300_000; // letters; a longer file is kept beside the field
/** Bases whose tokens are counted: a second for the service, and 6 MB of answer. */
export const COUNTED_UP_TO = 1_000_000;
const TYPING_PAUSE = 250;
const PIECE = 10_000; // bases of the pieces that a long record is cut into on request

/** More tokens than this, all of them (200 MB at 768 features), are not for a page. */
export const MOST_TOKENS = 65_000;

/** Sends `change` when the text is another one. */
export class Editor extends EventTarget {
  /** @param {(records: object[], signal: AbortSignal) => Promise<object | null>} tokenize
   *   gives `{tokens: number[], unknown: number, window: number}`, or null: of each record, of all,
   *   and how many fit into a window; [CLS] and [SEP] left out. */
  constructor(tokenize) {
    super();
    this.tokenize = tokenize;
    this.field = find('text');
    this.marks = find('marks');
    this.attached = null;
    this.fileName = null;
    this.counted = null;
    this.window = null; // tokens that fit into one, once the service has counted any
    this.counter = null; // whose tokenizer counts
    this.awaited = false; // a tokenizer that will
    this.pending = false; // a count
    this.counting = new AbortController();
    this.field.addEventListener('input', () => {
      this.fileName = null;
      this.update();
    });
    this.field.addEventListener('scroll', () => this.alignMarks());
    new ResizeObserver(() => this.alignMarks()).observe(this.field);
    const example = (id, text) => find(id).addEventListener('click', () => {
      this.set(text);
      find('run').focus();
    });
    example('example', SWITCH_FASTA);
    example('example-records', GENES_FASTA);
    find('open').addEventListener('click', () => find('file').click());
    find('file').addEventListener('change', ({ target }) => {
      if (target.files.length) this.read(target.files[0]);
      target.value = '';
    });
    for (const id of ['detach', 'clear']) {
      find(id).addEventListener('click', () => {
        this.set('');
        this.field.focus();
      });
    }
    this.acceptDrops();
    this.update();
  }

  /**
   * Count by whose tokenizer counts now, again where it is another one. What none stands for any more is forgotten.
   *
   * @param {import('./service.js').Health} health
   */
  follow({ counter, current: { status } }) {
    const another = counter !== this.counter;
    const awaited = counter === null && (status === 'converting' || status === 'loading');
    const news = another || awaited !== this.awaited;
    [this.counter, this.awaited] = [counter, awaited];
    if (counter === null) this.counted = null;
    if (another || !(this.counted || this.pending)) this.count();
    if (news) this.report();
  }

  /** Of all records, as they were counted. */
  get tokens() {
    return this.counted.tokens.reduce((sum, count) => sum + count, 0);
  }

  /* More than the page shows of one record, as far as it is known. */
  get tooLong() {
    const { bases, problem } = this.examined;
    if (this.counted) return this.tokens > MOST_TOKENS;
    return !problem && bases > COUNTED_UP_TO;
  }

  /** Not too long to be counted. */
  get countable() {
    const { bases, problem } = this.examined;
    return bases > 0 && !problem && bases <= COUNTED_UP_TO;
  }

  get text() {
    return this.attached ?? this.field.value;
  }

  set(text, fileName = null) {
    const large = text.length > IN_FIELD_UP_TO;
    this.fileName = fileName;
    this.attached = large ? text : null;
    this.field.value = large ? '' : text;
    this.field.scrollTop = 0;
    find('editor').hidden = large;
    find('attached').hidden = !large;
    if (large) {
      find('attached-name').textContent = fileName ?? 'Pasted text';
      find('attached-facts').textContent = `${format(text.length)} characters, too many to show`;
    }
    this.update();
  }

  acceptDrops() {
    let depth = 0;
    const over = (change) => {
      depth = Math.max(0, depth + change);
      document.body.classList.toggle('dropping', depth > 0);
    };
    const carriesFile = (event) => event.dataTransfer?.types.includes('Files');
    window.addEventListener('dragenter', (event) => carriesFile(event) && over(1));
    window.addEventListener('dragleave', (event) => carriesFile(event) && over(-1));
    window.addEventListener('dragover', (event) => carriesFile(event) && event.preventDefault());
    window.addEventListener('drop', (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      over(-depth);
      if (event.dataTransfer.files.length) this.read(event.dataTransfer.files[0]);
    });
  }

  /** Read a file, inflated when it is gzip. */
  async read(file) {
    try {
      this.set(await readText(file), file.name);
    } catch {
      this.findings([{ kind: 'bad', text: `${file.name} cannot be read: it is damaged.` }]);
    }
  }

  /** Mark a place in the text and bring it into view. */
  show({ at, length }) {
    if (this.attached !== null) return;
    this.field.focus();
    this.field.setSelectionRange(at, at + length);
    // Chromium scrolls a field to its selection only when it is typed into.
    const before = this.field.value.slice(0, at);
    const share = before.length / Math.max(1, this.field.value.length);
    this.field.scrollTop = share * this.field.scrollHeight - this.field.clientHeight / 2;
  }

  update() {
    this.examined = examine(this.text);
    this.counted = null;
    this.count();
    this.report();
    this.dispatchEvent(new Event('change'));
  }

  /** Count tokens with the model's own tokenizer, as soon as typing pauses. */
  count() {
    this.counting.abort();
    clearTimeout(this.pause);
    this.pending = this.counter !== null && this.countable;
    if (!this.pending) return;
    this.counting = new AbortController();
    const { signal } = this.counting;
    this.pause = setTimeout(async () => {
      const counted = await this.tokenize(this.examined.records, signal);
      if (signal.aborted) return;
      this.pending = false;
      this.counted = counted;
      this.window = counted?.window ?? this.window;
      this.report();
    }, TYPING_PAUSE);
  }

  report() {
    const { kind, records, bases, problem } = this.examined;
    const facts = [];
    if (kind in KINDS) facts.push(plural(records.length, 'record'));
    if (kind in KINDS && kind !== 'fasta') facts[0] += ` of ${KINDS[kind]}`;
    if (kind !== 'empty') facts.push(plural(bases, 'base'));
    facts.push(this.tokenFacts());
    find('facts').textContent = facts.filter(Boolean).join(' · ');
    find('pooling-choice').hidden = records.length < 2;
    find('examples').hidden = kind !== 'empty';
    find('clear').hidden = kind === 'empty' || this.attached !== null;
    find('run').setAttribute('aria-disabled', String(Boolean(problem)));
    find('run-why').hidden = !problem;
    find('run-why').textContent = problem ? 'Not yet: see the line in red above.' : '';
    this.reportBudget();
    this.mark();
    this.findings(this.observations());
  }

  /* Nothing where nobody will count them. */
  tokenFacts() {
    if (!this.countable) return '';
    if (this.awaited) return 'tokens are counted once the tokenizer is here';
    if (!this.counted) return this.pending ? 'counting tokens…' : '';
    const { tokens } = this;
    if (this.examined.records.length > 1) return plural(tokens, 'token');
    const windows = Math.ceil(tokens / this.window);
    return windows > 1
      ? `${format(tokens)} tokens, read in ${windows} windows of ${format(this.window)}`
      : `${format(tokens)} of ${format(this.window)} tokens`;
  }

  /* How much of one window a single sequence fills; while it is counted, what it did before, pale. */
  reportBudget() {
    const shown = this.examined.records.length === 1 && (this.counted || (this.pending && this.window !== null));
    find('budget').hidden = !shown;
    if (!shown) return;
    const fill = find('budget-fill');
    fill.classList.toggle('counting', !this.counted);
    if (!this.counted) return;
    fill.style.width = `${Math.min(100, (100 * this.tokens) / this.window)}%`;
    fill.classList.toggle('over', this.tokens > this.window);
  }

  observations() {
    const { folded, uracil, space, lines, ambiguous, problem, problems } = this.examined;
    const list = [];
    if (problem) {
      const more = problems > 1 ? ` ${format(problems - 1)} more like it.` : '';
      const excerpt = this.excerpt(problem);
      const repair = repairOf(this.text, this.examined);
      const action = repair && [repair[0], () => this.set(repair[1])];
      list.push({ kind: 'bad', text: problem.message + more, excerpt, problem, action });
    }
    if (lines && !problem) {
      list.push({
        kind: 'note',
        text: `${format(lines)} lines are read as one sequence.`,
        action: ['Make each line a record', () => this.set(linesToFasta(this.text))],
      });
    }
    const [record] = this.examined.records;
    if (this.examined.records.length === 1 && this.tooLong) {
      list.push({
        kind: 'note',
        text: `A record of more than ${format(MOST_TOKENS)} tokens gives one vector here, after minutes, and is not shown `
          + 'along its bases. A map of its pieces is, and each of them.',
        action: [`Cut it into pieces of ${format(PIECE)} bases`, () => this.set(piecesToFasta(record, PIECE), this.fileName)],
      });
    }
    if (folded) {
      const letters = plural(folded, 'lower-case letter is', 'lower-case letters are');
      list.push({ text: `${letters} read as upper case.` });
    }
    if (uracil) list.push({ text: `${plural(uracil, 'U is', 'U are')} read as T.` });
    if (space) list.push({ text: `${plural(space, 'space is', 'spaces are')} left out.` });
    if (ambiguous.size && !problem) {
      const letters = Array.from(ambiguous, ([letter, count]) => `${letter} × ${format(count)}`);
      const kept = `Ambiguous letters are kept (${letters.join(', ')})`;
      list.push({ kind: 'note', text: `${kept}; ${this.unknownFate()}` });
    }
    const long = this.counted?.tokens.filter((count) => count > this.window) ?? [];
    if (long.length && this.examined.records.length > 1) {
      const which = plural(long.length, 'record is', 'records are');
      const reason = `${which} longer than ${format(this.window)} tokens`;
      list.push({ kind: 'note', text: `${reason} and read in windows; each token counts once.` });
    }
    return list;
  }

  unknownFate() {
    if (!this.counted) return 'what the vocabulary lacks becomes an unknown token.';
    const { unknown } = this.counted;
    const which = unknown ? plural(unknown, 'token is', 'tokens are') : 'no token is';
    return `${which} unknown to the model.`;
  }

  excerpt({ at, length }) {
    const text = this.text;
    const end = at + length;
    const around = 12;
    const tidy = (part) => part.replace(/\s/g, ' ');
    return [
      (at > around ? '…' : '') + tidy(text.slice(Math.max(0, at - around), at)),
      text.slice(at, end),
      tidy(text.slice(end, end + around)) + (end + around < text.length ? '…' : ''),
    ];
  }

  findings(list) {
    const items = list.map(({ kind = 'plain', text, excerpt, problem, action }) => {
      const item = document.createElement('li');
      item.className = kind;
      const sentence = document.createElement('span');
      sentence.textContent = text;
      item.append(sentence);
      if (excerpt) item.append(quoted(excerpt));
      if (problem && this.attached === null) {
        item.append(quietButton('Show it', () => this.show(problem)));
      }
      if (action) item.append(quietButton(...action));
      return item;
    });
    const shown = find('findings');
    const words = items.map((item) => item.textContent).join('\n');
    // Replaced only when it says something else: a screen reader reads it out each time.
    if (shown.dataset.words === words) return;
    shown.dataset.words = words;
    shown.replaceChildren(...items);
  }

  /* A second layer behind the field, with the same letters, carries the marks. */
  mark() {
    const text = this.field.value;
    const marks = this.attached === null && text.length <= MARKED_UP_TO ? this.examined.marks : [];
    const { problem } = this.examined;
    const all = [...marks];
    if (problem && text.length <= MARKED_UP_TO && !marks.some(({ at }) => at === problem.at)) {
      all.push({ at: problem.at, length: problem.length, kind: 'refused' });
    }
    all.sort((left, right) => left.at - right.at);
    this.field.setAttribute('aria-invalid', String(Boolean(problem)));
    const nodes = [];
    let end = 0;
    for (const { at, length, kind } of all) {
      const mark = document.createElement('mark');
      mark.className = kind;
      mark.textContent = text.slice(at, at + length);
      nodes.push(text.slice(end, at), mark);
      end = at + length;
    }
    if (nodes.length) nodes.push(text.slice(end), '\n');
    this.marks.replaceChildren(...nodes);
    this.alignMarks();
  }

  alignMarks() {
    this.marks.style.width = `${this.field.clientWidth}px`;
    this.marks.style.height = `${this.field.clientHeight}px`;
    this.marks.scrollTop = this.field.scrollTop;
  }
}

function quietButton(text, onClick) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'quiet';
  button.textContent = text;
  button.addEventListener('click', onClick);
  return button;
}

function quoted([before, middle, after]) {
  const code = document.createElement('code');
  const mark = document.createElement('mark');
  mark.className = 'refused';
  mark.textContent = middle;
  code.append(before, mark, after);
  return code;
}

async function readText(file) {
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (head[0] !== 0x1f || head[1] !== 0x8b) return file.text();
  const inflated = file.stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(inflated).text();
}
