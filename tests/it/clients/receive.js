// Reads requests as a program for Node would: verified with standardwebhooks, parsed with the CloudEvents SDK.
"use strict";

const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const { HTTP } = require("cloudevents");
const { Webhook } = require("standardwebhooks");

const [secret, requests] = process.argv.slice(2);
const webhook = new Webhook(secret);
const counts = { structured: 0, binary: 0 };

function checkSignature(body, headers) {
  webhook.verify(body, headers);
  assert.throws(() => webhook.verify(`${body} `, headers), /signature/);
}

for (const line of readFileSync(requests, "utf8").trimEnd().split("\n")) {
  const { headers, body: encoded, event: expected } = JSON.parse(line);
  const body = Buffer.from(encoded, "base64").toString();
  checkSignature(body, headers);
  assert.ok(HTTP.isEvent({ headers, body }), `the SDK sees no event in ${headers["content-type"]}`);
  const event = JSON.parse(JSON.stringify(HTTP.toEvent({ headers, body })));
  const binary = "ce-id" in headers;
  // In binary mode attributes are percent-encoded, as CloudEvents say; this SDK leaves it to the program to decode them.
  for (const [name, value] of Object.entries(event)) {
    if (binary && name !== "data" && typeof value === "string") event[name] = decodeURIComponent(value);
  }
  // It writes times with milliseconds, and puts in when it has read an event that has none.
  if (!expected.time) delete event.time;
  for (const it of [event, expected]) if (it.time) it.time = Date.parse(it.time);
  assert.deepStrictEqual(event, expected);
  counts[binary ? "binary" : "structured"] += 1;
}
console.log(JSON.stringify(counts));
