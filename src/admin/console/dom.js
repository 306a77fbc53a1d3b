// Everything comes into the page as text: names of streams come from the internet.

export function el(name, props = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The stream key of a push is a password. */
export function mask(text) {
  return String(text).replace(/(txSecret(?:=|%3D|\\?"\s*:\s*\\?"))[^&"\\\s,}]+/gi, '$1•••');
}

export function shown(value) {
  if (value === null || value === undefined || value === '') return '–';
  return mask(typeof value === 'object' ? JSON.stringify(value) : value);
}

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

export function button(text, act) {
  const node = el('button', { type: 'button' }, text);
  node.addEventListener('click', async () => {
    node.disabled = true;
    try { await act(); } catch (error) { fail(error); } finally { node.disabled = false; }
  });
  return node;
}

function line(id, text) {
  const node = document.getElementById(id);
  node.textContent = text;
  node.hidden = !text;
}

export function fail(error) { line('status', ''); line('alert', error.message); }
export function say(text) { line('alert', ''); line('status', text); }
export function quiet() { line('alert', ''); line('status', ''); }
