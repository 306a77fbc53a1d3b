// The receiver as one would write it with Express and SQLite: verified and synced before the answer.
'use strict';

const crypto = require('node:crypto');
const express = require('express');
const Database = require('libsql');

const KEY = process.env.KEY;
const GRACE = 600;

const store = new Database(process.env.STORE);
store.exec('PRAGMA busy_timeout = 10000');
store.exec('PRAGMA journal_mode = WAL');
store.exec('PRAGMA synchronous = FULL');
store.exec('CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)');
const insert = store.prepare('INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)');

function isAuthentic({ sign, t }) {
  const expected = Buffer.from(crypto.createHash('md5').update(`${KEY}${t}`).digest('hex'));
  const presented = Buffer.from(String(sign));
  return presented.length === expected.length && crypto.timingSafeEqual(presented, expected)
    && Date.now() / 1000 <= Number(t) + GRACE;
}

const app = express();
app.disable('x-powered-by');
app.disable('etag');
// The body as it came, which is what is stored.
app.use(express.raw({ type: '*/*', limit: '1mb' }));
app.post('/css', (request, response) => {
  let event;
  try {
    event = JSON.parse(request.body);
  } catch {
    return response.status(400).json({ code: 400 });
  }
  if (!isAuthentic(event)) return response.status(401).json({ code: 401 });
  insert.run(`${event.event_type}:${event.stream_id}:${event.sequence}`, request.body);
  response.json({ code: 0 });
});
app.listen(Number(process.env.PORT), '127.0.0.1');
