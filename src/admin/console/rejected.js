// The page of rejected callbacks, with the button to check them again.

import { confirmed, get } from './api.js';
import { button, counted, el, mask, say, table } from './dom.js';

/** Also of a body that is no UTF-8, which comes in base64: in that form nothing could be masked. */
function text({ body, body_base64: coded }) {
  if (coded) return new TextDecoder().decode(Uint8Array.from(atob(coded), (one) => one.charCodeAt(0)));
  return body ?? 'The body was too long and was not kept.';
}

export async function rejected(main, alive) {
  const list = el('div');
  const draw = async () => {
    const { items, next } = await get('/api/rejected?order=newest');
    if (!alive()) return;
    list.replaceChildren(items.length ? table('Rejected callbacks', [
      ['Received', (one) => one.receivedtime], ['Source', (one) => one.source], ['Kind', (one) => one.kind],
      ['Reason', (one) => one.reason], ['From', (one) => one.client],
      ['Body', (one) => el('details', {}, el('summary', {}, `${one.size} bytes`), el('pre', { tabindex: 0 }, mask(text(one))))],
    ], items) : el('p', { class: 'soft' }, 'Nothing was refused.'));
    if (next) list.append(el('p', { class: 'soft' }, 'There are more; these are the newest.'));
  };
  main.append(el('h1', {}, 'Rejected'),
    el('p', {}, 'Refused callbacks, and callbacks to an unknown URL (misrouted). After you correct a key, or the URL in the template, Recheck accepts those that are authentic.'),
    button('Recheck', async () => {
      const count = await confirmed('/api/rejected/recheck', {}, (number) => `Take ${counted(number, 'callback')} into the inbox?`);
      if (count === null) return;
      await draw();
      say(`Taken into the inbox: ${counted(count, 'callback')}.`);
    }), list);
  await draw();
}
