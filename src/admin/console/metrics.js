// Collects the server's counters of the last 15 minutes while the page is open.

import { getText } from './api.js';

const KEEP = 15 * 60 * 1000;
const samples = [];

function parse(text) {
  const found = [];
  for (const line of text.split('\n')) {
    const match = /^(livehook_\w+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    found.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return found;
}

export async function sample() {
  const values = parse(await getText('/metrics'));
  const now = Date.now();
  samples.push({ now, values });
  while (samples[0].now < now - KEEP) samples.shift();
}

/** Sums by one label; of a histogram `le`. */
function sums(at, name, label) {
  const found = new Map();
  for (const one of at.values) {
    if (one.name !== name) continue;
    const key = one.labels[label] ?? '';
    found.set(key, (found.get(key) ?? 0) + one.value);
  }
  return found;
}

// A counter that went down started at zero again, because the server was restarted.
const grown = (now, before) => (now < before ? now : now - before);

/** What a gauge says now, by one label. */
export const latest = (name, label) => sums(samples.at(-1), name, label);

/** What a counter grew by per second, by label, over the last `span` milliseconds. */
export function rates(name, label, span) {
  const last = samples.at(-1);
  const first = samples.find((one) => one.now >= last.now - span);
  const seconds = (last.now - first.now) / 1000;
  if (seconds === 0) return new Map();
  const before = sums(first, name, label);
  return new Map([...sums(last, name, label)].map(([key, value]) => [key, grown(value, before.get(key) ?? 0) / seconds]));
}

/** The whole rate from sample to sample, for a chart. */
export function course(name) {
  const total = (at) => [...sums(at, name, '').values()].reduce((sum, one) => sum + one, 0);
  return samples.slice(1).map((at, index) => {
    const before = samples[index];
    return grown(total(at), total(before)) / Math.max((at.now - before.now) / 1000, 0.001);
  });
}

/** A quantile in seconds, the upper end of its bucket; null if there was nothing. */
export function quantile(name, part) {
  const before = sums(samples[0], `${name}_bucket`, 'le');
  const buckets = [...sums(samples.at(-1), `${name}_bucket`, 'le')].map(([le, count]) =>
    [le === '+Inf' ? Infinity : Number(le), samples.length > 1 ? grown(count, before.get(le) ?? 0) : count]);
  buckets.sort(([a], [b]) => a - b);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (all === 0) return null;
  return buckets.find(([, count]) => count >= all * part)[0];
}
