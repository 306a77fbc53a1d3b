// Shared by the pages of the board: names of streams, their links, and times.

import { mask } from './dom.js';

/** Source, domain, appname, streamid. */
export const keyOf = (one) => [one.source.replace(/^\//, ''), one.domain ?? '', one.appname ?? '', one.streamid ?? ''];
export const nameOf = ([, ...path]) => path.filter(Boolean).join('/');

export const pathOf = (key) => key.map((part) => encodeURIComponent(part || '-')).join('/');

// The browser remembers addresses, so a name that contains a stream key is never put into one.
const secret = [];

export function linkTo(key) {
  const text = JSON.stringify(key);
  if (mask(nameOf(key)) === nameOf(key)) return `#/stream/${pathOf(key)}`;
  if (!secret.includes(text)) secret.push(text);
  return `#/stream/~${secret.indexOf(text)}`;
}

/** What a link leads to. */
export function keyFrom(parts) {
  const [first = ''] = parts;
  const known = first.startsWith('~') && secret[first.slice(1)];
  if (known) return JSON.parse(known);
  if (parts.length !== 4) throw new Error('There is no such stream here. Look for it in the list of streams.');
  // A browser resolves . and .. as steps in the path.
  if (parts.some((part) => part === '.' || part === '..')) throw new Error('The API cannot be asked for a stream with . or .. for a name.');
  return parts;
}

export const time = (text) => text && text.replace('T', ' ').replace(/(\.\d+)?Z$/, '');

export function lasted(from, to) {
  const seconds = Math.max(0, Math.floor((to - from) / 1000));
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (minutes === 0) return `${seconds} s`;
  if (hours === 0) return `${minutes} min`;
  return days === 0 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}
