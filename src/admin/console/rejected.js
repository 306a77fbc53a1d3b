// What was refused, and judging it once more.

import { confirmed, get } from './api.js';
import { button, el, mask, say, table } from './dom.js';

export async function rejected(main, alive) {
  const { items, next } = await get('/api/rejected?order=newest');
  if (!alive()) return;
  main.append(el('h1', {}, 'Rejected'),
    el('p', {}, 'Refused callbacks. After a key was mended, recheck takes those that are authentic with it.'),
    button('Recheck', async () => {
      const count = await confirmed('/api/rejected/recheck', {}, (number) => `Take ${number} callbacks into the inbox?`);
      if (count !== null) say(`${count} callbacks were taken into the inbox.`);
    }),
    items.length ? table('Rejected callbacks', [
      ['Received', (one) => one.receivedtime], ['Source', (one) => one.source], ['Kind', (one) => one.kind],
      ['Reason', (one) => one.reason], ['From', (one) => one.client],
      ['Body', (one) => el('details', {}, el('summary', {}, `${one.size} bytes`),
        el('pre', { tabindex: 0 }, mask(one.body ?? one.body_base64 ?? 'Too long, it was not kept.')))],
    ], items) : el('p', { class: 'soft' }, 'Nothing was refused.'));
  if (next) main.append(el('p', { class: 'soft' }, 'There are more; these are the newest.'));
}
