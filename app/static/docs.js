/* /docs, beyond reading: search, this server's address in the examples, and trying requests. */

const WRITTEN = '127.0.0.1:8000'; // the address in the examples
const SHOWN = 4000; // characters of an answer
const KEPT_HEADERS = ['content-type', 'x-gena-fingerprint', 'x-gena-tokens', 'x-request-id'];

const operations = [...document.querySelectorAll('details.operation')];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/* ---- This server ---- */

function writeAddress() {
  if (window.location.host === WRITTEN) return;
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { currentNode: node } = walker;
    if (node.data.includes(WRITTEN)) node.data = node.data.replaceAll(WRITTEN, window.location.host);
  }
}

/* ---- Finding ---- */

function openTarget() {
  const target = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true;
  target.scrollIntoView();
}

function addSearch() {
  const field = element('input', { type: 'search', id: 'find', placeholder: 'Search' });
  const said = element('p', { className: 'soft' });
  said.setAttribute('role', 'status');
  const label = element('label', { className: 'hidden-text', htmlFor: 'find' }, 'Search the reference');
  document.getElementById('search').append(label, field, said);
  const sections = [...operations, ...document.querySelectorAll('details.schema')];
  const words = new Map(sections.map((section) => [section, section.textContent.toLowerCase()]));
  field.addEventListener('input', () => {
    const wanted = field.value.trim().toLowerCase();
    const found = sections.filter((section) => words.get(section).includes(wanted));
    for (const section of sections) section.hidden = !found.includes(section);
    for (const item of document.querySelectorAll('nav li')) {
      const target = document.getElementById(item.querySelector('a').hash.slice(1));
      item.hidden = Boolean(target?.hidden);
    }
    said.textContent = wanted ? `${found.length} of ${sections.length} have it` : '';
  });
}

/* ---- Trying ---- */

let key = '';

function addForm(operation) {
  const { method, path } = operation.dataset;
  const json = operation.querySelector('.content[data-type="application/json"]');
  const example = method === 'POST' ? json?.querySelector('pre')?.textContent ?? '' : null;
  const name = (part) => `${operation.id}-${part}`;
  const query = element('input', { id: name('query'), placeholder: 'pooling=mean&format=json', size: 32 });
  const body = element('textarea', { id: name('body'), rows: 5, value: example ?? '', spellcheck: false });
  const secret = element('input', { id: name('key'), type: 'password', autocomplete: 'off', size: 16 });
  secret.addEventListener('input', () => { key = secret.value.trim(); });
  const output = element('pre', { tabIndex: 0, hidden: true });
  output.setAttribute('role', 'region');
  output.setAttribute('aria-label', `Answer of ${path}`);
  const said = element('p', { className: 'soft' });
  said.setAttribute('role', 'status');
  const send = element('button', { type: 'button', className: 'primary' }, `Send to ${window.location.host}`);
  const row = (label, field) => element('p', {}, element('label', { htmlFor: field.id }, `${label} `), field);
  const rows = [row('Query', query)];
  if (example) rows.push(row('JSON', body));
  rows.push(row('API key, if this server wants one', secret), send, said, output);
  send.addEventListener('click', async () => {
    said.textContent = 'Sent…';
    output.hidden = true;
    try {
      const answer = await request(method, path, query.value, example ? body.value : null);
      said.textContent = answer.head;
      output.textContent = answer.text;
      output.hidden = false;
    } catch {
      said.textContent = 'The service does not answer.';
    }
  });
  operation.querySelector('.try').append(element(
    'details', {}, element('summary', {}, element('strong', {}, 'Try it')), ...rows));
}

async function request(method, path, query, body) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (key) headers.Authorization = `Bearer ${key}`;
  const url = query ? `${path}?${query.replace(/^\?/, '')}` : path;
  const response = await fetch(url, { method, headers, body: body || undefined });
  const buffer = await response.arrayBuffer();
  const kept = KEPT_HEADERS.filter((name) => response.headers.has(name))
    .map((name) => `${name}: ${response.headers.get(name)}`);
  const head = `${response.status} ${response.statusText} · ${buffer.byteLength.toLocaleString('en')} bytes`;
  return { head, text: [...kept, '', readable(response, buffer)].join('\n') };
}

function readable(response, buffer) {
  const type = response.headers.get('content-type') ?? '';
  if (!/json|text|tab-separated/.test(type)) return '(not text: use curl -o to keep it)';
  const text = new TextDecoder().decode(buffer.slice(0, 4 * SHOWN)).slice(0, SHOWN);
  if (text.length < SHOWN && type.includes('json')) return JSON.stringify(JSON.parse(text), null, 2);
  return text.length < SHOWN ? text : `${text}…`;
}

writeAddress();
addSearch();
operations.forEach(addForm);
window.addEventListener('hashchange', openTarget);
openTarget();
