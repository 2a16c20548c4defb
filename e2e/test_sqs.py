"""SQS: standard and FIFO queues, dead letters, policies, both protocols, through boto3, the AWS CLI and raw requests."""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import xml.etree.ElementTree as ElementTree

import pytest

import expect
from conftest import make_client
from hearth import environment, eventually

NAMESPACE = {"q": "http://queue.amazonaws.com/doc/2012-11-05/"}


def refused(code, text="", status=400):
    return expect.refused(code, status, re.compile(re.escape(text)))


def name(suffix=""):
    return f"q-{uuid.uuid4().hex[:12]}{suffix}"


@pytest.fixture
def sqs(server):
    return make_client(server, "sqs")


@pytest.fixture
def make(sqs):
    def make(suffix="", **attributes):
        if suffix == ".fifo":
            attributes["FifoQueue"] = "true"
        return sqs.create_queue(QueueName=name(suffix), Attributes=attributes)["QueueUrl"]

    return make


def arn(sqs, url):
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return found["Attributes"]["QueueArn"]


def counts(sqs, url):
    names = ["", "NotVisible", "Delayed"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return [int(found[f"ApproximateNumberOfMessages{name}"]) for name in names]


def receive(sqs, url, **more):
    return sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **more).get("Messages", [])


def test_a_message_is_sent_received_and_deleted(sqs, make):
    url = make()
    attributes = {
        "text": {"DataType": "String", "StringValue": "välue"},
        "bytes": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
        "number": {"DataType": "Number", "StringValue": "1.5"},
    }
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    # boto3 compares the digests itself.
    sent = sqs.send_message(
        QueueUrl=url, MessageBody="hello ☃", MessageAttributes=attributes, MessageSystemAttributes=trace
    )
    assert sent["MD5OfMessageBody"] == hashlib.md5("hello ☃".encode()).hexdigest()
    assert counts(sqs, url) == [1, 0, 0]
    (message,) = receive(sqs, url, AttributeNames=["All"], MessageAttributeNames=["All"])
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "hello ☃")
    assert message["MessageAttributes"] == attributes
    system = message["Attributes"]
    assert system["ApproximateReceiveCount"] == "1" and system["AWSTraceHeader"].startswith("Root=")
    assert int(system["SentTimestamp"]) <= int(system["ApproximateFirstReceiveTimestamp"])
    assert counts(sqs, url) == [0, 1, 0]
    assert receive(sqs, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert counts(sqs, url) == [0, 0, 0]
    with refused("ReceiptHandleIsInvalid"):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="nonsense")


def test_batches_answer_each_entry(sqs, make):
    url = make()
    entries = [{"Id": str(i), "MessageBody": f"body {i}"} for i in range(10)]
    entries[3]["DelaySeconds"] = 901
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in sent["Successful"]] == [str(i) for i in range(10) if i != 3]
    (failed,) = sent["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("3", "InvalidParameterValue", True)
    received = receive(sqs, url, VisibilityTimeout=100)
    assert len(received) == 9
    changes = [
        {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        for i, message in enumerate(received)
    ]
    assert len(sqs.change_message_visibility_batch(QueueUrl=url, Entries=changes)["Successful"]) == 9
    again = receive(sqs, url)
    assert len(again) == 9
    deletes = [{"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]} for i, message in enumerate(again)]
    deletes.append({"Id": "bad", "ReceiptHandle": "x"})
    deleted = sqs.delete_message_batch(QueueUrl=url, Entries=deletes)
    assert len(deleted["Successful"]) == 9 and deleted["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
    for bad, code in [
        ([], "AWS.SimpleQueueService.EmptyBatchRequest"),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "AWS.SimpleQueueService.InvalidBatchEntryId"),
        (
            [{"Id": str(i), "MessageBody": "x"} for i in range(11)],
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        ),
        (
            [{"Id": str(i), "MessageBody": "x" * 600_000} for i in range(2)],
            "AWS.SimpleQueueService.BatchRequestTooLong",
        ),
    ]:
        with refused(code):
            sqs.send_message_batch(QueueUrl=url, Entries=bad)


def test_a_queue_is_made_once_and_refuses_to_be_another(sqs):
    called = name()
    url = sqs.create_queue(QueueName=called, Attributes={"VisibilityTimeout": "45"}, tags={"a": "b"})["QueueUrl"]
    assert sqs.create_queue(QueueName=called)["QueueUrl"] == url
    assert sqs.create_queue(QueueName=called, Attributes={"VisibilityTimeout": "45"})["QueueUrl"] == url
    with refused("QueueAlreadyExists", "VisibilityTimeout"):
        sqs.create_queue(QueueName=called, Attributes={"VisibilityTimeout": "46"})
    assert sqs.get_queue_url(QueueName=called)["QueueUrl"] == url
    assert sqs.list_queues(QueueNamePrefix=called)["QueueUrls"] == [url]
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    sqs.tag_queue(QueueUrl=url, Tags={"c": "d"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["a"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"c": "d"}
    sqs.delete_queue(QueueUrl=url)
    with refused("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist"):
        sqs.get_queue_url(QueueName=called)
    with refused("AWS.SimpleQueueService.QueueDeletedRecently"):
        sqs.create_queue(QueueName=called)
    for bad in ["a b", "x" * 81, "a.fifo"]:
        with refused("InvalidParameterValue"):
            sqs.create_queue(QueueName=bad)


@pytest.mark.parametrize(
    "attribute, value, code",
    [
        ("VisibilityTimeout", "43201", "InvalidAttributeValue"),
        ("DelaySeconds", "x", "InvalidAttributeValue"),
        ("MessageRetentionPeriod", "59", "InvalidAttributeValue"),
        ("MaximumMessageSize", "1048577", "InvalidAttributeValue"),
        ("ReceiveMessageWaitTimeSeconds", "21", "InvalidAttributeValue"),
        ("Policy", "{", "InvalidAttributeValue"),
        ("Nonsense", "1", "InvalidAttributeName"),
        ("ContentBasedDeduplication", "true", "InvalidAttributeName"),
        ("RedrivePolicy", "{}", "InvalidParameterValue"),
    ],
)
def test_attributes_are_checked(sqs, make, attribute, value, code):
    with refused(code):
        sqs.set_queue_attributes(QueueUrl=make(), Attributes={attribute: value})


def test_a_waiting_receiver_is_woken_by_what_arrives(sqs, server, make):
    url = make()
    other = make_client(server, "sqs")
    got = []
    thread = threading.Thread(target=lambda: got.extend(receive(other, url, WaitTimeSeconds=20)))
    began = time.monotonic()
    thread.start()
    time.sleep(0.5)
    sqs.send_message(QueueUrl=url, MessageBody="now")
    thread.join()
    assert [message["Body"] for message in got] == ["now"] and time.monotonic() - began < 15
    # What becomes due while somebody waits is received as well.
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
    assert counts(sqs, url)[2] == 1
    assert [message["Body"] for message in receive(sqs, url, WaitTimeSeconds=20)] == ["later"]


def test_fifo_keeps_the_order_of_groups_and_sends_once(sqs, make):
    url = make(".fifo", ContentBasedDeduplication="true")
    with refused("MissingParameter", "MessageGroupId"):
        sqs.send_message(QueueUrl=url, MessageBody="x")
    sent = [sqs.send_message(QueueUrl=url, MessageBody=f"{g}{i}", MessageGroupId=g) for i in range(3) for g in "ab"]
    numbers = [int(each["SequenceNumber"]) for each in sent]
    assert numbers == sorted(numbers) and len(sent[0]["SequenceNumber"]) == 20
    again = sqs.send_message(QueueUrl=url, MessageBody="a0", MessageGroupId="a")
    assert (again["MessageId"], again["SequenceNumber"]) == (sent[0]["MessageId"], sent[0]["SequenceNumber"])
    first = sqs.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    assert [message["Body"] for message in first] == ["a0"]
    assert first[0]["Attributes"]["MessageGroupId"] == "a"
    rest = receive(sqs, url)
    assert [message["Body"] for message in rest] == ["b0", "b1", "b2"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
    assert [message["Body"] for message in receive(sqs, url)] == ["a1", "a2"]
    entries = [{"Id": str(i), "MessageBody": "same", "MessageGroupId": "c"} for i in range(2)]
    batch = sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    assert batch[0]["MessageId"] == batch[1]["MessageId"]
    with refused("InvalidParameterValue", "not valid for this queue type"):
        sqs.send_message(QueueUrl=url, MessageBody="y", MessageGroupId="a", DelaySeconds=5)


def test_deduplication_can_be_each_groups_own(sqs, make):
    url = make(".fifo", DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    with refused("InvalidParameterValue", "ContentBasedDeduplication"):
        sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="a")
    for group in "ab":
        sqs.send_message(QueueUrl=url, MessageBody=group, MessageGroupId=group, MessageDeduplicationId="1")
    assert [message["Body"] for message in receive(sqs, url)] == ["a", "b"]


def test_what_is_received_too_often_is_a_dead_letter_and_comes_back(sqs, make):
    dead = make()
    source = make(RedrivePolicy=json.dumps({"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 2}))
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [source]
    sent = sqs.send_message(QueueUrl=source, MessageBody="poison")
    for _ in range(2):
        assert len(receive(sqs, source, VisibilityTimeout=0)) == 1
    assert receive(sqs, source) == []
    (letter,) = receive(sqs, dead, AttributeNames=["All"], VisibilityTimeout=0)
    assert letter["MessageId"] == sent["MessageId"]
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == arn(sqs, source)
    sqs.start_message_move_task(SourceArn=arn(sqs, dead))
    assert [message["Body"] for message in receive(sqs, source, WaitTimeSeconds=20)] == ["poison"]

    def completed():
        (task,) = sqs.list_message_move_tasks(SourceArn=arn(sqs, dead))["Results"]
        return task["Status"] == "COMPLETED" and task

    assert eventually("the end of the task", completed)["ApproximateNumberOfMessagesMoved"] == 1
    with refused("ResourceNotFoundException"):
        sqs.cancel_message_move_task(TaskHandle="x")
    closed = make(RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    with refused("InvalidParameterValue", "does not let"):
        make(RedrivePolicy=json.dumps({"deadLetterTargetArn": arn(sqs, closed), "maxReceiveCount": 2}))


def test_policies_let_other_accounts_in_and_keep_their_own_out(sqs, server, make):
    url = make()
    account = str(uuid.uuid4().int)[:12]
    other = make_client(server, "sqs", account)
    with refused("AccessDenied", status=403):
        other.send_message(QueueUrl=url, MessageBody="x")
    sqs.add_permission(QueueUrl=url, Label="l", AWSAccountIds=[account], Actions=["SendMessage"])
    other.send_message(QueueUrl=url, MessageBody="x")
    with refused("AccessDenied", status=403):
        other.receive_message(QueueUrl=url)
    sqs.remove_permission(QueueUrl=url, Label="l")
    with refused("AccessDenied", status=403):
        other.send_message(QueueUrl=url, MessageBody="x")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn(sqs, url)}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    with refused("AccessDenied", status=403):
        sqs.send_message(QueueUrl=url, MessageBody="x")
    assert len(receive(sqs, url)) == 1


def test_limits_and_purge(sqs, make):
    url = make()
    sqs.send_message(QueueUrl=url, MessageBody="x" * 1_048_576)
    with refused("InvalidParameterValue", "shorter than 1048576 bytes"):
        sqs.send_message(QueueUrl=url, MessageBody="x" * 1_048_577)
    with refused("InvalidMessageContents"):
        sqs.send_message(QueueUrl=url, MessageBody="\x01")
    with refused("InvalidParameterValue", "Must be between 1 and 10"):
        sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=11)
    sqs.purge_queue(QueueUrl=url)
    assert counts(sqs, url) == [0, 0, 0]
    with refused("AWS.SimpleQueueService.PurgeQueueInProgress"):
        sqs.purge_queue(QueueUrl=url)


def ask(url, **form):
    """An unsigned request of the Query protocol."""
    data = urllib.parse.urlencode({"Version": "2012-11-05", **form}).encode()
    try:
        with urllib.request.urlopen(url, data=data) as answer:
            return answer.status, ElementTree.fromstring(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, ElementTree.fromstring(error.read())


def texts(answer, path):
    return [found.text for found in answer.findall("/".join(f"q:{part}" for part in path.split("/")), NAMESPACE)]


def test_the_query_protocol(server):
    root = server.url + "/"
    called = name()
    form = {"Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "33", "Tag.1.Key": "k", "Tag.1.Value": "v"}
    status, answer = ask(root, Action="CreateQueue", QueueName=called, **form)
    (url,) = texts(answer, "CreateQueueResult/QueueUrl")
    assert status == 200 and url.endswith(called)
    attribute = {"MessageAttribute.1.Name": "n", "MessageAttribute.1.Value.DataType": "String"}
    attribute["MessageAttribute.1.Value.StringValue"] = "v"
    status, answer = ask(url, Action="SendMessage", MessageBody="<a> & b", **attribute)
    assert texts(answer, "SendMessageResult/MD5OfMessageBody") == [hashlib.md5(b"<a> & b").hexdigest()]
    batch = {"SendMessageBatchRequestEntry.1.Id": "one", "SendMessageBatchRequestEntry.1.MessageBody": "two"}
    status, answer = ask(root, Action="SendMessageBatch", QueueUrl=url, **batch)
    assert texts(answer, "SendMessageBatchResult/SendMessageBatchResultEntry/Id") == ["one"]
    wanted = {"AttributeName.1": "All", "MessageAttributeName.1": "All", "MaxNumberOfMessages": "10"}
    status, answer = ask(url, Action="ReceiveMessage", **wanted)
    message = "ReceiveMessageResult/Message"
    assert texts(answer, f"{message}/Body") == ["<a> & b", "two"]
    assert texts(answer, f"{message}/MessageAttribute/Value/StringValue") == ["v"]
    assert "SentTimestamp" in texts(answer, f"{message}/Attribute/Name")
    (first, _) = texts(answer, f"{message}/ReceiptHandle")
    assert ask(url, Action="DeleteMessage", ReceiptHandle=first)[0] == 200
    status, answer = ask(url, Action="GetQueueAttributes", **{"AttributeName.1": "VisibilityTimeout"})
    assert texts(answer, "GetQueueAttributesResult/Attribute/Value") == ["33"]
    status, answer = ask(root, Action="GetQueueUrl", QueueName="none")
    assert (status, texts(answer, "Error/Code")) == (400, ["AWS.SimpleQueueService.NonExistentQueue"])
    status, answer = ask(url, Action="DeleteMessage", ReceiptHandle="x")
    assert (status, texts(answer, "Error/Code")) == (404, ["ReceiptHandleIsInvalid"])
    assert ask(root, Action="Nonsense")[0] == 400


def test_the_command_line_of_aws(server):
    def aws(*arguments):
        program = pathlib.Path(sys.executable).with_name("aws")
        command = [sys.executable, program, "--endpoint-url", server.url, "--region", "us-east-1", "sqs", *arguments]
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        done = subprocess.run(command, env=environment(**credentials), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    url = aws("create-queue", "--queue-name", name())["QueueUrl"]
    sent = aws("send-message", "--queue-url", url, "--message-body", "by hand")
    got = aws("receive-message", "--queue-url", url, "--wait-time-seconds", "5")["Messages"][0]
    assert (got["MessageId"], got["Body"]) == (sent["MessageId"], "by hand")
    aws("delete-queue", "--queue-url", url)


def test_a_queues_url_works_inside_of_functions(sqs, functions, call, make):
    url = make()
    code = """
import os, urllib.parse, urllib.request

def send(url, **form):
    data = urllib.parse.urlencode({"Version": "2012-11-05", "Action": "SendMessage", **form}).encode()
    return urllib.request.urlopen(url, data=data).status

def handler(event, context):
    url = event["url"]
    root = os.environ["AWS_ENDPOINT_URL"] + "/"
    return [send(url, MessageBody="by its URL"), send(root, QueueUrl=url, MessageBody="by the endpoint")]
"""
    assert call(functions.make({"index.py": code}), {"url": url}).payload == [200, 200]
    assert sorted(message["Body"] for message in receive(sqs, url)) == ["by its URL", "by the endpoint"]


def test_everything_survives_the_death_of_the_server(start, data):
    server = start(data=data)
    sqs = make_client(server, "sqs")
    plain = sqs.create_queue(QueueName="plain")["QueueUrl"]
    fifo = sqs.create_queue(
        QueueName="f.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    )["QueueUrl"]
    for i in range(20):
        sqs.send_message(QueueUrl=plain, MessageBody=f"secret {i}")
        sqs.send_message(QueueUrl=fifo, MessageBody=str(i), MessageGroupId="g")
    held = sqs.receive_message(QueueUrl=fifo)["Messages"][0]
    server.kill()
    assert not any(b"secret 1" in file.read_bytes() for file in data.glob("queue.sqlite*"))
    server = start(data=data)
    sqs = make_client(server, "sqs")
    plain, fifo = (sqs.get_queue_url(QueueName=called)["QueueUrl"] for called in ["plain", "f.fifo"])
    assert counts(sqs, plain) == [20, 0, 0]
    assert receive(sqs, fifo) == []
    sqs.send_message(QueueUrl=fifo, MessageBody="0", MessageGroupId="g")
    sqs.delete_message(QueueUrl=fifo, ReceiptHandle=held["ReceiptHandle"])
    got = [message["Body"] for _ in range(2) for message in receive(sqs, fifo, VisibilityTimeout=300)]
    assert got == [str(i) for i in range(1, 11)]
