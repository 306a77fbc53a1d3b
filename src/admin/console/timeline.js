// Draws a stream's history above a time axis: pushes and recordings as bars, other events as marks.

import { time } from './board.js';
import { mask } from './dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const PAD = 10;
/** More bars at the same time than this lie on each other. */
const ROWS = 4;
const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 86400, 7 * 86400, 28 * 86400].map((seconds) => seconds * 1000);
const HOUR = 3600 * 1000;

/** How far back the picture goes. */
export const SPANS = [['1 hour', HOUR], ['6 hours', 6 * HOUR], ['1 day', 24 * HOUR], ['7 days', 168 * HOUR], ['Everything', Infinity]];

const LANES = [
  ['snapshot', 'Snapshots', ['snapshot'], (x, y) => `M${x} ${y - 4}a4 4 0 1 0 0 8a4 4 0 1 0 0 -8`],
  ['exception', 'Exceptions', ['push-exception', 'record-exception'], (x, y) => `M${x} ${y - 5}l5.5 10h-11z`],
  ['audit', 'Audits', ['image-audit', 'audio-audit'], (x, y) => `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z`],
  ['other', 'Others', null, (x, y) => `M${x} ${y - 4}h4v8h-8v-8z`],
];
/** These are seen as bars. */
const AS_BARS = ['stream-begin', 'stream-end', 'record', 'record-status'];

const stamp = (at) => time(new Date(at).toISOString());
const parsed = (text) => (text ? Date.parse(text) : null);

function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Open ones reach to now; of one that a newer one follows, the end is not known, and nobody believes it goes on. */
function pushes({ sessions }, now) {
  return sessions.map((one, at) => {
    const start = parsed(one.start);
    const end = parsed(one.end) ?? (one.superseded ? Math.max(start, parsed(sessions[at - 1]?.start) ?? now) : Math.max(start, now));
    const until = one.end ? `to ${time(one.end)}` : one.superseded ? 'superseded, its end is not known' : 'open';
    return { start, end, kind: one.end ? '' : one.superseded ? 'superseded' : 'open',
      label: `Push from ${time(one.start)} ${until}${one.begin_known ? '' : ', its begin is not known'}` };
  });
}

function recorded({ recordings }, now) {
  return recordings.filter((one) => one.start ?? one.end).map((one) => {
    const start = parsed(one.start ?? one.end);
    const end = parsed(one.end) ?? (one.open ? Math.max(start, now) : start);
    const until = one.end ? `to ${time(one.end)}` : one.open ? 'open' : 'its end is not known';
    return { start, end, kind: one.open ? 'open' : '', label: `Recording ${one.id} (${one.state}) from ${stamp(start)} ${until}` };
  });
}

function marks(events, { audits }) {
  const verdicts = new Map(audits.map((one) => [one.id, [one.suggestion, one.label].filter(Boolean).join(' ')]));
  return [...events, ...audits.filter((one) => !events.some((event) => event.id === one.id))].flatMap((one) => {
    const what = (one.type ?? '').replace(/^css\./, '');
    if (AS_BARS.includes(what)) return [];
    const at = parsed(one.time ?? one.receivedtime);
    const lane = LANES.find(([, , kinds]) => kinds?.includes(what)) ?? LANES.at(-1);
    const verdict = verdicts.get(one.id);
    return at === null ? [] : [{ lane, at, id: one.id, label: `${what}${verdict ? ` (${verdict})` : ''} at ${stamp(at)}` }];
  });
}

/** Bars of the same time below each other. */
function packed(bars) {
  const ends = [];
  return [...bars].sort((a, b) => a.start - b.start).map((bar) => {
    const free = ends.findIndex((end) => end <= bar.start);
    const row = free >= 0 ? free : Math.min(ends.length, ROWS - 1);
    ends[row] = Math.max(bar.end, ends[row] ?? bar.end);
    return { ...bar, row };
  });
}

function ticks(from, to, width) {
  let step = STEPS.find((one) => ((to - from) / one) * 74 <= width) ?? STEPS.at(-1);
  while (((to - from) / step) * 74 > width) step *= 2;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const text = new Date(at).toISOString();
    const isDay = text.slice(11, 19) === '00:00:00';
    found.push([at, isDay ? text.slice(step > 300 * 86400000 ? 0 : 5, 10) : text.slice(11, step < 60000 ? 19 : 16)]);
  }
  return found;
}

/** The shortest span with the whole newest push in it. */
export function fitting(story, now) {
  const newest = parsed(story.sessions[0]?.start);
  const last = story.live ? now : parsed(story.last);
  return newest === null ? Infinity : SPANS.find(([, span]) => last - span <= newest)[1];
}

/** The picture, as wide as it will be shown: writing in it keeps its size. */
export function timeline(story, events, now, span, width) {
  const things = { pushes: pushes(story, now), recordings: recorded(story, now), marks: marks(events, story) };
  const ends = [...things.pushes, ...things.recordings].map((bar) => bar.end).concat(things.marks.map((mark) => mark.at));
  const starts = [...things.pushes, ...things.recordings].map((bar) => bar.start).concat(things.marks.map((mark) => mark.at));
  const to = ends.reduce((a, b) => Math.max(a, b), story.live ? now : parsed(story.last));
  const from = Number.isFinite(span) ? to - span : Math.min(to - 60000, starts.reduce((a, b) => Math.min(a, b), to));
  const x = (at) => Number((PAD + ((Math.max(at, from) - from) / (to - from)) * (width - 2 * PAD)).toFixed(1));
  const inside = (one) => (one.end ?? one.at) >= from && (one.start ?? one.at) <= to;

  const parts = [];
  let y = 4;
  const lane = (title) => { parts.push(draw('text', { x: PAD, y: y + 11, 'aria-hidden': true }, title)); y += 18; };
  const named = (label) => ({ role: 'img', 'aria-label': mask(label), tabindex: -1 });
  const bars = (title, kind, all, height) => {
    const seen = packed(all.filter(inside));
    if (seen.length === 0) return 0;
    lane(title);
    for (const bar of seen) {
      parts.push(draw('rect', { ...named(bar.label), class: `bar ${kind} ${bar.kind}`.trim(), x: x(bar.start), y: y + bar.row * (height + 3),
        width: Math.max(3, Number((x(bar.end) - x(bar.start)).toFixed(1))), height, rx: 2 }, draw('title', {}, mask(bar.label))));
    }
    y += (Math.max(...seen.map((bar) => bar.row)) + 1) * (height + 3) + 5;
    return seen.length;
  };
  const counts = [[bars('Pushes', 'push', things.pushes, 18), 'push', 'pushes'], [bars('Recordings', 'recording', things.recordings, 8), 'recording', 'recordings']];
  for (const one of LANES) {
    const [kind, title, , shape] = one;
    const seen = things.marks.filter((mark) => mark.lane === one && inside(mark)).sort((a, b) => a.at - b.at);
    counts.push([seen.length, kind, `${kind}s`]);
    if (seen.length === 0) continue;
    lane(title);
    for (const mark of seen) {
      // A link to the event's page, with the same kind of name as a bar.
      const { role, ...label } = named(mark.label);
      parts.push(draw('a', { ...label, href: `#/event/${encodeURIComponent(mark.id)}`, class: `mark ${kind}` },
        draw('title', {}, mask(mark.label)), draw('path', { d: shape(x(mark.at), y + 6) })));
    }
    y += 20;
  }
  const axis = [draw('line', { x1: PAD, x2: width - PAD, y1: y, y2: y })];
  for (const [at, text] of ticks(from, to, width - 2 * PAD)) {
    // Near the ends a centred label would not fit.
    const anchor = x(at) < 30 ? 'start' : x(at) > width - 30 ? 'end' : 'middle';
    axis.push(draw('line', { x1: x(at), x2: x(at), y1: 4, y2: y + 4, class: 'tick' }), draw('text', { x: x(at), y: y + 17, 'text-anchor': anchor }, text));
  }
  const seen = counts.filter(([number]) => number > 0).map(([number, one, many]) => (number === 1 ? `1 ${one}` : `${number} ${many}`));
  const summary = `${seen.join(', ') || 'nothing'}, from ${stamp(from)} to ${stamp(to)} UTC`;
  const svg = draw('svg', { class: 'timeline', viewBox: `0 0 ${width} ${y + 24}`, role: 'group', 'aria-labelledby': 'timeline-title', 'aria-describedby': 'timeline-desc' },
    draw('title', { id: 'timeline-title' }, 'Timeline of the stream'), draw('desc', { id: 'timeline-desc' }, summary),
    draw('g', { class: 'axis', 'aria-hidden': true }, ...axis), ...parts);
  svg.querySelector('[aria-label]')?.setAttribute('tabindex', 0);
  return { svg, summary };
}

/** Makes the picture one stop of the Tab key. Arrow keys move between marks. The focused or pointed mark is named. */
export function navigate(box, name) {
  const all = () => [...box.querySelectorAll('[aria-label]')];
  box.addEventListener('keydown', (event) => {
    const marks = all();
    const at = marks.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: marks.length - 1 }[event.key];
    if (at < 0 || !marks[to]) return;
    event.preventDefault();
    marks[to].focus();
  });
  box.addEventListener('focusin', ({ target }) => {
    for (const one of all()) one.setAttribute('tabindex', one === target ? 0 : -1);
  });
  const label = (node) => node?.closest('[aria-label]')?.getAttribute('aria-label');
  const show = ({ type, target }) => {
    const focused = type !== 'focusout' && box.contains(document.activeElement) ? document.activeElement : null;
    name((type === 'pointerover' && label(target)) || label(focused) || '');
  };
  // Listens on the box: an SVG with such listeners would itself become a stop of the Tab key.
  for (const type of ['pointerover', 'pointerout', 'focusin', 'focusout']) box.addEventListener(type, show);
}
