// The page of new events, shown as they arrive.

import { get } from './api.js';
import { el, fail, quiet, row } from './dom.js';
import { watch } from './watch.js';

const SHOWN = 200;
const LISTED = 50;
const FILTERS = ['kind', 'source', 'domain', 'stream'];

export const eventColumns = [
  ['Received', (one) => one.receivedtime],
  ['Kind', (one) => el('a', { href: `#/event/${encodeURIComponent(one.id)}` }, (one.type ?? '').replace(/^css\./, ''))],
  ['Source', (one) => (one.source ?? '').replace(/^\//, '')],
  ['Domain', (one) => one.domain],
  ['Stream', (one) => [one.appname, one.streamid].filter(Boolean).join('/')],
];

/** What is told while the list is asked for comes behind it, or before if the list begins later. */
function joined(list, told) {
  const ids = new Set(list.map((one) => one.id));
  const at = told.findIndex((one) => ids.has(one.id));
  const older = at > 0 ? told.slice(0, at) : [];
  return [...older, ...list, ...told.slice(older.length).filter((one) => !ids.has(one.id))];
}

export async function feed(main, alive) {
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
    const told = [];
    let take = (item) => told.push(item);
    const mine = source = watch(`/api/events/stream?${query}`, 'event', (item) => take(item), state, 'Watching. The newest is at the top.');
    try {
      // Watching starts before the list is read, so that no event is missed between the two.
      await mine.settled;
      // This request also reports an invalid filter; an EventSource gives no reason.
      const { items } = await get(`/api/events?${query}&order=newest&limit=${LISTED}`);
      if (mine !== source || !alive()) return;
      const known = new Set(items.map((one) => one.id));
      joined(items.reverse(), told).forEach(add);
      take = (item) => { if (!known.has(item.id)) add(item); };
    } catch (error) {
      if (mine !== source || !alive()) return;
      mine.close();
      state.textContent = 'Not watching.';
      fail(error);
    }
  };
  const form = el('form', { onsubmit: (event) => { event.preventDefault(); quiet(); begin(); } },
    ...inputs.map((input) => el('label', {}, input.name, input)), el('button', {}, 'Filter'));
  main.append(el('h1', {}, 'Live'), form, state,
    el('div', { class: 'scroll' }, el('table', { 'aria-label': 'Events' },
      el('thead', {}, el('tr', {}, ...eventColumns.map(([title]) => el('th', { scope: 'col' }, title)))), rows)));
  await begin();
  return { stop: () => source?.close() };
}
