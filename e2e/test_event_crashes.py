"""Nothing accepted is lost: a client records what was acknowledged, the server is killed at random moments, started again,
and audited."""

import collections
import datetime
import http.client
import json
import os
import random
import threading
import time
import urllib.parse

from conftest import Functions, make_client
from hearth import eventually
from packages import python

# The long form has 1000.
KILLS = int(os.environ.get("HEARTH_E2E_EVENT_KILLS", "50"))
GONE = (OSError, http.client.HTTPException)
SENDERS = 3
# Longest life of a server, s.
LIFE = 0.8


class Sender(threading.Thread):
    """Sends events one after another until the server is gone. `acknowledged` is shared and only grows."""

    def __init__(self, server, names, acknowledged, seed):
        super().__init__()
        self.server, self.names, self.acknowledged = server, names, acknowledged
        self.chance = random.Random(seed)
        self.fault = None

    def run(self):
        headers = {"x-amz-invocation-type": "Event"}
        while True:
            name = self.chance.choice(self.names)
            try:
                path = f"/2015-03-31/functions/{name}/invocations"
                status, said, body = self.server.lambda_request("POST", path, {"n": self.chance.random()}, headers)
            except GONE:
                return
            if status != 202:
                self.fault = f"{status} {body}"
                return
            self.acknowledged.append(said["x-amzn-requestid"])
            time.sleep(self.chance.random() * 0.05)


def audit(server):
    return json.loads(server.lambda_request("GET", "/_hearth/v1/events/audit")[2])


def events(server):
    """All of them, the newest first: a list has 10,000 at most."""
    all, path = {}, "/_hearth/v1/events?limit=10000"
    while True:
        found = json.loads(server.lambda_request("GET", path)[2])["events"]
        all |= {event["id"]: event for event in found}
        if len(found) < 10_000:
            return all
        # Others may have come in the same millisecond as the last one.
        oldest = datetime.datetime.fromisoformat(found[-1]["acceptedAt"]) + datetime.timedelta(milliseconds=1)
        path = f"/_hearth/v1/events?limit=10000&until={urllib.parse.quote(oldest.isoformat())}"


def test_no_acknowledged_event_is_lost_whenever_the_server_is_killed(start):
    seed = int(os.environ.get("HEARTH_SEED", random.randrange(10**6)))
    print(f"HEARTH_SEED={seed}")
    chance = random.Random(seed)
    flags = ("--async-retry-base-delay", "50ms")
    server = start(*flags)
    client = make_client(server)
    functions = Functions(client)
    told = functions.make(python("pass"))
    good = functions.make(python("return event"))
    bad = functions.make(python("raise ValueError('no')"))
    arn = client.get_function_configuration(FunctionName=told)["FunctionArn"]
    client.put_function_event_invoke_config(
        FunctionName=bad, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    acknowledged = []
    for kill in range(KILLS):
        senders = [Sender(server, [good, bad], acknowledged, chance.random()) for _ in range(SENDERS)]
        [sender.start() for sender in senders]
        time.sleep(chance.random() * LIFE)
        server.kill()
        [sender.join() for sender in senders]
        assert not any(sender.fault for sender in senders), [sender.fault for sender in senders]
        server = start(*flags)
        assert audit(server)["balanced"], audit(server)

    def settled():
        found = audit(server)
        assert found["balanced"], found
        return found["queued"] + found["running"] == 0 and found

    found = eventually("the end of every event", settled, patience=300)
    kept = events(server)
    lost = [event for event in acknowledged if event not in kept]
    assert acknowledged and not lost, f"{len(lost)} of {len(acknowledged)} are lost: {lost[:5]}"
    assert found["accepted"] == len(kept) and found["purged"] == 0
    # Each death cuts an event off once at most; each failure is told of once, whatever was killed.
    for event in kept.values():
        cut_off = sum(attempt["outcome"] == "interrupted" for attempt in event["attempts"])
        assert cut_off <= KILLS, event
        failed = sum(attempt["outcome"] == "failed" for attempt in event["attempts"])
        assert failed <= 2, event
    states = collections.Counter((event["functionArn"].rsplit(":", 1)[1], event["state"]) for event in kept.values())
    assert set(states) <= {(good, "succeeded"), (bad, "delivered"), (told, "succeeded")}, states
    assert states[told, "succeeded"] == states[bad, "delivered"], states
    print(f"{KILLS} kills, {len(acknowledged)} acknowledged, {dict(states)}")
