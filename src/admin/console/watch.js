// Receives server-sent messages and shows the state of the connection in words.

/** Calls `again` when a broken connection is back. `close` ends the connection. */
export function watch(path, name, take, state, words, again = () => {}) {
  const source = new EventSource(path);
  let opened = false;
  source.addEventListener(name, (message) => take(JSON.parse(message.data)));
  source.addEventListener('skipped', (message) => { state.textContent = `Too far behind: ${message.data} events are not shown.`; });
  const settled = new Promise((resolve) => {
    source.onopen = () => {
      state.textContent = words;
      if (opened) again();
      opened = true;
      resolve();
    };
    source.onerror = () => {
      state.textContent = source.readyState === EventSource.CLOSED
        ? 'The server ended the connection: too many clients may be watching.' : 'The connection broke; trying again.';
      resolve();
    };
  });
  return { settled, close: () => source.close() };
}
