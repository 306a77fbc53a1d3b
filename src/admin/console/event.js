// The page of one event: its attributes, its deliveries and its body.

import { confirmed, get, getText } from './api.js';
import { button, el, mask, say, table } from './dom.js';

export async function event(main, alive, id = '') {
  const path = `/api/events/${encodeURIComponent(id)}`;
  const [whole, typed, raw, deliveries] = await Promise.all([
    get(path), get(`${path}?payload=typed`), getText(`${path}/body`), get(`${path}/deliveries`)]);
  if (!alive()) return;
  const attributes = Object.entries(whole).filter(([name]) => name !== 'data' && name !== 'data_base64');
  main.append(el('h1', {}, 'Event'), table('Attributes', [['Attribute', ([name]) => name], ['Value', ([, value]) => value]], attributes));
  main.append(el('h2', {}, 'Handlers'), table('Outcomes', [
    ['Handler', (one) => one.handler], ['State', (one) => one.state], ['Attempts', (one) => one.attempts],
    ['First attempt', (one) => one.first_attempt], ['Error', (one) => one.error],
    ['Again', (one) => button(`Replay to ${one.handler}`, async () => {
      const count = await confirmed(`/api/handlers/${encodeURIComponent(one.handler)}/replay`, { event: id },
        (number) => `Deliver ${number} event to ${one.handler} again?`);
      if (count !== null) say(`${count} event goes to ${one.handler} again.`);
    })]], deliveries.items));
  if (!typed.untyped) main.append(el('h2', {}, 'Typed'), el('pre', { tabindex: 0 }, mask(JSON.stringify(typed.data, null, 2))));
  main.append(el('h2', {}, 'As received'), el('pre', { tabindex: 0 }, mask(raw)));
}
