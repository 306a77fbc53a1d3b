// Puts everything into the page as text, never as HTML: names of streams come from the internet.

export function el(name, props = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The stream key of a push is a password, however the text around it writes `=` or quotes it. */
export function mask(text) {
  return String(text).replace(/(txSecret(?:=|%(?:25)*3D|\\+u003d|\\*"\s*:\s*\\*"))[^&"\\\s,}]+/gi, '$1•••');
}

export function shown(value) {
  if (value === null || value === undefined || value === '') return '–';
  return mask(typeof value === 'object' ? JSON.stringify(value) : value);
}

export const counted = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;

/** `columns`: pairs of a title and what gives a cell: text, or a node. */
export function table(caption, columns, items) {
  const head = el('tr', {}, ...columns.map(([title]) => el('th', { scope: 'col' }, title)));
  const rows = items.map((item) => row(columns, item));
  return el('div', { class: 'scroll' }, el('table', { 'aria-label': caption },
    el('thead', {}, head), el('tbody', {}, ...rows)));
}

export function row(columns, item) {
  return el('tr', {}, ...columns.map(([title, give]) => {
    const value = give(item);
    return el('td', { 'data-label': title }, value instanceof Node ? value : shown(value));
  }));
}

/** A link to a stranger's host, which is not told where it was followed from; only to the web, and with no stream key. */
export function outward(url, text) {
  const address = URL.canParse(url) ? new URL(url) : null;
  const safe = ['http:', 'https:'].includes(address?.protocol) && mask(address.href) === address.href;
  return safe ? el('a', { href: address.href, rel: 'noreferrer', target: '_blank' }, mask(text)) : shown(text);
}

export function button(text, act) {
  const node = el('button', { type: 'button' }, text);
  let busy = false;
  node.addEventListener('click', async () => {
    // Not `disabled`: a disabled button would lose the keyboard focus.
    if (busy) return;
    busy = true;
    node.setAttribute('aria-disabled', 'true');
    try { await act(); } catch (error) { fail(error); } finally { busy = false; node.removeAttribute('aria-disabled'); }
  });
  return node;
}

/** Puts other content in, with the keyboard on the button that stands where it stood. */
export function redraw(node, ...content) {
  const at = [...node.querySelectorAll('button')].indexOf(document.activeElement);
  node.replaceChildren(...content);
  if (at >= 0) node.querySelectorAll('button')[at]?.focus();
}

function line(id, text) {
  const node = document.getElementById(id);
  node.textContent = mask(text);
  node.hidden = !text;
}

export function fail(error) { line('status', ''); line('alert', error.message); }
export function say(text) { line('alert', ''); line('status', text); }
export function quiet() { line('alert', ''); line('status', ''); }
