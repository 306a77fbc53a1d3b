// The list of streams, updated as they change.

import { get, post } from './api.js';
import { keyOf, lasted, linkTo, nameOf, pathOf, time } from './board.js';
import { button, counted, el, fail, mask, quiet, row, say } from './dom.js';
import { watch } from './watch.js';

const PAGE = 200;
/** A burst of changes is drawn at once. */
const GATHER = 100;
/** Who types is not done yet. */
const TYPING = 250;
/** The watch tells of begins and ends only; other events make a stream's last one. */
const LOOK = 10000;
const LONGEST = 1000;

const when = (text) => (text ? Date.parse(text) : -Infinity);
const age = (one) => one.since && lasted(Date.parse(one.since), Date.now());

/** Title, what gives a cell, what it is sorted by. */
const COLUMNS = [
  ['Stream', (one) => el('a', { href: linkTo(keyOf(one)) }, mask(nameOf(keyOf(one)))), (one) => nameOf(keyOf(one))],
  ['State', (one) => el('span', { class: one.live ? 'live' : '' }, one.live ? 'live' : 'offline'), (one) => (one.live ? 0 : 1)],
  ['Since, UTC', (one) => time(one.since), (one) => when(one.since)],
  ['For', age, (one) => -when(one.since)],
  ['Last event, UTC', (one) => time(one.last), (one) => when(one.last)],
  ['Source', (one) => keyOf(one)[0], (one) => keyOf(one)[0]],
];
const FOR = 3;
const alphabet = new Intl.Collator('en', { numeric: true });
const compare = (a, b) => (typeof a === 'string' ? alphabet.compare(a, b) : (a > b) - (a < b));

/** Puts rows in order and moves only those that are not; the keyboard stays where it is. */
function arrange(body, rows) {
  const had = document.activeElement;
  let at = body.firstElementChild;
  for (const one of rows) {
    if (one === at) at = at.nextElementSibling; else body.insertBefore(one, at);
  }
  if (had !== document.activeElement && had.isConnected) had.focus({ preventScroll: true });
}

export async function streams(main, alive) {
  const shown = new Map();
  const changes = new Map();
  const body = el('tbody', { id: 'streams' });
  const state = el('p', { class: 'soft', role: 'status' });
  const count = el('p', { id: 'count' });
  const live = el('select', { name: 'live', onchange: () => restart() },
    ...[['true', 'Live now'], ['false', 'Offline'], ['', 'All']].map(([value, text]) => el('option', { value }, text)));
  let typing;
  const search = el('input', { type: 'search', name: 'search', autocomplete: 'off', spellcheck: 'false',
    oninput: () => { clearTimeout(typing); typing = setTimeout(restart, TYPING); } });
  let by = 2;
  let down = true;
  let watching = null;
  let turn = 0;
  // Changes that arrive while a list is loaded are applied after it: they may be newer.
  let asking = 0;
  let gathering = null;
  // The start of the next page, or of the last page if there is no next one.
  let after = null;
  let pages = 0;
  let more = false;

  const heads = COLUMNS.map(([title], at) => el('th', { scope: 'col' }, el('button', { type: 'button', onclick: () => {
    down = at === by && !down;
    by = at;
    draw();
  } }, title)));
  const next = button('More streams', () => held(() => load(false)));

  function draw() {
    heads.forEach((head, at) => {
      if (at === by) head.setAttribute('aria-sort', down ? 'descending' : 'ascending'); else head.removeAttribute('aria-sort');
    });
    const [, , order] = COLUMNS[by];
    const rows = [...shown.values()].map((one) => [order(one.item), nameOf(keyOf(one.item)), one.tr]);
    rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])) || compare(a[1], b[1]));
    arrange(body, rows.map(([, , tr]) => tr));
    next.hidden = !more;
    count.textContent = `${counted(shown.size, 'stream')} shown${more ? ', there are more' : ''}.`;
  }

  function put(item) {
    const key = pathOf(keyOf(item));
    const old = shown.get(key);
    if (live.value !== '' && String(item.live) !== live.value) {
      old?.tr.remove();
      shown.delete(key);
    } else if (old) {
      old.item = item;
      // The link is not replaced: it is the same, and it may have the keyboard focus.
      [...row(COLUMNS, item).cells].forEach((cell, at) => at > 0 && old.tr.cells[at].replaceWith(cell));
    } else if (shown.size < pages * PAGE) {
      shown.set(key, { item, tr: row(COLUMNS, item) });
    } else {
      // The page does not grow by itself, however many streams there are.
      more = true;
    }
  }

  function flush() {
    gathering = null;
    if (asking > 0) return;
    for (const item of changes.values()) put(item);
    changes.clear();
    draw();
  }

  function take(item) {
    changes.set(pathOf(keyOf(item)), item);
    gathering ??= setTimeout(flush, GATHER);
  }

  function asked(part) {
    const query = new URLSearchParams(part);
    if (search.value.trim()) query.set('search', search.value.trim());
    // Watched without the filter for live streams, to learn of those that no longer match it.
    if (part && live.value) query.set('live', live.value);
    return query;
  }

  async function held(work) {
    asking += 1;
    try { await work(); } finally { asking -= 1; }
    if (asking === 0 && alive()) flush();
  }

  async function load(first) {
    const mine = turn;
    let start = first ? null : after;
    let before;
    do {
      const page = await get(`/api/streams?${asked({ limit: PAGE, ...(start && { after: start }) })}`);
      if (mine !== turn || !alive()) return;
      if (first) {
        shown.clear();
        body.replaceChildren();
        pages = 0;
      }
      before = shown.size;
      pages += 1;
      after = start = page.next ?? start;
      more = page.next !== null;
      page.items.forEach(put);
      // All streams of a page may already be shown, because of changes.
    } while (more && shown.size === before);
  }

  const begin = () => held(async () => {
    const mine = turn += 1;
    watching?.close();
    changes.clear();
    // Watching starts before the list is read, so that no change is missed between the two.
    watching = watch(`/api/streams/stream?${asked()}`, 'stream', take, state, 'Watching: the list changes as streams do.', () => restart());
    await watching.settled;
    if (mine === turn && alive()) await load(true);
  });

  const look = () => held(async () => {
    const mine = turn;
    const { items } = await get(`/api/streams?${asked({ limit: Math.min(LONGEST, Math.max(pages, 1) * PAGE) })}`);
    if (mine === turn && alive()) items.filter((item) => shown.has(pathOf(keyOf(item)))).forEach(put);
  });

  function restart() {
    clearTimeout(typing);
    quiet();
    begin().catch((error) => alive() && fail(error));
  }

  const rebuild = button('Rebuild the board', async () => {
    if (!window.confirm('Rebuild the board from every stored event? This takes a while if there are many.')) return;
    const { count: number } = await post('/api/streams/rebuild');
    if (!alive()) return;
    await begin();
    say(`The board was rebuilt from ${counted(number, 'event')}.`);
  });
  main.append(el('h1', {}, 'Streams'),
    el('form', { onsubmit: (event) => { event.preventDefault(); restart(); } },
      el('label', {}, 'Show', live), el('label', {}, 'Search', search)),
    state, count,
    el('div', { class: 'scroll' }, el('table', { 'aria-label': 'Streams', class: 'sortable' },
      el('thead', {}, el('tr', {}, ...heads)), body)),
    el('p', {}, next), el('h2', {}, 'Repair'),
    el('p', { class: 'soft' }, 'The board is built from the stored events. If it is wrong or damaged, rebuild it.'), rebuild);
  const tick = setInterval(() => {
    for (const { item, tr } of shown.values()) {
      const text = age(item) ?? '–';
      if (tr.cells[FOR].textContent !== text) tr.cells[FOR].textContent = text;
    }
  }, 1000);
  // No message here: if this fails, watching fails too and shows a message.
  const looks = setInterval(() => { if (!document.hidden) look().catch(() => {}); }, LOOK);
  const stop = () => { watching?.close(); [typing, gathering].forEach(clearTimeout); [tick, looks].forEach(clearInterval); };
  await begin().catch((error) => { stop(); throw error; });
  return { stop };
}
