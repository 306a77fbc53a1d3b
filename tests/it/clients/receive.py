"""Reads requests as a Python program would: verified with standardwebhooks, parsed with the CloudEvents SDK."""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from dateutil.parser import isoparse
from standardwebhooks import Webhook, WebhookVerificationError

secret, requests = sys.argv[1:]
webhook = Webhook(secret)


def check_signature(body, headers):
    webhook.verify(body, headers, json_parse=False)
    for changed in (body + b" ", b""):
        try:
            webhook.verify(changed, headers, json_parse=False)
        except WebhookVerificationError:
            continue
        raise AssertionError("another body has the same signature")


counts = {"structured": 0, "binary": 0}
with open(requests, encoding="utf-8") as lines:
    for line in lines:
        request = json.loads(line)
        expected = request["event"]
        headers, body = request["headers"], base64.b64decode(request["body"])
        check_signature(body, headers)
        event = from_http(HTTPMessage(headers=headers, body=body), JSONFormat())
        attributes = event.get_attributes()
        encoded = expected.pop("data_base64", None)
        data = expected.pop("data", None) if encoded is None else base64.b64decode(encoded)
        if "time" in expected:
            expected["time"] = isoparse(expected["time"])
        else:
            # The SDK puts in when it has read the event.
            del attributes["time"]
        assert attributes == expected, (attributes, expected)
        assert event.get_data() == data, (event.get_data(), data)
        counts["binary" if "ce-id" in headers else "structured"] += 1
print(json.dumps(counts))
