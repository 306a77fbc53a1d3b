// The page of the handlers: pause, resume, replay and discard.

import { confirmed, get, post } from './api.js';
import { button, counted, el, fail, quiet, redraw, say, shown, table } from './dom.js';
import { handlerColumns } from './overview.js';

const EVERY = 2000;

const left = (one) => (one.replaying ? `${one.replaying} left to replay` : '');
const isPaused = (one) => one.state === 'paused';

function actions(one, draw) {
  const path = `/api/handlers/${encodeURIComponent(one.name)}`;
  const paused = isPaused(one);
  const parked = (title, action, question) => button(`${title} of ${one.name}`, async () => {
    const count = await confirmed(`${path}/${action}`, { parked: true }, question);
    if (count === null) return;
    await draw();
    say(`${title} of ${one.name}: ${count}.`);
  });
  return el('div', {},
    button(`${paused ? 'Resume' : 'Pause'} ${one.name}`, async () => {
      await post(`${path}/${paused ? 'resume' : 'pause'}`);
      await draw();
      say(`${one.name} was ${paused ? 'resumed' : 'paused'}.`);
    }),
    parked('Replay parked', 'replay', (count) => `Deliver ${counted(count, 'parked event')} to ${one.name} again?`),
    el('span', { class: 'soft left' }, left(one)),
    parked('Discard parked', 'discard', (count) => `Give up ${counted(count, 'parked event')} of ${one.name}? This cannot be undone.`));
}

/** Writes over what a row says and leaves its buttons, which somebody may be about to press. */
function update(row, one) {
  handlerColumns.forEach(([, give], at) => { row.cells[at].textContent = shown(give(one)); });
  row.querySelector('.left').textContent = left(one);
}

export async function handlers(main, alive) {
  const body = el('div');
  main.append(el('h1', {}, 'Handlers'), body);
  let drawn = null;
  const draw = async () => {
    const { items } = await get('/api/handlers');
    if (!alive()) return;
    // The buttons depend on these values.
    const buttons = JSON.stringify(items.map((one) => [one.name, isPaused(one)]));
    const rows = body.querySelectorAll('tbody tr');
    if (buttons === drawn) items.forEach((one, at) => update(rows[at], one));
    else redraw(body, table('Handlers', [...handlerColumns, ['Actions', (one) => actions(one, draw)]], items));
    drawn = buttons;
  };
  await draw();
  let failed = false;
  const timer = setInterval(async () => {
    try {
      await draw();
      if (failed && alive()) quiet();
      failed = false;
    } catch (error) {
      if (alive()) fail(error);
      failed = true;
    }
  }, EVERY);
  return { stop: () => clearInterval(timer) };
}
