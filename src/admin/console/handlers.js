// Steering the handlers.

import { confirmed, get, post } from './api.js';
import { button, counted, el, redraw, say, table } from './dom.js';
import { handlerColumns } from './overview.js';

function steering(one, draw) {
  const path = `/api/handlers/${encodeURIComponent(one.name)}`;
  const paused = one.state === 'paused';
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
    parked('Discard parked', 'discard', (count) => `Give up ${counted(count, 'parked event')} of ${one.name}? This cannot be undone.`));
}

export async function handlers(main, alive) {
  const body = el('div');
  main.append(el('h1', {}, 'Handlers'), body);
  const draw = async () => {
    const { items } = await get('/api/handlers');
    if (!alive()) return;
    redraw(body, table('Handlers', [...handlerColumns, ['Steer', (one) => steering(one, draw)]], items));
  };
  await draw();
}
