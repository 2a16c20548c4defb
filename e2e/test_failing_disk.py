"""A disk that is full, that does not sync, that tears its last write: what was acknowledged is kept, what was not is refused
with an error, functions go on, and all is well when the disk is."""

import itertools
import json
import os
import pathlib
import random
import subprocess

import pytest

from conftest import Functions, caller, make_client
from hearth import Server, eventually
from packages import python
from test_event_crashes import GONE, audit, events

SOURCE = pathlib.Path(__file__).parent / "fixtures/failing-disk.c"
# Calls of each kind beside a fault, and deaths in the midst of a write.
CALLS, TEARS = 20, int(os.environ.get("HEARTH_E2E_TEARS", "5"))


@pytest.fixture(scope="module")
def library(base):
    built = base / "failing-disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, SOURCE], check=True)
    built.chmod(0o755)
    return built


class Disk:
    def __init__(self, base, number):
        self.data, self.says = base / f"data-failing-{number}", base / f"disk-{number}"
        self.does("well")

    def does(self, what):
        self.says.write_text(what)
        self.says.chmod(0o644)


@pytest.fixture
def disk(base, numbers=itertools.count()):
    return Disk(base, next(numbers))


@pytest.fixture
def serve(disk, library, cache):
    """Starts a server on that disk."""
    servers = []

    def serve():
        variables = {"LD_PRELOAD": str(library), "FAILING_DISK": str(disk.says), "FAILING_DISK_BELOW": str(disk.data)}
        server = Server(disk.data, cache, "--async-retry-base-delay", "50ms", **variables).start()
        servers.append(server)
        return server

    yield serve
    disk.does("well")
    for server in servers:
        if server.alive():
            server.stop()


def send(server, name, event):
    """Status, id and body."""
    path = f"/2015-03-31/functions/{name}/invocations"
    status, said, body = server.lambda_request("POST", path, json.dumps(event), {"x-amz-invocation-type": "Event"})
    return status, said.get("x-amzn-requestid"), body


def settled(server):
    def settled():
        found = audit(server)
        assert found["balanced"], found
        return found["queued"] + found["running"] == 0

    eventually("the end of every event", settled, patience=120)


def accepts(server, name):
    """The id of an event that is accepted, sooner or later."""

    def accepted():
        status, event, _ = send(server, name, "after")
        return status == 202 and event

    return eventually("an event that is accepted", accepted)


@pytest.mark.parametrize("fault", ["full", "sync"])
def test_what_a_disk_does_not_take_is_refused_and_what_it_took_is_kept(disk, serve, fault):
    server = serve()
    client, queues = make_client(server), make_client(server, "sqs")
    functions, call = Functions(client), caller(make_client(server))
    name = functions.make(python("return event"))
    queue = queues.create_queue(QueueName="q")["QueueUrl"]
    assert call(name, 1).payload == 1
    acknowledged = [send(server, name, number) for number in range(CALLS)]
    assert {status for status, _, _ in acknowledged} == {202}
    kept = [queues.send_message(QueueUrl=queue, MessageBody=str(number))["MessageId"] for number in range(3)]
    disk.does(fault)
    for number in range(CALLS):
        status, _, body = send(server, name, number)
        assert status == 500 and json.loads(body)["Type"] == "Service", (status, body)
        assert call(name, number).payload == number, "functions go on"
    with pytest.raises(queues.exceptions.ClientError) as refused:
        queues.send_message(QueueUrl=queue, MessageBody="lost")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    with pytest.raises(client.exceptions.ClientError) as refused:
        client.update_function_configuration(FunctionName=name, Description="lost")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    disk.does("well")
    acknowledged.append((202, accepts(server, name), None))
    settled(server)
    # What counts is what another server finds.
    server.kill()
    server = serve()
    settled(server)
    found = events(server)
    assert all(found[event]["state"] == "succeeded" for _, event, _ in acknowledged)
    client, queues = make_client(server), make_client(server, "sqs")
    # What was not synced may be there yet: whoever was refused does not know, as after any answer of 500.
    assert client.get_function_configuration(FunctionName=name)["Description"] in {"full": [""], "sync": ["", "lost"]}[fault]
    received = eventually("messages", lambda: queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"))
    assert set(kept) & {message["MessageId"] for message in received}
    assert fault == "sync" or "lost" not in {message["Body"] for message in received}


def test_a_write_that_is_torn_loses_nothing_that_was_acknowledged(disk, serve):
    seed = int(os.environ.get("HEARTH_SEED", random.randrange(10**6)))
    print(f"HEARTH_SEED={seed}")
    chance = random.Random(seed)
    server = serve()
    name = Functions(make_client(server)).make(python("return event"))
    acknowledged = []
    for tear in range(TEARS):
        for number in range(chance.randrange(10)):
            acknowledged.append(send(server, name, number)[1])
        disk.does("torn")
        with pytest.raises(GONE):
            for number in itertools.count():
                status, event, _ = send(server, name, "x" * chance.randrange(100_000))
                assert status == 202
                acknowledged.append(event)
        disk.does("well")
        server.process.wait(30)
        server = serve()
        assert audit(server)["balanced"], f"HEARTH_SEED={seed}, tear {tear}: {audit(server)}"
    settled(server)
    found = events(server)
    assert all(found[event]["state"] == "succeeded" for event in acknowledged), f"HEARTH_SEED={seed}"
