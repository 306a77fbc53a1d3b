// What arrives, as it arrives.

import { get } from './api.js';
import { el, fail, row } from './dom.js';

const SHOWN = 200;
const FILTERS = ['kind', 'source', 'domain', 'stream'];

export const eventColumns = [
  ['Received', (one) => one.receivedtime],
  ['Kind', (one) => el('a', { href: `#/event/${encodeURIComponent(one.id)}` }, (one.type ?? '').replace(/^css\./, ''))],
  ['Source', (one) => (one.source ?? '').replace(/^\//, '')],
  ['Domain', (one) => one.domain],
  ['Stream', (one) => [one.appname, one.streamid].filter(Boolean).join('/')],
];

export async function feed(main) {
  let source = null;
  const rows = el('tbody', { id: 'feed' });
  const state = el('p', { class: 'soft', role: 'status' });
  const inputs = FILTERS.map((name) => el('input', { name, autocomplete: 'off', spellcheck: 'false' }));
  const add = (item) => {
    rows.prepend(row(eventColumns, item));
    if (rows.children.length > SHOWN) rows.lastElementChild.remove();
  };
  const begin = async () => {
    source?.close();
    rows.replaceChildren();
    const query = new URLSearchParams();
    for (const input of inputs) if (input.value.trim()) query.set(input.name, input.value.trim());
    try {
      // Also says in words what is wrong with a filter; an EventSource would not.
      const { items } = await get(`/api/events?${query}&order=newest&limit=50`);
      items.reverse().forEach(add);
    } catch (error) { state.textContent = 'Not watching.'; fail(error); return; }
    source = new EventSource(`/api/events/stream?${query}`);
    source.onopen = () => { state.textContent = 'Watching. The newest is at the top.'; };
    source.onerror = () => { state.textContent = source.readyState === 2 ? 'The server closed the watch: too many may be watching.' : 'The connection broke; trying again.'; };
    source.addEventListener('event', (message) => add(JSON.parse(message.data)));
  };
  const form = el('form', { onsubmit: (event) => { event.preventDefault(); begin(); } },
    ...inputs.map((input) => el('label', {}, input.name, input)), el('button', {}, 'Filter'));
  main.append(el('h1', {}, 'Live'), form, state,
    el('div', { class: 'scroll' }, el('table', { 'aria-label': 'Events' },
      el('thead', {}, el('tr', {}, ...eventColumns.map(([title]) => el('th', { scope: 'col' }, title)))), rows)));
  await begin();
  return { stop: () => source?.close() };
}
