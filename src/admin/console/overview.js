// The overview: rates, times, handlers, and callbacks that the platform will soon stop repeating.

import { get } from './api.js';
import { chart } from './chart.js';
import { el, table } from './dom.js';
import { course, latest, quantile, rates, sample } from './metrics.js';

const MINUTES = 5 * 60 * 1000;
/** Nobody pages through all of them for a figure. */
const COUNTED = 1000;

const tile = (title, value) => el('div', { class: 'tile' }, el('span', {}, title), el('b', {}, value));

function time(seconds) {
  if (seconds === null) return '–';
  if (seconds === Infinity) return 'very long';
  return seconds < 1 ? `≤ ${Number((seconds * 1000).toPrecision(3))} ms` : `≤ ${Number(seconds.toPrecision(3))} s`;
}

function warning(item) {
  const left = Math.round(item.remaining_seconds / 60);
  const what = `${item.kind} of ${item.source}: ${item.result} since ${item.since}.`;
  return el('p', { class: 'loud' }, left > 0
    ? `${what} The sender gives up in about ${left} min.` : `${what} The sender is about to give up, or already has.`);
}

function deaf() {
  const sources = [...latest('livehook_source_deaf', 'source')].filter(([, is]) => is > 0);
  return sources.map(([source]) => el('p', { class: 'loud' },
    `${source} gets no authentic callbacks, and signed ones are refused. Compare its key and token with the template.`));
}

export const handlerColumns = [
  ['Handler', (one) => one.name],
  ['State', (one) => one.state],
  ['Lag', (one) => `${one.lag_events} events, ${one.lag_seconds.toFixed(1)} s`],
  ['Retrying', (one) => one.retrying],
  ['Parked', (one) => one.parked],
  ['Last error', (one) => one.last_failure && `${one.last_failure.time}: ${one.last_failure.error}`],
];

export async function overview(main, alive) {
  const body = el('div');
  main.append(el('h1', {}, 'Overview'), body);
  const draw = async () => {
    const [windows, handlers, live] = await Promise.all([
      get('/api/retry-windows'), get('/api/handlers'), get(`/api/streams?live=true&limit=${COUNTED}`), sample()]);
    if (!alive()) return;
    const kinds = [...rates('livehook_callbacks_total', 'kind', MINUTES)].filter(([, rate]) => rate > 0);
    body.replaceChildren(
      ...deaf(), ...windows.items.map(warning),
      el('div', { class: 'tiles' },
        tile('Live streams', el('a', { href: '#/streams' }, `${live.items.length}${live.next ? '+' : ''}`)),
        tile('Callback, p50', time(quantile('livehook_callback_duration_seconds', 0.5))),
        tile('Callback, p99', time(quantile('livehook_callback_duration_seconds', 0.99))),
        tile('Commit, p50', time(quantile('livehook_commit_duration_seconds', 0.5))),
        tile('Commit, p99', time(quantile('livehook_commit_duration_seconds', 0.99)))),
      el('h2', {}, 'Callbacks per second'),
      chart('Callbacks per second', course('livehook_callbacks_total'), 'per second'),
      kinds.length
        ? table('Rate by kind', [['Kind', ([kind]) => kind], ['Per second, last minutes', ([, rate]) => rate.toFixed(2)]], kinds)
        : el('p', { class: 'soft' }, 'Nothing has arrived since this page was opened.'),
      el('h2', {}, 'Handlers'), table('Handlers', handlerColumns, handlers.items));
  };
  await draw();
  return { every: 3000, draw };
}
