// The page of one stream: its facts, and its history as a picture and as a list.

import { get } from './api.js';
import { keyFrom, keyOf, lasted, nameOf, pathOf, time } from './board.js';
import { button, el, fail, mask, outward, quiet, shown, table } from './dom.js';
import { eventColumns } from './feed.js';
import { SPANS, fitting, navigate, timeline } from './timeline.js';
import { watch } from './watch.js';

/** A burst of changes is one. */
const GATHER = 200;
/** The watch tells of begins and ends only. */
const LOOK = 5000;
const HINT = 'Point at a bar or a mark, or reach it with the Tab and arrow keys, to read its description.';

const size = ({ width, height }) => (width && height ? `${width} × ${height}` : null);
const reason = (one) => one.end_reason && `${one.end_reason} (${one.errcode})${one.errmsg ? `: ${one.errmsg}` : ''}`;

function since(story) {
  const state = story.live ? 'live' : 'offline';
  return story.since ? `${state} since ${time(story.since)} UTC, for ${lasted(Date.parse(story.since), Date.now())}` : state;
}

function facts(story) {
  const [last = {}] = story.sessions;
  const [source, domain, appname, streamid] = keyOf(story);
  const snapshot = story.last_snapshot;
  return [
    ['State', el('span', { id: 'state', class: story.live ? 'live' : '' }, since(story))],
    ['Source', source], ['Push domain', domain], ['App', appname], ['Stream', streamid],
    ['Push sequence', last.pushsequence], ['Pusher', last.pusher], ['Resolution', size(last)],
    ['End reason', reason(last)], ['Push exceptions', story.push_exceptions],
    ['Last snapshot', snapshot && outward(snapshot.url, [time(snapshot.time), size(snapshot)].filter(Boolean).join(', '))],
  ];
}

const SESSIONS = [
  ['Start, UTC', (one) => time(one.start)],
  ['End, UTC', (one) => time(one.end) ?? (one.superseded ? 'not known, superseded' : 'open')],
  ['Lasted', (one) => (one.superseded ? null : lasted(Date.parse(one.start), one.end ? Date.parse(one.end) : Date.now()))],
  ['Sequence', (one) => one.pushsequence], ['Pusher', (one) => one.pusher], ['Resolution', size],
  ['End reason', reason], ['Exceptions', (one) => one.push_exceptions],
];

const RECORDINGS = [
  ['Start, UTC', (one) => time(one.start)], ['End, UTC', (one) => time(one.end) ?? (one.open ? 'open' : null)],
  ['State', (one) => one.state], ['Recording', (one) => one.id], ['File', (one) => one.url && outward(one.url, one.url)],
];

const EVENTS = [['Happened', (one) => one.time], ...eventColumns.slice(0, 2)];

/** Puts other content in, with the keyboard on what leads where that did which had it. */
function refill(node, ...content) {
  const place = (one) => one.getAttribute('href') ?? one.getAttribute('aria-label') ?? one.textContent;
  const had = document.activeElement;
  const was = node.contains(had) && place(had);
  node.replaceChildren(...content);
  if (was) [...node.querySelectorAll('a, button, [tabindex]')].find((one) => place(one) === was)?.focus({ preventScroll: true });
}

export async function stream(main, alive, ...parts) {
  const key = keyFrom(parts);
  const path = `/api/streams/${pathOf(key)}`;
  const state = el('p', { class: 'soft', role: 'status' });
  const head = el('h1', {}, mask(nameOf(key)));
  const [about, picture, sessions, list] = ['about', 'picture', 'sessions', 'events'].map((id) => el('div', { id }));
  const naming = el('p', { class: 'soft', id: 'naming' }, HINT);
  const spans = el('select', { onchange: () => paint() }, ...SPANS.map(([text, span]) => el('option', { value: span }, text)));
  let story = null;
  let events = [];
  let next = null;

  function paint() {
    const width = Math.max(280, Math.round(picture.clientWidth));
    const { svg, summary } = timeline(story, events, Date.now(), Number(spans.value), width);
    refill(picture, svg, el('p', { class: 'soft', id: 'summary' }, `${summary}.`));
  }

  function write() {
    head.textContent = mask(nameOf(keyOf(story)));
    refill(about, el('dl', {}, ...facts(story).flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value instanceof Node ? value : shown(value))])));
    refill(sessions,
      ...(story.sessions.length ? [el('h2', {}, 'Sessions'), table('Sessions', SESSIONS, story.sessions)] : []),
      ...(story.recordings.length ? [el('h2', {}, 'Recordings'), table('Recordings', RECORDINGS, story.recordings)] : []));
    refill(list, table('Events', EVENTS, events), ...(next ? [button('More events', older)] : []));
    paint();
  }

  async function older() {
    const page = await get(`${path}?after=${encodeURIComponent(next)}`);
    if (!alive()) return;
    const known = new Set(events.map((one) => one.id));
    events = [...events, ...page.timeline.filter((one) => !known.has(one.id))];
    next = page.next;
    write();
  }

  async function load() {
    const page = await get(path);
    if (!alive()) return;
    const known = new Set(page.timeline.map((one) => one.id));
    const rest = events.filter((one) => !known.has(one.id));
    // Older events that were loaded stay below, unless events are missing between them and the new ones.
    const joins = rest.length > 0 && rest.length < events.length;
    events = joins ? [...page.timeline, ...rest] : page.timeline;
    if (!joins) next = page.next;
    if (!story) spans.value = fitting(page, Date.now());
    story = page;
    write();
  }

  let busy = false;
  let failed = false;
  let gathering = null;
  async function look() {
    gathering = null;
    if (busy) { reload(); return; }
    busy = true;
    try {
      await load();
      if (failed && alive()) quiet();
      failed = false;
    } catch (error) {
      if (alive()) fail(error);
      failed = true;
    } finally { busy = false; }
  }
  function reload() { gathering ??= setTimeout(look, GATHER); }

  navigate(picture, (label) => { naming.textContent = label || HINT; });
  main.append(head, state, about, el('h2', {}, 'Timeline'), el('form', {}, el('label', {}, 'Time span', spans)), picture, naming,
    sessions, el('h2', {}, 'Events'), list);
  const [source, domain, appname, streamid] = key.map((part) => (part === '-' ? '' : part));
  const query = new URLSearchParams({ source, ...(domain && { domain }), stream: appname ? `${appname}/${streamid}` : streamid || '-' });
  const watching = watch(`/api/streams/stream?${query}`, 'stream', (item) => { if (pathOf(keyOf(item)) === pathOf(key)) reload(); },
    state, 'Watching: the page changes as the stream does.', reload);
  const sized = new ResizeObserver(() => { if (story && picture.clientWidth !== drawn()) paint(); });
  const drawn = () => picture.querySelector('svg')?.viewBox.baseVal.width;
  const timers = [
    setInterval(() => { const text = document.getElementById('state'); if (story && text) text.textContent = since(story); }, 1000),
    setInterval(() => { if (!document.hidden) reload(); }, LOOK)];
  const stop = () => { watching.close(); sized.disconnect(); clearTimeout(gathering); timers.forEach(clearInterval); };
  try {
    await watching.settled;
    await load();
  } catch (error) { stop(); throw error; }
  sized.observe(picture);
  return { stop };
}
