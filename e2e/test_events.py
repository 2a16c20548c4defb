"""Asynchronous events: accepted, tried, ended, and told of, by boto3, the AWS CLI and Hearth's own command line."""

import contextlib
import http.server
import json
import subprocess
import threading
import time
import urllib.parse
import uuid

import pytest
from botocore.exceptions import ClientError

from conftest import Functions, make_client
from hearth import BINARY, Server, environment, eventually
from packages import python

FAST = ("--async-retry-base-delay", "100ms")


@pytest.fixture(scope="module")
def quick(base, cache):
    """A server whose retries come soon."""
    server = Server(base / f"data-{uuid.uuid4().hex[:8]}", cache, *FAST).start()
    yield server
    server.stop()


@pytest.fixture
def own(quick):
    """Functions of an account of its own."""
    number = "2" + str(uuid.uuid4().int)[:11]
    functions = Functions(make_client(quick, account=number))
    functions.account, functions.server = number, quick
    functions.arn = f"arn:aws:lambda:us-east-1:{number}:function:"
    yield functions
    functions.delete()


def send(own, name, payload=None, **settings):
    """The id of an event."""
    answer = own.client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(payload), **settings)
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
    assert "ExecutedVersion" not in answer and "FunctionError" not in answer
    return answer["ResponseMetadata"]["RequestId"]


def hearth(own, *arguments, status=0):
    """A `--json` document of the command line."""
    ran = subprocess.run(
        [BINARY, "--endpoint", own.server.url, "--json", *arguments],
        env=environment(AWS_ACCESS_KEY_ID=own.account),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    return json.loads(ran.stdout) if ran.stdout else ran.stderr


def show(own, event):
    return hearth(own, "events", "show", event)["events"][0]


def ended(own, event):
    """The event, once it is over."""

    def over():
        found = show(own, event)
        return found if found["state"] not in ("queued", "running") else None

    return eventually(f"the end of {event}", over)


def log_of(own, name):
    groups = own.server.request(
        "GET",
        f"/_hearth/v1/functions/{name}/logs",
        headers={"authorization": f"AWS4-HMAC-SHA256 Credential={own.account}/20260101/us-east-1/lambda/aws4_request, "
                                  f"SignedHeaders=host, Signature={0:064}"},
    )
    return [json.loads(line)["message"] for line in groups[2].splitlines()] if groups[0] == 200 else []


def catcher(own):
    """A function that prints what it gets, and what it has got so far."""
    name = own.make(python("print('GOT ' + json.dumps(event))", "import json"))

    def caught():
        return [json.loads(line[4:]) for line in log_of(own, name) if line.startswith("GOT ")]

    return name, caught


def test_an_event_is_accepted_run_and_shown(own):
    name, caught = catcher(own)
    event = send(own, name, {"a": 1.50, "b": "ü"})
    found = ended(own, event)
    assert found["state"] == "succeeded" and found["functionArn"] == own.arn + name
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["succeeded"]
    assert eventually("the log", caught) == [{"a": 1.5, "b": "ü"}]
    assert any(f"START RequestId: {event} Version: $LATEST" in line for line in log_of(own, name))
    listed = hearth(own, "events", "list", "--function", name, "--state", "succeeded")["events"]
    assert [event["id"] for event in listed] == [found["id"]]
    assert hearth(own, "events", "list", "--state", "dropped")["events"] == []
    audit = hearth(own, "events", "audit")
    assert audit["balanced"] and audit["accepted"] >= 1


def test_a_failing_function_is_tried_three_times_under_one_id(own):
    name = own.make(python("raise ValueError('no: ' + context.aws_request_id)"))
    event = send(own, name, 1)
    found = ended(own, event)
    assert (found["state"], found["reason"]) == ("dropped", "RetriesExhausted")
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["failed"] * 3
    assert {attempt["errorType"] for attempt in found["attempts"]} == {"ValueError"}
    assert found["attempts"][0]["errorMessage"] == f"no: {event}"
    starts = eventually("three", lambda: (s := [l for l in log_of(own, name) if l.startswith("START")])[2:] and s)
    assert len(starts) == 3 and all(event in line for line in starts)


def test_configurations_are_put_merged_listed_and_deleted_as_aws_does(own):
    client, name = own.client, own.make(python("pass"))
    target = own.make(python("pass"))
    qualified = f"{own.arn}{name}:$LATEST"
    put = client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=1, DestinationConfig={"OnSuccess": {"Destination": own.arn + target}}
    )
    put.pop("ResponseMetadata"), put.pop("LastModified")
    expected = {
        "FunctionArn": qualified,
        "MaximumRetryAttempts": 1,
        "DestinationConfig": {"OnSuccess": {"Destination": own.arn + target}, "OnFailure": {}},
    }
    assert put == expected
    updated = client.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    got = client.get_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST")
    assert got["LastModified"].year >= 2026 and got["DestinationConfig"] == expected["DestinationConfig"]
    version = own.publish(name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    client.put_function_event_invoke_config(FunctionName=f"{name}:live", MaximumRetryAttempts=0)
    client.put_function_event_invoke_config(FunctionName=name, Qualifier=version, MaximumRetryAttempts=2)
    pages = client.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 2}
    )
    listed = [config["FunctionArn"].rsplit(":", 1)[1] for page in pages for config in page["FunctionEventInvokeConfigs"]]
    assert sorted(listed) == sorted(["$LATEST", version, "live"])
    client.delete_function_event_invoke_config(FunctionName=name, Qualifier="live")
    with pytest.raises(ClientError, match=f"The function .*{name}:live doesn't have an EventInvokeConfig"):
        client.get_function_event_invoke_config(FunctionName=name, Qualifier="live")


@pytest.mark.parametrize(
    "config, code, text",
    [
        ({}, "InvalidParameterValueException", "You must specify at least one of error handling or destination setting."),
        ({"OnSuccess": "SELF"}, "InvalidParameterValueException",
         "You can't specify the function as a destination for itself."),
        ({"OnFailure": "ARNmissing"}, "InvalidParameterValueException", "The destination ARN ARNmissing is invalid."),
        ({"OnSuccess": "arn:aws:kinesis:us-east-1:000000000000:stream/s"}, "InvalidParameterValueException",
         "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination="
         "arn:aws:kinesis:us-east-1:000000000000:stream/s), onFailure=null) is invalid."),
        ({"OnSuccess": "arn:aws:s3:::b"}, "InvalidParameterValueException",
         "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::b), "
         "onFailure=null) is invalid."),
    ],
)
def test_configurations_are_refused_as_aws_does(own, config, code, text):
    name = own.make(python("pass"))
    spelled = {"SELF": own.arn + name, "ARNmissing": own.arn + "missing"}
    destinations = {on: {"Destination": spelled.get(arn, arn)} for on, arn in config.items()}
    settings = {"DestinationConfig": destinations} if destinations else {}
    with pytest.raises(ClientError) as refused:
        own.client.put_function_event_invoke_config(FunctionName=name, **settings)
    error = refused.value.response["Error"]
    assert (error["Code"], error["Message"]) == (code, text.replace("ARNmissing", own.arn + "missing"))


def test_what_is_not_there_is_not_configured(own):
    for call in ("put_function_event_invoke_config", "update_function_event_invoke_config"):
        with pytest.raises(ClientError, match="The function doesn't exist"):
            getattr(own.client, call)(FunctionName="missing", MaximumRetryAttempts=1)
    with pytest.raises(ClientError, match="The function doesn't exist"):
        own.client.list_function_event_invoke_configs(FunctionName="missing")
    with pytest.raises(ClientError, match="validation error"):
        own.client.put_function_event_invoke_config(FunctionName="missing", MaximumRetryAttempts=3)


def test_records_go_to_functions_on_success_and_on_failure(own):
    target, caught = catcher(own)
    name = own.make(python("if event['fail']: raise ValueError('no')\nreturn {'answer': 7}"))
    arn = {"Destination": own.arn + target}
    own.client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=1, DestinationConfig={"OnSuccess": arn, "OnFailure": arn}
    )
    good, bad = send(own, name, {"fail": False}), send(own, name, {"fail": True})
    assert (ended(own, good)["state"], ended(own, bad)["state"]) == ("succeeded", "delivered")
    assert ended(own, bad)["destination"] == own.arn + target
    records = eventually("two records", lambda: (found := caught())[1:] and found)
    records = {record["requestContext"]["requestId"]: record for record in records}
    success, failure = records[good], records[bad]
    context = {"requestId": good, "functionArn": f"{own.arn}{name}:$LATEST", "condition": "Success"}
    assert success.pop("timestamp").endswith("Z")
    assert success == {
        "version": "1.0",
        "requestContext": context | {"approximateInvokeCount": 1},
        "requestPayload": {"fail": False},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"answer": 7},
    }
    assert failure["requestContext"]["condition"] == "RetriesExhausted"
    assert failure["requestContext"]["approximateInvokeCount"] == 2
    expected = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert failure["responseContext"] == expected
    assert (failure["responsePayload"]["errorType"], failure["responsePayload"]["errorMessage"]) == ("ValueError", "no")


def test_records_of_failures_go_to_a_bucket(own):
    s3 = make_client(own.server, "s3", own.account)
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    name = own.make(python("raise ValueError('no')"))
    own.client.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bucket}"}},
    )
    event = send(own, name, [1])
    assert ended(own, event)["state"] == "delivered"
    [found] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert found["Key"].startswith(f"aws/lambda/async/{name}/20") and found["Key"].endswith(event)
    record = json.load(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"])
    assert record["requestPayload"] == [1] and record["requestContext"]["approximateInvokeCount"] == 1
    # A bucket that is gone: the event says so.
    s3.delete_object(Bucket=bucket, Key=found["Key"])
    s3.delete_bucket(Bucket=bucket)
    lost = ended(own, send(own, name, [2]))
    assert lost["state"] == "dropped" and "NoSuchBucket" in lost["detail"]


def received(sqs, url):
    """The only message of a queue."""
    [message] = eventually(
        "a message",
        lambda: sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=5).get("Messages"),
    )
    return message


def test_a_queue_is_told_what_became_of_an_event(own):
    sqs = make_client(own.server, "sqs", account=own.account)
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{own.account}:told"
    name = own.make(python("if event == 'bad': raise ValueError('no')\nreturn event"))
    own.client.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnSuccess": {"Destination": arn}, "OnFailure": {"Destination": arn}},
    )
    for payload, state, condition in (("good", "succeeded", "Success"), ("bad", "delivered", "RetriesExhausted")):
        event = send(own, name, payload)
        assert ended(own, event)["state"] == state
        message = received(sqs, url)
        record = json.loads(message["Body"])
        assert record["requestContext"]["condition"] == condition and record["requestPayload"] == payload
        assert record["requestContext"]["requestId"] == event and "MessageAttributes" not in message
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    # A queue that is gone: the event says so.
    sqs.delete_queue(QueueUrl=url)
    lost = ended(own, send(own, name, "bad"))
    assert lost["state"] == "dropped" and "NonExistentQueue" in lost["detail"]


def test_a_dead_letter_queue_gets_the_event_as_it_was(own):
    sqs = make_client(own.server, "sqs", account=own.account)
    url = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{own.account}:dead"
    name = own.make(python("raise ValueError('no')"), DeadLetterConfig={"TargetArn": arn})
    own.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    event = send(own, name, {"a": [1, "ü"]})
    assert ended(own, event)["state"] == "delivered"
    message = received(sqs, url)
    assert json.loads(message["Body"]) == {"a": [1, "ü"]}
    told = {key: (value["DataType"], value["StringValue"]) for key, value in message["MessageAttributes"].items()}
    assert told == {"RequestID": ("String", event), "ErrorCode": ("Number", "200"), "ErrorMessage": ("String", "no")}


def test_a_function_that_may_not_run_has_its_events_told_of_at_once(own):
    target, caught = catcher(own)
    name = own.make(python("pass"))
    own.client.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": own.arn + target}}
    )
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    event = send(own, name, 1)
    found = ended(own, event)
    assert (found["state"], found["reason"], found["attempts"]) == ("delivered", "ZeroReservedConcurrency", [])
    [record] = eventually("a record", caught)
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in record and "responsePayload" not in record


def test_a_throttled_function_gets_its_events_later(own):
    name = own.make(python("import time\ntime.sleep(event)"))
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    events = [send(own, name, 0.3) for _ in range(6)]
    found = [ended(own, event) for event in events]
    assert all(event["state"] == "succeeded" for event in found)
    assert any(attempt["outcome"] == "throttled" for event in found for attempt in event["attempts"])


def test_an_alias_has_its_own_configuration_and_events_run_the_code_of_their_moment(own):
    name = own.make(python("raise ValueError('old')"))
    version = own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    own.client.put_function_event_invoke_config(FunctionName=name, Qualifier="live", MaximumRetryAttempts=0)
    by_alias = ended(own, send(own, name, 1, Qualifier="live"))
    assert len(by_alias["attempts"]) == 1 and by_alias["functionArn"] == f"{own.arn}{name}:live"
    event = send(own, name, 1)
    own.change(name, python("return 'new'"))
    assert ended(own, event)["state"] == "succeeded"


def test_events_of_a_deleted_function_say_so_and_its_configuration_goes_with_it(own):
    name = own.make(python("import time\ntime.sleep(1)"))
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    own.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    events = [send(own, name, 1) for _ in range(3)]
    own.client.delete_function(FunctionName=name)
    reasons = [ended(own, event).get("reason") for event in events]
    assert "FunctionNotFound" in reasons and set(reasons) <= {"FunctionNotFound", None}
    own.make(python("pass"), FunctionName=name)
    with pytest.raises(ClientError, match="doesn't have an EventInvokeConfig"):
        own.client.get_function_event_invoke_config(FunctionName=name)


def test_what_is_over_can_be_sent_again_and_what_waits_can_be_purged(own):
    name = own.make(python("if event == 'bad': raise ValueError('no')"))
    own.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    event = send(own, name, "bad")
    assert ended(own, event)["state"] == "dropped"
    own.change(name, python("return event"))
    again = hearth(own, "events", "retry", event)["id"]
    found = ended(own, again)
    assert found["state"] == "succeeded" and found["retryOf"] == event
    assert "no event" in hearth(own, "events", "retry", "nothing", status=1)
    slow = own.make(python("raise ValueError('no')"))
    waiting = send(own, slow, 1)
    eventually("an attempt", lambda: show(own, waiting)["attempts"])
    hearth(own, "events", "purge", "--function", slow)
    assert ended(own, waiting)["state"] in ("purged", "dropped")
    assert hearth(own, "events", "audit")["balanced"]


def test_bad_events_are_refused_as_aws_does(own):
    name = own.make(python("pass"))
    with pytest.raises(ClientError) as refused:
        own.client.invoke(FunctionName=name, InvocationType="Event", Payload=b'"' + b"x" * 1_048_576 + b'"')
    error = refused.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert error["Error"]["Code"] == "RequestTooLargeException"
    text = "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    assert error["Error"]["Message"] == text
    send(own, name, "x" * (1_048_576 - 2))
    with pytest.raises(ClientError, match="Could not parse request body into json"):
        own.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"{nope")
    with pytest.raises(ClientError, match="Function not found"):
        own.client.invoke(FunctionName="missing", InvocationType="Event", Payload=b"1")


def test_the_legacy_operation_queues_too(own):
    name, caught = catcher(own)
    answer = own.client.invoke_async(FunctionName=name, InvokeArgs=b'{"legacy": true}')
    assert answer["Status"] == 202
    assert ended(own, answer["ResponseMetadata"]["RequestId"])["state"] == "succeeded"
    assert eventually("the log", caught) == [{"legacy": True}]


def test_the_command_line_queues(own):
    name, caught = catcher(own)
    ran = subprocess.run(
        [BINARY, "--endpoint", own.server.url, "invoke", name, "--async", "--payload", '{"n": 1}'],
        env=environment(AWS_ACCESS_KEY_ID=own.account), capture_output=True, text=True, timeout=60, check=True,
    )
    assert ended(own, ran.stdout.strip())["state"] == "succeeded"
    assert eventually("the log", caught) == [{"n": 1}]


@contextlib.contextmanager
def listening():
    """Another service: answers the requests that it has got, and to each what `answers` says next."""
    got, answers = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status, said = answers.pop(0) if answers else (200, "{}")
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://KEY:SECRET@127.0.0.1:{server.server_port}", got, answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_topics_and_buses_are_reached_at_their_endpoints(start):
    with listening() as (url, got, answers):
        server = start(*FAST, "--endpoints-sns", url, "--endpoints-events", url)
        client = make_client(server)
        functions = Functions(client)
        at = "us-east-1:000000000000"
        topic, bus = f"arn:aws:sns:{at}:t", f"arn:aws:events:{at}:event-bus/b"
        name = functions.make(python("if event: raise ValueError('no')"), DeadLetterConfig={"TargetArn": topic})
        client.put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnSuccess": {"Destination": topic}, "OnFailure": {"Destination": bus}},
        )
        client.invoke(FunctionName=name, InvocationType="Event", Payload=b"0")
        [(headers, body)] = eventually("a message", lambda: got)
        form = dict(urllib.parse.parse_qsl(body))
        assert (form["Action"], form["TopicArn"]) == ("Publish", topic)
        assert json.loads(form["Message"])["requestContext"]["condition"] == "Success"
        assert "/us-east-1/sns/aws4_request" in headers["authorization"]
        got.clear()
        # What fails is tried again; a bus may refuse an event in an answer that is well.
        answers += [(500, "<Error><Code>Busy</Code></Error>"), (200, '{"FailedEntryCount": 0}')]
        id = client.invoke(FunctionName=name, InvocationType="Event", Payload=b"1")["ResponseMetadata"]["RequestId"]
        eventually("an event, and a dead letter", lambda: got[2:])
        entries = [json.loads(body)["Entries"] for headers, body in got if "x-amz-target" in headers]
        assert len(entries) == 2
        [entry] = entries[1]
        assert (entry["Source"], entry["EventBusName"]) == ("lambda", bus)
        assert entry["DetailType"] == "Lambda Function Invocation Result - Failure"
        assert entry["Resources"] == [bus, f"arn:aws:lambda:{at}:function:{name}:$LATEST"]
        assert json.loads(entry["Detail"])["requestPayload"] == 1
        [form] = [dict(urllib.parse.parse_qsl(body)) for headers, body in got if "x-amz-target" not in headers]
        assert form["Message"] == "1"
        attributes = {
            form[f"MessageAttributes.entry.{n}.Name"]: form[f"MessageAttributes.entry.{n}.Value.StringValue"]
            for n in (1, 2, 3)
        }
        assert attributes == {"RequestID": id, "ErrorCode": "200", "ErrorMessage": "no"}
        assert form["MessageAttributes.entry.2.Value.DataType"] == "Number"
        path = f"/_hearth/v1/events/{id}"
        found = eventually("its end", lambda: (e := json.loads(server.request("GET", path)[2])["events"][0]).get("reason") and e)
        assert (found["state"], found["destination"]) == ("delivered", f"{bus},{topic}")


def test_services_that_are_not_there_are_refused_by_name(own):
    name = own.make(python("pass"))
    at = f"us-east-1:{own.account}"
    for arn, service in [
        (f"arn:aws:sns:{at}:t", "SNS"),
        (f"arn:aws:events:{at}:event-bus/b", "EventBridge"),
    ]:
        with pytest.raises(ClientError, match=f"Hearth does not support destinations of {service}"):
            own.client.put_function_event_invoke_config(
                FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn}}
            )


def test_an_events_place_does_not_depend_on_other_functions(own):
    busy, other = own.make(python("import time\ntime.sleep(0.2)")), own.make(python("pass"))
    ended(own, send(own, other))
    for _ in range(200):
        send(own, busy)
    began = time.monotonic()
    event = send(own, other)
    assert ended(own, event)["state"] == "succeeded"
    left = hearth(own, "events", "list", "--function", busy, "--state", "queued")["events"]
    assert left, f"the busy function was done first, after {time.monotonic() - began:.1f} s"
    hearth(own, "events", "purge", "--function", busy)


def test_metrics_count_what_became_of_events(own):
    name = own.make(python("raise ValueError('no')"))
    own.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    ended(own, send(own, name))
    text = own.server.request("GET", "/_hearth/metrics")[2].decode()
    labels = f'account="{own.account}",region="us-east-1",function_name="{name}",resource="{name}"'
    for family in ("async_events_received", "async_events_dropped"):
        assert f"aws_lambda_{family}_total{{{labels}}} 1\n" in text
    assert f"aws_lambda_async_event_age_milliseconds_count{{{labels}}} 1\n" in text
    assert "# TYPE aws_lambda_dead_letter_errors_total counter" in text
