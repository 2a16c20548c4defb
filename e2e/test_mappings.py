"""Event source mappings of queues: operations, batches, partial failures, filters, order, loops, and a server that dies,
through boto3 and the AWS CLI."""

import json
import re
import subprocess
import sys
import time
import uuid

import pytest

import expect
from conftest import Functions, caller, make_client
from hearth import environment, eventually
from packages import python, zipped
from test_environment import package_of_boto3

# Keeps every batch that it gets for whoever asks with an event that is no batch: one environment, one after another.
KEEPING = """
import json, time
batches = []

def kind(record):
    try:
        return json.loads(record["body"]).get("kind")
    except Exception:
        return None
"""


def invalid(message):
    return expect.refused("InvalidParameterValueException", 400, re.compile(re.escape(message)))


class Source:
    """A queue, and what is needed of it."""

    def __init__(self, sqs, suffix="", **attributes):
        self.sqs = sqs
        if suffix:
            attributes["FifoQueue"] = "true"
        name = f"q-{uuid.uuid4().hex[:12]}{suffix}"
        self.url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.arn = sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def send(self, *bodies, **more):
        return [self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **more)["MessageId"] for body in bodies]

    def counts(self):
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        return [int(found[f"ApproximateNumberOfMessages{name}"]) for name in ("", "NotVisible", "Delayed")]

    def empty(self):
        eventually("an empty queue", lambda: self.counts() == [0, 0, 0])

    def bodies(self):
        """Takes what is there."""
        received = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", [])
        for message in received:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in received]


@pytest.fixture
def sqs(server, own):
    return make_client(server, "sqs", account=own.account)


@pytest.fixture
def mapping(own):
    made = []

    def mapping(source, name, wait="Enabled", **settings):
        answer = own.client.create_event_source_mapping(EventSourceArn=source.arn, FunctionName=name, **settings)
        made.append(answer["UUID"])
        if wait:
            reaches(own.client, answer["UUID"], wait)
        return answer["UUID"]

    yield mapping
    for uuid_ in made:
        try:
            eventually("one that takes orders", lambda: state(own.client, uuid_) not in ("Creating", "Updating"))
            own.client.delete_event_source_mapping(UUID=uuid_)
        except own.client.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("ResourceNotFoundException", "ResourceInUseException")


def state(client, mapping):
    return client.get_event_source_mapping(UUID=mapping)["State"]


def reaches(client, mapping, wanted):
    eventually(f"the state {wanted}", lambda: state(client, mapping) == wanted)


def is_gone(client, mapping):
    try:
        return not client.get_event_source_mapping(UUID=mapping)
    except client.exceptions.ResourceNotFoundException as error:
        assert error.response["Error"]["Message"] == "The resource you requested does not exist."
        return True


def keeper(own, body="", **settings):
    """A function that keeps its batches, and a way to ask it for them."""
    package = python(
        "if 'Records' not in event:\n    return batches\nbatches.append(event)\n" + body, before=KEEPING
    )
    name = own.make(package, **settings)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)

    def batches():
        answer = own.client.invoke(FunctionName=name, Payload=b"{}")
        return json.load(answer["Payload"])

    def asked():
        # While it runs there is no room for us.
        try:
            return batches()
        except own.client.exceptions.TooManyRequestsException:
            return []

    return name, asked


def test_a_mapping_is_made_shown_updated_listed_and_deleted(own, sqs):
    client, source = own.client, Source(sqs)
    name = own.make(python("pass"))
    made = client.create_event_source_mapping(EventSourceArn=source.arn, FunctionName=name)
    mapping = made["UUID"]
    assert made.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    assert abs(made.pop("LastModified").timestamp() - time.time()) < 60
    assert made == {
        "UUID": mapping,
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "EventSourceArn": source.arn,
        "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:{own.account}:event-source-mapping:{mapping}",
        "FunctionArn": own.arn + name,
        "FunctionResponseTypes": [],
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
    }
    reaches(client, mapping, "Enabled")
    pattern = json.dumps({"body": {"a": [1]}})
    updated = client.update_event_source_mapping(
        UUID=mapping,
        BatchSize=100,
        MaximumBatchingWindowInSeconds=5,
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 2},
    )
    assert updated["ResponseMetadata"]["HTTPStatusCode"] == 202 and updated["State"] == "Updating"
    reaches(client, mapping, "Enabled")
    found = client.get_event_source_mapping(UUID=mapping)
    assert (found["BatchSize"], found["MaximumBatchingWindowInSeconds"]) == (100, 5)
    assert found["FilterCriteria"] == {"Filters": [{"Pattern": pattern}]}
    assert found["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert found["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert client.update_event_source_mapping(UUID=mapping, FilterCriteria={}).get("FilterCriteria") is None
    reaches(client, mapping, "Enabled")
    assert client.update_event_source_mapping(UUID=mapping, Enabled=False)["State"] == "Disabling"
    reaches(client, mapping, "Disabled")
    assert client.update_event_source_mapping(UUID=mapping, Enabled=True)["State"] == "Enabling"
    reaches(client, mapping, "Enabled")
    for of in ({"EventSourceArn": source.arn}, {"FunctionName": name}, {"FunctionName": own.arn + name}):
        (listed,) = client.list_event_source_mappings(**of)["EventSourceMappings"]
        assert listed["UUID"] == mapping
    assert client.list_event_source_mappings(FunctionName="another")["EventSourceMappings"] == []
    # A function goes without its mappings.
    client.delete_function(FunctionName=name)
    assert state(client, mapping) == "Enabled"
    deleted = client.delete_event_source_mapping(UUID=mapping)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 202 and deleted["State"] == "Deleting"
    eventually("the end of the mapping", lambda: is_gone(client, mapping))


def test_a_mapping_keeps_the_qualifier_and_is_listed_in_pages(own, sqs, mapping):
    client, name = own.client, own.make(python("pass"))
    version = own.publish(name)
    made = set()
    for qualifier in ("", ":$LATEST", f":{version}"):
        uuid_ = mapping(Source(sqs), name + qualifier)
        made.add(uuid_)
        assert client.get_event_source_mapping(UUID=uuid_)["FunctionArn"] == own.arn + name + qualifier
    pages = client.get_paginator("list_event_source_mappings").paginate(PaginationConfig={"PageSize": 2})
    pages = [page["EventSourceMappings"] for page in pages]
    assert [len(page) for page in pages] == [2, 1]
    assert {found["UUID"] for page in pages for found in page} == made
    assert len(client.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]) == 2


def test_one_that_is_not_to_be_enabled_is_disabled_at_once(own, sqs, mapping):
    source = Source(sqs)
    source.send("waits")
    name, batches = keeper(own)
    uuid_ = mapping(source, name, wait="Disabled", Enabled=False)
    assert source.counts() == [1, 0, 0]
    own.client.update_event_source_mapping(UUID=uuid_, Enabled=True)
    source.empty()
    assert [record["body"] for batch in batches() for record in batch["Records"]] == ["waits"]


def test_what_cannot_be_is_refused_in_awss_words(own, sqs, mapping):
    client, source = own.client, Source(sqs)
    name = own.make(python("pass"))
    create = lambda **more: client.create_event_source_mapping(
        **({"EventSourceArn": source.arn, "FunctionName": name} | more)
    )
    missing = source.arn + "-not-there"
    says = "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: "
    for settings, message in [
        ({"FunctionName": "not-there"}, "Function does not exist"),
        ({"EventSourceArn": missing}, says),
        ({"BatchSize": 11}, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"),
        ({"StartingPosition": "LATEST"}, "StartingPosition is not valid for SQS event sources."),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": source.arn}}},
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        ({"ParallelizationFactor": 2}, "Unsupported ParallelizationFactor parameter for given event source mapping type."),
        *[
            ({"FilterCriteria": {"Filters": [{"Pattern": pattern}]}}, "Invalid filter pattern definition.")
            for pattern in ("plain", "null", "[]", '{"body":"x"}', '{"body":[{"nonsense":1}]}')
        ],
    ]:
        with invalid(message):
            create(**settings)
    with invalid("Unrecognized event source."):
        client.create_event_source_mapping(FunctionName=name)
    with expect.refused("ValidationException", 400):
        create(BatchSize=10_001, MaximumBatchingWindowInSeconds=1)
    stream = f"arn:aws:kinesis:us-east-1:{own.account}:stream/s"
    with expect.refused("NotImplementedException", 501, re.compile("Kinesis")):
        create(EventSourceArn=stream, StartingPosition="LATEST")
    short = Source(sqs, VisibilityTimeout="19")
    with invalid("Queue visibility timeout: 19 seconds is less than Function timeout: 20 seconds"):
        create(EventSourceArn=short.arn)
    fifo = Source(sqs, ".fifo")
    with invalid("Batching window is not supported for FIFO queues"):
        create(EventSourceArn=fifo.arn, MaximumBatchingWindowInSeconds=1)
    uuid_ = mapping(source, name)
    said = (
        f'An event source mapping with SQS arn (" {source.arn} ") and function (" {name} ") already exists. '
        f"Please update or delete the existing mapping with UUID {uuid_}"
    )
    with expect.refused("ResourceConflictException", 409, said):
        create(FunctionName=name + ":$LATEST")
    unknown = str(uuid.uuid4())
    for operation in (client.get_event_source_mapping, client.update_event_source_mapping, client.delete_event_source_mapping):
        with expect.refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            operation(UUID=unknown)


def test_a_queue_whose_policy_denies_the_role_is_refused(own, sqs):
    source, name = Source(sqs), own.make(python("pass"))
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:ReceiveMessage", "Resource": source.arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=source.url, Attributes={"Policy": policy})
    with invalid("The function execution role does not have permissions to call ReceiveMessage on SQS"):
        own.client.create_event_source_mapping(EventSourceArn=source.arn, FunctionName=name)


def test_tags_of_a_mapping(own, sqs, mapping):
    client = own.client
    uuid_ = mapping(Source(sqs), own.make(python("pass")), Tags={"a": "1"})
    arn = client.get_event_source_mapping(UUID=uuid_)["EventSourceMappingArn"]
    client.tag_resource(Resource=arn, Tags={"b": "2"})
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "1", "b": "2"}
    client.untag_resource(Resource=arn, TagKeys=["a", "c"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}


def test_a_function_gets_messages_as_aws_gives_them(own, sqs, mapping):
    source = Source(sqs)
    name, batches = keeper(own)
    attributes = {
        "k": {"DataType": "String", "StringValue": "v"},
        "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    (message,) = source.send('say "hé"', MessageAttributes=attributes)
    mapping(source, name)
    source.empty()
    (batch,) = batches()
    (record,) = batch.pop("Records")
    assert batch == {}
    system = record.pop("attributes")
    assert set(system) == {"ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"}
    assert all(isinstance(value, str) for value in system.values()) and system["ApproximateReceiveCount"] == "1"
    assert len(record.pop("md5OfMessageAttributes")) == 32 and len(record.pop("md5OfBody")) == 32
    assert record.pop("receiptHandle")
    assert record == {
        "messageId": message,
        "body": 'say "hé"',
        "messageAttributes": {
            "k": {"stringValue": "v", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "b": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": source.arn,
        "awsRegion": "us-east-1",
    }


def test_a_window_gathers_and_a_size_cuts(own, sqs, mapping):
    source = Source(sqs)
    name, batches = keeper(own)
    bodies = [str(n) for n in range(25)]
    source.send(*bodies)
    mapping(source, name, BatchSize=20, MaximumBatchingWindowInSeconds=2)
    source.empty()
    sizes = [len(batch["Records"]) for batch in batches()]
    assert sizes == [20, 5]
    assert sorted(record["body"] for batch in batches() for record in batch["Records"]) == sorted(bodies)


def test_no_payload_is_larger_than_a_call_may_be(own, sqs, mapping):
    source = Source(sqs)
    body = "batches[-1] = {'Records': [len(r['body']) for r in event['Records']], 'size': len(json.dumps(event))}"
    name, batches = keeper(own, body, MemorySize=512)
    source.send(*["x" * 1_000_000] * 8)
    mapping(source, name, BatchSize=100, MaximumBatchingWindowInSeconds=2)
    source.empty()
    assert sum(len(batch["Records"]) for batch in batches()) == 8
    assert all(batch["size"] < 6_400_000 and len(batch["Records"]) <= 6 for batch in batches())


FAILS = """
failures = [r['messageId'] for r in event['Records'] if kind(r) == 'poison']
return {'batchItemFailures': [{'itemIdentifier': id} for id in failures]}
"""


def dead_lettered(sqs, suffix="", receives=2, visibility=1):
    dead = Source(sqs, suffix)
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": receives})
    return Source(sqs, suffix, VisibilityTimeout=str(visibility), RedrivePolicy=policy), dead


def test_only_what_is_reported_comes_again_and_its_queue_ends_it(own, sqs, mapping):
    source, dead = dead_lettered(sqs)
    name, batches = keeper(own, FAILS, Timeout=1)
    source.send('{"kind":"good","n":1}', '{"kind":"poison"}', '{"kind":"good","n":2}')
    mapping(
        source,
        name,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MetricsConfig={"Metrics": ["EventCount"]},
    )
    assert eventually("the dead letter", dead.bodies) == ['{"kind":"poison"}']
    source.empty()
    bodies = [record["body"] for batch in batches() for record in batch["Records"]]
    assert bodies.count('{"kind":"poison"}') == 2
    assert bodies.count('{"kind":"good","n":1}') == bodies.count('{"kind":"good","n":2}') == 1
    lines = own.client.meta.endpoint_url and metrics(own)
    assert lines["polled_event_count_total"] == lines["invoked_event_count_total"] == 4
    assert (lines["failed_invoke_event_count_total"], lines["deleted_event_count_total"]) == (2, 2)


def metrics(own):
    """Numbers of this account's mappings."""
    import urllib.request

    text = urllib.request.urlopen(own.client.meta.endpoint_url + "/_hearth/metrics").read().decode()
    found = re.findall(rf'^aws_lambda_(\w+)\{{account="{own.account}",[^}}]*mapping_uuid=[^}}]*\}} (\d+)$', text, re.M)
    return {name: int(number) for name, number in found}


def test_a_batch_that_fails_comes_again_whole(own, sqs, mapping):
    source, dead = dead_lettered(sqs)
    name, batches = keeper(own, "raise ValueError('no')", Timeout=1)
    source.send("a", "b")
    # What is not asked for is not heard.
    mapping(source, name)
    both = set()
    eventually("both dead letters", lambda: both.update(dead.bodies()) or both == {"a", "b"})
    source.empty()
    # What a failing function kept is gone with its environment only if it crashed.
    counts = [record["attributes"]["ApproximateReceiveCount"] for batch in batches() for record in batch["Records"]]
    assert set(counts) == {"1", "2"}


def test_filters_end_what_nobody_wants(own, sqs, mapping):
    source = Source(sqs)
    name, batches = keeper(own)
    filters = [
        {"body": {"temp": [{"numeric": [">", 30]}], "city": [{"anything-but": ["x"]}]}},
        {"body": ["plain wanted"]},
        {"messageAttributes": {"k": {"stringValue": [{"prefix": "want"}]}}},
    ]
    source.send('{"temp":31,"city":"a"}', '{"temp":29,"city":"a"}', '{"temp":31,"city":"x"}', "plain wanted", "plain")
    source.send("by attribute", MessageAttributes={"k": {"DataType": "String", "StringValue": "wanted"}})
    mapping(
        source,
        name,
        FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)} for pattern in filters]},
        MetricsConfig={"Metrics": ["EventCount"]},
    )
    source.empty()
    bodies = sorted(record["body"] for batch in batches() for record in batch["Records"])
    assert bodies == ["by attribute", "plain wanted", '{"temp":31,"city":"a"}']
    found = metrics(own)
    assert (found["polled_event_count_total"], found["filtered_out_event_count_total"]) == (6, 3)


def test_groups_keep_their_order_whatever_fails(own, sqs, mapping):
    source = Source(sqs, ".fifo", VisibilityTimeout="2", ContentBasedDeduplication="true")
    # Every third try of anything fails, and what comes after it is not touched.
    body = """
global tries
done = []
for at, record in enumerate(event['Records']):
    tries += 1
    if tries % 3 == 0:
        batches[-1] = done
        return {'batchItemFailures': [{'itemIdentifier': r['messageId']} for r in event['Records'][at:]]}
    done.append([record['attributes']['MessageGroupId'], int(record['body'].split()[1])])
batches[-1] = done
"""
    package = python("if 'Records' not in event:\n    return batches\nbatches.append([])\n" + body, before=KEEPING + "\ntries = 0\n")
    name = own.make(package, Timeout=2)
    for number in range(12):
        source.send(f"{number % 2} {number}", MessageGroupId=str(number % 2))
    mapping(source, name, BatchSize=4, FunctionResponseTypes=["ReportBatchItemFailures"], ScalingConfig={"MaximumConcurrency": 2})
    source.empty()
    answers = []
    # More than one environment may have run.
    for _ in range(5):
        answers.append(json.load(own.client.invoke(FunctionName=name, Payload=b"{}")["Payload"]))
    for batches in answers:
        for group in ("0", "1"):
            numbers = [number for batch in batches for of, number in batch if of == group]
            assert numbers == sorted(numbers)


def test_a_throttled_function_gets_its_messages_later(own, sqs, mapping):
    source = Source(sqs)
    name, batches = keeper(own)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    source.send("a", "b", "c")
    mapping(source, name)
    eventually("messages that are held", lambda: source.counts()[1] == 3)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    source.empty()
    assert sum(len(batch["Records"]) for batch in batches()) == 3


def test_messages_wait_for_a_function_that_is_gone_and_for_a_queue_that_is_not_there(own, sqs, mapping):
    source, package = Source(sqs), python("pass")
    name = own.make(package)
    uuid_ = mapping(source, name)
    own.client.delete_function(FunctionName=name)
    result = lambda: own.client.get_event_source_mapping(UUID=uuid_).get("LastProcessingResult")
    # A poll that has begun goes on.
    source.send("first")
    eventually("the problem", lambda: result() == "PROBLEM: Function does not exist")
    source.send("second")
    assert state(own.client, uuid_) == "Enabled"
    own.make(package, FunctionName=name)
    eventually("the second at least", lambda: source.counts()[0] == 0)
    sqs.delete_queue(QueueUrl=source.url)
    eventually("the problem", lambda: "NonExistentQueue" in (result() or ""))


def test_provisioned_pollers_are_kept_counted_and_exclude_concurrency(own, sqs, mapping):
    source, name = Source(sqs), own.make(python("pass"))
    uuid_ = mapping(source, name, ProvisionedPollerConfig={"MinimumPollers": 3})
    found = own.client.get_event_source_mapping(UUID=uuid_)
    assert found["ProvisionedPollerConfig"] == {"MinimumPollers": 3, "MaximumPollers": 200}
    eventually("pollers", lambda: metrics(own).get("provisioned_pollers") == 3)
    with invalid(""):
        own.client.update_event_source_mapping(UUID=uuid_, ScalingConfig={"MaximumConcurrency": 5})


def test_a_loop_through_a_queue_is_cut_after_sixteen_runs(own, sqs, mapping, server):
    source, dead = dead_lettered(sqs, receives=1, visibility=10)
    body = """
if 'Records' not in event:
    return runs
runs.append(os.environ['_X_AMZN_TRACE_ID'])
for record in event['Records']:
    sqs.send_message(QueueUrl=os.environ['QUEUE'], MessageBody='again')
"""
    before = "import os, boto3\nsqs = boto3.client('sqs')\nruns = []\n"
    files = package_of_boto3() | python(body, before=before)
    settings = {"MemorySize": 1024, "Timeout": 10, "Environment": {"Variables": {"QUEUE": source.url}}}
    name = own.make(zipped(files), **settings)
    assert own.client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    mapping(source, name, MetricsConfig={"Metrics": ["EventCount"]})
    source.send("first")
    assert eventually("the dead letter", dead.bodies, patience=90) == ["again"]
    source.empty()
    runs = json.load(own.client.invoke(FunctionName=name, Payload=b"{}")["Payload"])
    assert len(runs) == 16
    assert runs[0].endswith(":0") and runs[15].endswith(":15") and all("Lineage=1:" in run for run in runs)
    text = server.request("GET", "/_hearth/metrics")[2].decode()
    assert re.search(rf'recursive_invocations_dropped_total\{{[^}}]*function_name="{name}"[^}}]*\}} 1$', text, re.M)
    assert f"a recursive loop was cut: a record stays at its source" in server.said()
    own.client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    source.send("once more")
    # It is too busy to be asked itself.
    eventually("more than sixteen", lambda: metrics(own)["invoked_event_count_total"] > 40, patience=90)


def test_calls_in_a_loop_are_cut_where_all_loops_are_meant(start):
    server = start("--guard-all-loops", "true")
    client = make_client(server)
    functions = Functions(client)
    before = """
import json, os, urllib.error, urllib.request
def again(event):
    headers = {'X-Amzn-Trace-Id': os.environ['_X_AMZN_TRACE_ID']} | event.get('headers', {})
    url = os.environ['AWS_ENDPOINT_URL'] + '/2015-03-31/functions/' + os.environ['AWS_LAMBDA_FUNCTION_NAME'] + '/invocations'
    try:
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(event).encode(), headers))
    except urllib.error.HTTPError as error:
        return [error.code, error.headers['x-amzn-errortype']]
"""
    # Each run is the next one's caller: the last is told.
    name = functions.make(python("event['n'] += 1\nsaid = again(event)\nprint('RUN', event['n'], said)", before=before))
    client.invoke(FunctionName=name, Payload=b'{"n": 0}')
    log = lambda: server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode()
    eventually("the first run's end", lambda: "RUN 1 None" in log())
    assert "RUN 16 [400, 'RecursiveInvocationException']" in log() and "RUN 17" not in log()
    assert "a recursive loop was cut: a call" in server.said()
    caught = functions.make(python("print('CAUGHT', event['requestContext']['condition'], event['requestPayload']['n'])"))
    arn = client.get_function_configuration(FunctionName=caught)["FunctionArn"]
    client.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn}})
    payload = {"n": 100, "headers": {"X-Amz-Invocation-Type": "Event"}}
    client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(payload))
    told = lambda: server.request("GET", f"/_hearth/v1/functions/{caught}/logs")[2].decode()
    eventually("the record of what was cut", lambda: "CAUGHT RecursiveLoop 116" in told())


def test_the_command_line_of_aws_makes_one(own, sqs):
    source, name = Source(sqs), own.make(python("pass"))

    def aws(*arguments):
        ran = subprocess.run(
            [sys.executable, "-m", "awscli", "lambda", *arguments, "--endpoint-url", own.client.meta.endpoint_url],
            env=environment(AWS_ACCESS_KEY_ID=own.account, AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1"),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    made = aws("create-event-source-mapping", "--event-source-arn", source.arn, "--function-name", name)
    reaches(own.client, made["UUID"], "Enabled")
    assert aws("list-event-source-mappings", "--function-name", name)["EventSourceMappings"][0]["UUID"] == made["UUID"]
    assert aws("delete-event-source-mapping", "--uuid", made["UUID"])["State"] == "Deleting"


def test_nothing_is_lost_when_the_server_dies_over_batches(start):
    server = start()
    client, sqs = make_client(server), make_client(server, "sqs")
    functions = Functions(client)
    source, done = Source(sqs, VisibilityTimeout="6"), Source(sqs)
    body = "for r in event['Records']:\n    sqs.send_message(QueueUrl=os.environ['DONE'], MessageBody=r['body'])"
    files = package_of_boto3() | python(body, before="import os, boto3\nsqs = boto3.client('sqs')\n")
    name = functions.make(files, Timeout=6, MemorySize=512, Environment={"Variables": {"DONE": done.url}})
    client.create_event_source_mapping(EventSourceArn=source.arn, FunctionName=name, BatchSize=5)
    sent = []
    for kill in range(4):
        for _ in range(25):
            sent.append(f"m{len(sent)}")
            source.send(sent[-1])
        server.kill()
        server = start()
        source.sqs = done.sqs = make_client(server, "sqs")
    source.empty()
    seen = set()
    while bodies := done.bodies():
        seen.update(bodies)
    assert seen == set(sent)
    (found,) = make_client(server).list_event_source_mappings()["EventSourceMappings"]
    assert found["State"] == "Enabled"
