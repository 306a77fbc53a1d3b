// Shows the page that the address names, and handles signing in and out.

import { get, post } from './api.js';
import { el, fail, quiet } from './dom.js';
import { event } from './event.js';
import { feed } from './feed.js';
import { handlers } from './handlers.js';
import { overview } from './overview.js';
import { rejected } from './rejected.js';
import { stream } from './stream.js';
import { streams } from './streams.js';

const PAGES = { '': overview, streams, stream, live: feed, event, rejected, handlers };
const main = document.getElementById('main');
const nav = document.getElementById('nav');
// The button is missing if no token is configured.
const logout = document.getElementById('logout');
let turn = 0;
let stop = () => {};

function leave() {
  turn += 1;
  stop();
  stop = () => {};
  main.replaceChildren();
}

function showControls(are) {
  nav.hidden = !are;
  if (logout) logout.hidden = !are;
}

async function show() {
  leave();
  quiet();
  const mine = turn;
  const alive = () => mine === turn;
  const [, name = '', ...parts] = location.hash.split('/');
  const page = PAGES[name] ?? overview;
  for (const link of nav.children) {
    if (link.hash === `#/${name}`) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  }
  showControls(true);
  try {
    const running = await page(main, alive, ...parts.map(decodeURIComponent));
    if (!alive()) { running?.stop?.(); return; }
    stop = running?.stop ?? stop;
    if (running?.draw) {
      const timer = setInterval(() => running.draw().then(() => alive() && quiet(), (error) => alive() && fail(error)), running.every);
      stop = () => clearInterval(timer);
    }
  } catch (error) { if (error.status !== 401) fail(error); }
}

function signIn() {
  leave();
  quiet();
  showControls(false);
  const token = el('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: '' });
  const submit = async (happening) => {
    happening.preventDefault();
    try { await post('/login', { token: token.value }); await show(); } catch (error) { fail(error); }
  };
  main.append(el('h1', {}, 'Sign in'), el('form', { onsubmit: submit },
    el('label', {}, 'Admin token', token), el('button', {}, 'Sign in')));
  token.focus();
}

logout?.addEventListener('click', async () => {
  try { await post('/logout'); await get('/api/handlers'); } catch (error) { if (error.status !== 401) fail(error); }
});
window.addEventListener('signed-out', signIn);
window.addEventListener('hashchange', () => { show().then(() => main.focus()); });
show();
