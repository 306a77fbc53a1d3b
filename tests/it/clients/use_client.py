"""Uses the API through a client that openapi-python-client has made: every operation that ends by itself."""

import datetime
import sys

from made.api.events import delete_events, get_event, get_event_body, list_deliveries, list_events
from made.api.handlers import discard, list_handlers, list_parked, pause_handler, replay, resume_handler
from made.api.openapi import get_document
from made.api.rejected import list_rejected, recheck_rejected
from made.api.retry_windows import list_retry_windows
from made.api.streams import get_stream, list_streams, rebuild_streams
from made.client import AuthenticatedClient, Client
from made.models import DeliveryState, Error, HandlerState, ListEventsKind, ListEventsOrder, Recheck, Selection
from made.types import UNSET

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)
now = datetime.datetime.now(datetime.timezone.utc)
hour = datetime.timedelta(hours=1)

# Events: two pushes, of which the second one says almost nothing.
first, second = list_events.sync(client=client).items
assert (first.type_, second.type_) == ("css.stream-begin", "css.stream-begin")
assert (first.streamid, first.appname, first.source) == ("room-7", "live", "/css")
assert second.streamid is UNSET and second.subject is UNSET
assert now - hour < first.receivedtime < now
part = list_events.sync(client=client, limit=1, order=ListEventsOrder.NEWEST)
assert [it.id for it in part.items] == [second.id]
rest = list_events.sync(client=client, limit=1, order=ListEventsOrder.NEWEST, after=part.next_)
assert [it.id for it in rest.items] == [first.id] and rest.next_ is None
assert len(list_events.sync(client=client, from_=now - hour, to=now + hour).items) == 2
assert list_events.sync(client=client, to=now - hour).items == []
assert list_events.sync(client=client, kind=ListEventsKind.RELAY).items == []
event = get_event.sync(first.id, client=client)
assert event.data["stream_id"] == "room-7" and event.id == first.id
assert b'"room-7"' in get_event_body.sync(first.id, client=client).payload.read()
states = {it.handler: it.state for it in list_deliveries.sync(first.id, client=client).items}
assert states == {"file": DeliveryState.DONE, "rejects": DeliveryState.PARKED}, states
assert delete_events.sync(client=client, stream="room-7", dry_run=True).count == 1

# Handlers.
handlers = {it.name: it for it in list_handlers.sync(client=client).items}
assert handlers["file"].state == HandlerState.RUNNING and handlers["file"].last_failure is None
assert "65" in handlers["rejects"].last_failure.error and handlers["rejects"].last_success is None
parked = list_parked.sync("rejects", client=client).items
assert len(parked) == 2 and parked[0].attempts == 1 and parked[0].replaying is False
assert pause_handler.sync("rejects", client=client).state == "paused"
assert resume_handler.sync("rejects", client=client).state == "running"
counted = replay.sync("rejects", client=client, body=Selection(parked=True, dry_run=True))
assert counted.count == 2
counted = replay.sync("file", client=client, body=Selection(from_=now - hour, to=now + hour, dry_run=True))
assert counted.count == 2 and counted.oldest == first.receivedtime
assert discard.sync("rejects", client=client, body=Selection(event=first.id)).count == 1

# What was refused.
refused = list_rejected.sync(client=client).items
assert [it.reason.value for it in refused] == ["signature"]
assert recheck_rejected.sync(client=client, body=Recheck(dry_run=True)).count == 0
list_retry_windows.sync(client=client)

# Streams.
(stream,) = list_streams.sync(client=client, live=True).items
assert stream.streamid == "room-7" and stream.live
story = get_stream.sync("css", "d", "live", "room-7", client=client)
assert story.sessions[0].end is None and len(story.timeline) == 1
rebuild_streams.sync(client=client)
assert get_document.sync(client=client)["openapi"].startswith("3.1")

# What is refused has the form it is said to have.
missing = get_event.sync("0" * 32, client=client)
assert isinstance(missing, Error) and missing.code == 404, missing
unauthorized = list_events.sync(client=Client(base_url=url))
assert isinstance(unauthorized, Error) and unauthorized.code == 401, unauthorized
print("used")
