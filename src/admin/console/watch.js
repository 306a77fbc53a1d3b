// Server-sent messages, and in words how it stands with them.

/** `again` is called when a broken connection is back, `close` ends it. */
export function watch(path, name, take, state, words, again = () => {}) {
  const source = new EventSource(path);
  let opened = false;
  source.addEventListener(name, (message) => take(JSON.parse(message.data)));
  const settled = new Promise((resolve) => {
    source.onopen = () => {
      state.textContent = words;
      if (opened) again();
      opened = true;
      resolve();
    };
    source.onerror = () => {
      state.textContent = source.readyState === EventSource.CLOSED
        ? 'The server closed the watch: too many may be watching.' : 'The connection broke; trying again.';
      resolve();
    };
  });
  return { settled, close: () => source.close() };
}
