// Requests to the API. Failures become errors with a message for the operator.

export class Problem extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function ask(path, method = 'GET', body) {
  let answer;
  try {
    answer = await fetch(path, { method, credentials: 'same-origin', cache: 'no-store', body: body && JSON.stringify(body) });
  } catch {
    throw new Problem(0, 'The server does not answer. Is it running, and is the network there?');
  }
  if (answer.ok) return answer;
  let message = `The server answered ${answer.status}.`;
  try { message = `The server refused: ${(await answer.json()).message} (${answer.status}).`; } catch { /* no JSON */ }
  if (answer.status === 401) {
    if (path !== '/login') window.dispatchEvent(new Event('signed-out'));
    message = path === '/login' ? 'That is not the token.' : 'Sign in, the session has ended.';
  }
  throw new Problem(answer.status, message);
}

export const get = async (path) => (await ask(path)).json();
export const getText = async (path) => (await ask(path)).text();

export async function post(path, body) {
  const answer = await ask(path, 'POST', body ?? {});
  return answer.status === 204 ? null : answer.json();
}

/** Counts first, asks, then acts; gives the number, or null if nothing was done. */
export async function confirmed(path, body, question) {
  const { count } = await post(path, { ...body, dry_run: true });
  if (count === 0) { window.alert('There is nothing to do: 0 found.'); return null; }
  if (!window.confirm(question(count))) return null;
  return (await post(path, body)).count;
}
