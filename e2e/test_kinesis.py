"""Event source mappings of streams, against moto's Kinesis: batches, positions, poison, reports, windows, lanes, filters, and
a server that dies, through boto3."""

import base64
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import uuid

import boto3
import pytest

import expect
from conftest import Functions, make_client
from hearth import environment, eventually
from packages import python
from parts import kinesis_local

REGION = "us-east-1"
# Moto's.
ACCOUNT = "123456789012"


def invalid(message):
    return expect.refused("InvalidParameterValueException", 400, re.compile(re.escape(message)))


def kinesis_client(url):
    return boto3.client(
        "kinesis", endpoint_url=url, region_name=REGION, aws_access_key_id="KEY", aws_secret_access_key="SECRET"
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(name, base, port, *command, cwd=None, **variables):
    """Another service, at its port."""
    path = base / f"{name}.log"
    with open(path, "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=cwd, env=environment(**variables), start_new_session=True
        )

        def answers():
            assert process.poll() is None, path.read_text()
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually(name, answers)
            yield kinesis_client(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def kinesis(base):
    """Moto's server."""
    port, program = free_port(), "from moto.server import main; main()"
    with running("moto", base, port, sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)) as client:
        yield client


@pytest.fixture
def local(base):
    """Another one: moto's shards never come to an end."""
    ports = {"KINESIS_MOCK_PLAIN_PORT": str(free_port()), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    durations = dict.fromkeys(("CREATE_STREAM_DURATION", "SPLIT_SHARD_DURATION", "MERGE_SHARDS_DURATION"), "50ms")
    port, place = int(ports["KINESIS_MOCK_PLAIN_PORT"]), kinesis_local()
    variables = ports | durations | {"AWS_ACCOUNT_ID": ACCOUNT}
    with running("kinesis-local", base, port, "node", "main.js", cwd=place, **variables) as client:
        yield client


class Source:
    def __init__(self, kinesis, shards=1):
        self.kinesis, self.name = kinesis, f"s-{uuid.uuid4().hex[:12]}"
        kinesis.create_stream(StreamName=self.name, ShardCount=shards)
        self.arn = self.summary()["StreamARN"]
        self.active()

    def active(self):
        eventually("an active stream", lambda: self.summary()["StreamStatus"] == "ACTIVE")

    def summary(self):
        return self.kinesis.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]

    def put(self, *data, key="k"):
        put = [self.kinesis.put_record(StreamName=self.name, Data=json.dumps(some), PartitionKey=key) for some in data]
        return [answer["SequenceNumber"] for answer in put]


class World:
    def __init__(self, kinesis, server):
        self.kinesis, self.server = kinesis, server
        self.client = make_client(server, account=ACCOUNT)
        self.sqs = make_client(server, "sqs", account=ACCOUNT)
        self.functions = Functions(self.client)
        self.mappings = []

    def source(self, shards=1):
        return Source(self.kinesis, shards)

    def map(self, source, name, start="TRIM_HORIZON", **settings):
        made = self.client.create_event_source_mapping(
            EventSourceArn=source.arn, FunctionName=name, StartingPosition=start, **settings
        )
        self.mappings.append(made["UUID"])
        eventually("an enabled mapping", lambda: self.shown()["State"] == "Enabled")
        return made

    def shown(self):
        return self.client.get_event_source_mapping(UUID=self.mappings[-1])

    def queue(self):
        url = self.sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:12]}")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def received(self, url):
        found = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in found]

    def keeper(self, body="pass", **settings):
        """A function that writes each of its batches to its log, and a way to read what it has written."""
        lines = body.splitlines()
        code = "\n".join(["import json, base64", "print('GOT ' + json.dumps(event))", *lines])
        name = self.functions.make(python(code), **settings)

        def batches():
            logs = make_client(self.server, "logs", account=ACCOUNT)
            try:
                pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
                messages = [event["message"] for page in pages for event in page["events"]]
            except logs.exceptions.ResourceNotFoundException:
                return []
            return [json.loads(message.split("GOT ", 1)[1]) for message in messages if message.startswith("GOT ")]

        return name, batches


def data(batch):
    return [json.loads(base64.b64decode(record["kinesis"]["data"])) for record in batch["Records"]]


def flat(batches):
    return [some for batch in batches for some in data(batch)]


def world_of(kinesis, start):
    url = kinesis.meta.endpoint_url.replace("http://", "http://KEY:SECRET@")
    return World(kinesis, start("--endpoints-kinesis", url))


@pytest.fixture
def world(kinesis, start):
    return world_of(kinesis, start)


def test_records_arrive_as_aws_shows_them(world):
    source = world.source()
    name, batches = world.keeper()
    made = world.map(source, name)
    assert made["State"] == "Creating" and made["LastProcessingResult"] == "No records processed"
    expected = {
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "EventSourceArn": source.arn,
        "StartingPosition": "TRIM_HORIZON",
        "StateTransitionReason": "User action",
        "DestinationConfig": {"OnFailure": {}},
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
    }
    assert {member: made[member] for member in expected} == expected
    assert "StartingPositionTimestamp" not in made
    before = time.time()
    [sequence] = source.put({"n": 1}, key="a")
    [batch] = eventually("a batch", batches)
    [record] = batch["Records"]
    arrived = record["kinesis"].pop("approximateArrivalTimestamp")
    assert abs(arrived - before) < 60
    assert batch.keys() == {"Records"}
    assert record == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "a",
            "sequenceNumber": sequence,
            "data": base64.b64encode(b'{"n": 1}').decode(),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": world.client.get_function_configuration(FunctionName=name)["Role"],
        "awsRegion": REGION,
        "eventSourceARN": source.arn,
    }
    eventually("a good end", lambda: world.shown()["LastProcessingResult"] == "OK")
    metrics = world.server.request("GET", "/_hearth/metrics")[2].decode()
    assert re.search(rf'aws_lambda_iterator_age_milliseconds_count{{[^}}]*function_name="{name}"[^}}]*}} 1', metrics)


def test_a_poison_record_ends_at_the_destination_and_the_stream_moves_on(world):
    source, (url, arn) = world.source(), world.queue()
    source.put(*range(5), "poison", *range(5, 8))
    body = "if any(base64.b64decode(r['kinesis']['data']) == b'\"poison\"' for r in event['Records']): raise ValueError('no')"
    name, batches = world.keeper(body)
    settings = {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 1}
    made = world.map(source, name, **settings, DestinationConfig={"OnFailure": {"Destination": arn}})
    assert made["DestinationConfig"] == {"OnFailure": {"Destination": arn}}
    [told] = eventually("a record at the destination", lambda: world.received(url))
    poison = [batch["Records"][0] for batch in batches() if data(batch) == ["poison"]]
    assert len(poison) == 2
    sequence = poison[0]["kinesis"]["sequenceNumber"]
    info = told.pop("KinesisBatchInfo")
    first = info.pop("approximateArrivalOfFirstRecord")
    assert info.pop("approximateArrivalOfLastRecord") == first
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first)
    assert info == {
        "shardId": "shardId-000000000000",
        "startSequenceNumber": sequence,
        "endSequenceNumber": sequence,
        "batchSize": 1,
        "streamArn": source.arn,
    }
    assert told["requestContext"].pop("requestId") and told.pop("timestamp")
    assert told == {
        "requestContext": {
            "functionArn": made["FunctionArn"],
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 2,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
    }
    source.put("after")

    def good():
        return [some for batch in batches() if "poison" not in data(batch) for some in data(batch)]

    assert eventually("what comes after it", lambda: "after" in good() and good()) == [*range(8), "after"]


def test_a_bucket_gets_the_records_too(world):
    source = world.source()
    s3 = make_client(world.server, "s3", account=ACCOUNT)
    s3.create_bucket(Bucket="failures")
    source.put("poison")
    name, _ = world.keeper("raise ValueError('no')")
    destination = {"OnFailure": {"Destination": "arn:aws:s3:::failures"}}
    made = world.map(source, name, MaximumRetryAttempts=0, DestinationConfig=destination)
    [found] = eventually("an object", lambda: s3.list_objects_v2(Bucket="failures").get("Contents"))
    start = rf"aws/lambda/{made['UUID']}/shardId-000000000000/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\dT\d\d\.\d\d\.\d\d-"
    assert re.match(start, found["Key"])
    told = json.load(s3.get_object(Bucket="failures", Key=found["Key"])["Body"])
    assert told["requestContext"]["approximateInvokeCount"] == 1
    assert data(told["payload"]) == ["poison"]


def test_reports_are_the_place_to_go_on_from(world):
    source = world.source()
    source.put(*range(6))
    body = """
seen = [r for r in event['Records'] if base64.b64decode(r['kinesis']['data']) == b'3']
if seen and len(event['Records']) > 3:
    return {'batchItemFailures': [{'itemIdentifier': seen[0]['kinesis']['sequenceNumber']}]}
"""
    name, batches = world.keeper(body)
    world.map(source, name, FunctionResponseTypes=["ReportBatchItemFailures"])
    eventually("the rest again", lambda: [data(batch) for batch in batches()] == [[0, 1, 2, 3, 4, 5], [3, 4, 5]])
    eventually("a good end", lambda: world.shown()["LastProcessingResult"] == "OK")


def test_a_window_carries_its_state_to_its_end(world):
    source = world.source()
    body = """
if event['isFinalInvokeForWindow']:
    return {}
return {'state': {'n': event['state'].get('n', 0) + len(event['Records'])}}
"""
    name, batches = world.keeper(body)
    world.map(source, name, TumblingWindowInSeconds=2, BatchSize=2)
    source.put(*range(7))

    def ended():
        ends = [batch for batch in batches() if batch["isFinalInvokeForWindow"]]
        return sum(batch["state"].get("n", 0) for batch in ends) == 7 and ends

    for end in eventually("windows that ended", ended):
        assert end["Records"] == [] and end["isWindowTerminatedEarly"] is False
        assert (end["shardId"], end["eventSourceARN"]) == ("shardId-000000000000", source.arn)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", end["window"]["start"])
    assert flat(batches()) == list(range(7))


def test_lanes_keep_the_order_of_a_key(world):
    source = world.source()
    keys = [f"key-{at}" for at in range(6)]
    for number in range(8):
        for key in keys:
            source.put([key, number], key=key)
    name, batches = world.keeper("import time\ntime.sleep(0.2)")
    world.map(source, name, ParallelizationFactor=4, BatchSize=5)
    found = eventually("everything", lambda: len(flat(batches())) >= 48 and flat(batches()))
    for key in keys:
        assert [number for of, number in found if of == key] == list(range(8))


def test_where_a_mapping_begins_is_what_was_asked_for(world):
    source = world.source()
    source.put("first")
    moment = world.kinesis.get_records(
        ShardIterator=world.kinesis.get_shard_iterator(
            StreamName=source.name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
    )["Records"][0]["ApproximateArrivalTimestamp"].timestamp() + 0.5
    eventually("a later moment", lambda: time.time() > moment + 0.5)
    source.put("second")
    names = {}
    for start, settings in [("TRIM_HORIZON", {}), ("LATEST", {}), ("AT_TIMESTAMP", {"StartingPositionTimestamp": moment})]:
        names[start] = world.keeper()
        made = world.map(source, names[start][0], start=start, **settings)
        assert made["StartingPosition"] == start
        assert ("StartingPositionTimestamp" in made) == (start == "AT_TIMESTAMP")
    # What is put until the latest is known may be missed.
    numbers = iter(range(1_000_000))
    eventually("the latest", lambda: source.put(next(numbers)) and names["LATEST"][1]())
    latest = flat(names["LATEST"][1]())
    assert "first" not in latest and "second" not in latest
    assert eventually("the first", lambda: flat(names["TRIM_HORIZON"][1]()))[:2] == ["first", "second"]
    assert eventually("the second", lambda: flat(names["AT_TIMESTAMP"][1]()))[0] == "second"


def test_filters_see_data_and_what_is_beside_it(world):
    source = world.source()
    source.put({"kind": "a", "n": 1}, {"kind": "b", "n": 2}, "plain", {"kind": "a", "n": 3})
    name, batches = world.keeper()
    criteria = {"Filters": [{"Pattern": '{"data": {"kind": ["a"]}}'}]}
    world.map(source, name, FilterCriteria=criteria)
    eventually("what is wanted", lambda: [some["n"] for some in flat(batches())] == [1, 3])


def test_records_that_are_too_old_are_given_up_before_they_are_run(world):
    source, (url, arn) = world.source(), world.queue()
    source.put("old")
    name, batches = world.keeper()
    # Reserved concurrency of none: no run begins before the age is reached.
    world.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    world.map(source, name, MaximumRecordAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": arn}})
    [told] = eventually("a record at the destination", lambda: world.received(url), patience=150)
    assert told["requestContext"]["condition"] == "RecordAgeExceeded" and "responseContext" not in told
    assert batches() == []


def test_a_server_that_dies_loses_nothing_and_goes_on_where_it_was(world):
    source = world.source(shards=2)
    name, batches = world.keeper("import time\ntime.sleep(0.1)")
    world.map(source, name, BatchSize=3)
    sent = []
    for life in range(3):
        for number in range(10):
            source.put([life, number], key=f"key-{number % 4}")
            sent.append([life, number])
        eventually("some of them", lambda: len(flat(batches())) > life * 10 + 2)
        world.server.kill()
        world.server.start()
        world.client = make_client(world.server, account=ACCOUNT)
    found = eventually("everything", lambda: all(some in flat(batches()) for some in sent) and flat(batches()))
    # A kill repeats the batches under way: one of each shard.
    assert len(found) <= len(sent) + 3 * 2 * 3
    for key in range(4):
        first = list(dict.fromkeys(tuple(some) for some in found if some[1] % 4 == key))
        assert first == sorted(first)


def test_children_of_a_shard_begin_when_it_is_at_its_end(local, start):
    world = world_of(local, start)
    source = world.source()
    keys = [f"key-{at}" for at in range(8)]
    sent = []

    def put(number):
        for key in keys:
            source.put([key, number], key=key)
            sent.append([key, number])

    name, batches = world.keeper("import time\ntime.sleep(0.3)")
    put(0)
    # What is there when the mapping begins is of a shard that is closed by then.
    local.split_shard(
        StreamName=source.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127)
    )
    source.active()
    put(1)
    world.map(source, name, BatchSize=3)
    eventually("some of the children", lambda: any(number == 1 for _, number in flat(batches())))
    local.merge_shards(
        StreamName=source.name, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
    )
    source.active()
    put(2)
    found = eventually("everything", lambda: len(flat(batches())) >= len(sent) and flat(batches()))
    assert sorted(found) == sorted(sent)
    for key in keys:
        assert [number for of, number in found if of == key] == [0, 1, 2]
    shards = {record["eventID"].split(":")[0] for batch in batches() for record in batch["Records"]}
    assert len(shards) == 4


def test_a_mapping_can_be_changed_and_goes_on_where_it_was(world):
    source = world.source()
    name, batches = world.keeper()
    uuid_ = world.map(source, name)["UUID"]
    source.put(1)
    eventually("the first", lambda: flat(batches()) == [1])
    changed = world.client.update_event_source_mapping(UUID=uuid_, BatchSize=1, ParallelizationFactor=3)
    assert (changed["BatchSize"], changed["ParallelizationFactor"], changed["State"]) == (1, 3, "Updating")
    eventually("its state", lambda: world.shown()["State"] == "Enabled")
    world.client.update_event_source_mapping(UUID=uuid_, Enabled=False)
    eventually("its state", lambda: world.shown()["State"] == "Disabled")
    source.put(2, 3)
    world.client.update_event_source_mapping(UUID=uuid_, Enabled=True)
    eventually("the rest", lambda: [data(batch) for batch in batches()] == [[1], [2], [3]])
    world.client.delete_event_source_mapping(UUID=uuid_)

    def is_gone():
        return not world.client.list_event_source_mappings(EventSourceArn=source.arn)["EventSourceMappings"]

    eventually("nothing", is_gone)
    # Another one begins anew.
    world.map(source, name)
    eventually("everything again", lambda: sorted(flat(batches())) == [1, 1, 2, 2, 3, 3])


def test_what_cannot_be_is_refused_in_awss_words(world, own):
    source, client = world.source(), world.client
    name, _ = world.keeper()

    def create(**settings):
        settings = {"EventSourceArn": source.arn, "FunctionName": name, "StartingPosition": "LATEST"} | settings
        client.create_event_source_mapping(**{key: value for key, value in settings.items() if value is not None})

    with invalid("Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."):
        create(StartingPosition=None)
    with invalid(f"Stream not found: {source.arn}x"):
        create(EventSourceArn=source.arn + "x")
    with invalid("Unsupported DestinationConfig parameter for given event source mapping type."):
        create(DestinationConfig={"OnSuccess": {"Destination": "arn:aws:sqs:us-east-1:123456789012:q"}})
    with invalid("Unsupported ScalingConfig parameter for given event source mapping type."):
        create(ScalingConfig={"MaximumConcurrency": 2})
    with invalid("MaximumRecordAgeInSeconds must be -1 or between 60 and 604800."):
        create(MaximumRecordAgeInSeconds=5)
    with invalid("Invalid filter pattern definition."):
        create(FilterCriteria={"Filters": [{"Pattern": '{"data": ["plain"]}'}]})
    with invalid("Function does not exist"):
        create(FunctionName="nobody")
    with expect.refused("NotImplementedException", 501, re.compile("destinations of SNS without the setting")):
        create(DestinationConfig={"OnFailure": {"Destination": "arn:aws:sns:us-east-1:123456789012:t"}})
    with expect.refused("NotImplementedException", 501, re.compile("enhanced fan-out")):
        create(EventSourceArn=f"{source.arn}/consumer/c:1")
    uuid_ = world.map(source, name)["UUID"]
    text = f'The event source arn (" {source.arn} ") and function (" {name} ") provided mapping already exists.'
    with expect.refused("ResourceConflictException", 409, re.compile(re.escape(f"{text} Please update or delete the existing mapping with UUID {uuid_}"))):
        create()
    # Without the setting there is no Kinesis.
    other = own.make(python("pass"))
    with expect.refused("NotImplementedException", 501, re.compile("a source of Kinesis without the setting endpoints.kinesis")):
        own.client.create_event_source_mapping(EventSourceArn=source.arn, FunctionName=other, StartingPosition="LATEST")


def test_another_stream_of_the_name_is_read_from_where_the_mapping_begins(world):
    source = world.source()
    name, batches = world.keeper()
    world.map(source, name)
    source.put("before")
    eventually("the first", lambda: flat(batches()) == ["before"])
    world.kinesis.delete_stream(StreamName=source.name)
    eventually("its end is seen", lambda: "Stream not found" in world.shown()["LastProcessingResult"])
    world.kinesis.create_stream(StreamName=source.name, ShardCount=1)
    source.active()
    source.put("after")
    eventually("what is in the other", lambda: flat(batches()) == ["before", "after"])
    # Also when it becomes another while nobody looks.
    world.server.kill()
    world.kinesis.delete_stream(StreamName=source.name)
    world.kinesis.create_stream(StreamName=source.name, ShardCount=1)
    source.active()
    source.put("last")
    world.server.start()
    world.client = make_client(world.server, account=ACCOUNT)
    eventually("what is in the third", lambda: flat(batches()) == ["before", "after", "last"])
