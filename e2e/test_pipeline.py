"""A pipeline from end to end: events → function → queue → function (partial failures, poison) → dead letters and a
destination for what failed → function, while the server is killed. Nothing that was acknowledged is lost."""

import collections
import http.client
import json
import os
import random
import threading
import time

from conftest import Functions, make_client
from hearth import eventually
from packages import python

# The long form has 10,000 events and 20 kills.
EVENTS = int(os.environ.get("HEARTH_E2E_PIPELINE_EVENTS", "400"))
KILLS = int(os.environ.get("HEARTH_E2E_PIPELINE_KILLS", "3"))
GONE = (OSError, http.client.HTTPException)
SENDERS = 4
RECEIVES = 3

# Sends to a queue by its URL's path: the port of the server is another in each of its lives.
SEND = """
import json, os, urllib.parse, urllib.request

def send(queue, body):
    form = {"Version": "2012-11-05", "Action": "SendMessage", "MessageBody": json.dumps(body)}
    url = f"{os.environ['AWS_ENDPOINT_URL']}/000000000000/{queue}"
    urllib.request.urlopen(url, urllib.parse.urlencode(form).encode()).read()
"""
FIRST = """
if event["kind"] == "bad":
    raise ValueError(event["n"])
send("work", event)
"""
# Some fail once, to come again; poison always does.
SECOND = """
failures = []
for record in event["Records"]:
    message = json.loads(record["body"])
    is_first = record["attributes"]["ApproximateReceiveCount"] == "1"
    if message["kind"] == "poison" or message["n"] % 7 == 0 and is_first:
        failures.append({"itemIdentifier": record["messageId"]})
    else:
        send("told", {"n": message["n"], "by": "second"})
return {"batchItemFailures": failures}
"""
# Hears of events that failed from their destination, and of poison from the queue of dead letters.
THIRD = """
if "Records" in event:
    for record in event["Records"]:
        send("told", {"n": json.loads(record["body"])["n"], "by": "dead letters"})
else:
    send("told", {"n": event["requestPayload"]["n"], "by": event["requestContext"]["condition"]})
"""


def kind(n):
    return "poison" if n % 50 == 3 else "bad" if n % 50 == 4 else "good"


class Sender(threading.Thread):
    """Sends its share, each until it is acknowledged."""

    def __init__(self, pipeline, share):
        super().__init__(daemon=True)
        self.pipeline, self.share = pipeline, share

    def run(self):
        headers = {"x-amz-invocation-type": "Event"}
        path = "/2015-03-31/functions/first/invocations"
        for n in self.share:
            while True:
                try:
                    body = {"n": n, "kind": kind(n)}
                    if self.pipeline.server.lambda_request("POST", path, body, headers)[0] == 202:
                        break
                except GONE:
                    pass
                time.sleep(0.05)
            self.pipeline.acknowledged.add(n)


class Pipeline:
    def __init__(self, start):
        self.start = lambda: start("--async-retry-base-delay", "100ms")
        self.server = self.start()
        self.acknowledged = set()
        client, sqs = make_client(self.server), make_client(self.server, "sqs")
        functions = Functions(client)
        settings = {"MemorySize": 128, "Timeout": 8}
        functions.make(python(FIRST, before=SEND), FunctionName="first", **settings)
        functions.make(python(SECOND, before=SEND), FunctionName="second", **settings)
        third = functions.make(python(THIRD, before=SEND), FunctionName="third", **settings)
        arn = client.get_function_configuration(FunctionName=third)["FunctionArn"]
        destination = {"OnFailure": {"Destination": arn}}
        client.put_function_event_invoke_config(FunctionName="first", MaximumRetryAttempts=2, DestinationConfig=destination)
        queue = lambda name: f"arn:aws:sqs:us-east-1:000000000000:{name}"
        policy = json.dumps({"deadLetterTargetArn": queue("dead"), "maxReceiveCount": RECEIVES + KILLS})
        for name, more in (("told", {}), ("dead", {}), ("work", {"RedrivePolicy": policy})):
            sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "8"} | more)
        client.create_event_source_mapping(
            EventSourceArn=queue("work"), FunctionName="second", FunctionResponseTypes=["ReportBatchItemFailures"]
        )
        client.create_event_source_mapping(EventSourceArn=queue("dead"), FunctionName="third")

    def kill(self):
        self.server.kill()
        self.server = self.start()

    def hear(self, told):
        """Takes what functions have told of so far."""
        sqs = make_client(self.server, "sqs")
        url = sqs.get_queue_url(QueueName="told")["QueueUrl"]
        while True:
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            if not messages:
                return
            for message in messages:
                body = json.loads(message["Body"])
                told[body["n"]][body["by"]] += 1
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)

    def audit(self):
        return json.loads(self.server.lambda_request("GET", "/_hearth/v1/events/audit")[2])

    def left(self):
        sqs = make_client(self.server, "sqs")
        left = 0
        for name in ("work", "dead"):
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            left += sum(int(value) for key, value in found.items() if key.startswith("ApproximateNumberOfMessages"))
        return left


def test_every_event_comes_to_its_end_whenever_the_server_is_killed(start):
    seed = int(os.environ.get("HEARTH_SEED", random.randrange(10**6)))
    print(f"HEARTH_SEED={seed}")
    chance = random.Random(seed)
    pipeline = Pipeline(start)
    numbers = range(1, EVENTS + 1)
    senders = [Sender(pipeline, numbers[at::SENDERS]) for at in range(SENDERS)]
    [sender.start() for sender in senders]
    told = collections.defaultdict(collections.Counter)
    for kill in range(KILLS):
        # Spread over the acknowledgements, and some time after.
        until = EVENTS * (kill + 1) // (KILLS + 1)
        eventually("some events", lambda: len(pipeline.acknowledged) >= until, patience=600)
        time.sleep(chance.random())
        pipeline.kill()
    [sender.join() for sender in senders]
    assert pipeline.acknowledged == set(numbers)

    def over():
        audit = pipeline.audit()
        pipeline.hear(told)
        return audit["queued"] == audit["running"] == 0 and pipeline.left() == 0 and set(told) == set(numbers)

    eventually("the end of every event", over, patience=600)
    pipeline.hear(told)
    audit = pipeline.audit()
    assert audit["balanced"], audit
    late = 0
    for n in numbers:
        by = set(told[n])
        # What fails by itself ends as it must. What does not may be made to fail by kills, and then its end is told, too.
        ends = {"poison": {"dead letters"}, "bad": {"RetriesExhausted"}, "good": {"second"}}[kind(n)]
        late += not ends <= by
        assert by <= {"second", "dead letters", "RetriesExhausted"}, (n, told[n])
        assert kind(n) == "good" or "second" not in by, (n, kind(n), told[n])
        assert kind(n) != "bad" or by == ends, (n, told[n])
    assert late <= EVENTS // 10, f"{late} events were made to fail"
    twice = sum(sum(counter.values()) - 1 for counter in told.values())
    print(f"{EVENTS} events, {KILLS} kills: {late} made to fail, {twice} told of more than once")
