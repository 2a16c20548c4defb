"""Extensions from layers, beside functions."""

import json
import os
import pathlib
import re

import pytest

from conftest import Functions, caller, make_client
from hearth import eventually
from packages import HEALTHY, python, zipped
from test_invoke import REPORT

WATCH = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
id=$(curl -sS -D - -o /tmp/welcome -H "Lambda-Extension-Name: ${0##*/}" -H 'Lambda-Extension-Accept-Feature: accountId' \\
    -d '{"events": ["INVOKE", "SHUTDOWN"]}' "$api/register" | sed -n 's/^lambda-extension-identifier: *//Ip' | tr -d '\\r')
cat /tmp/welcome; echo
while event=$(curl -sS -H "Lambda-Extension-Identifier: $id" "$api/event/next"); do
    echo "${0##*/} $event"
    case "$event" in *SHUTDOWN*) exit 0 ;; esac
done
"""


@pytest.fixture
def layer(client):
    """Publishes files as a layer; answers its ARN."""

    def layer(files):
        content = {"ZipFile": zipped(files)}
        return client.publish_layer_version(LayerName="extensions", Content=content)["LayerVersionArn"]

    return layer


@pytest.fixture
def lines(server):
    def lines(name):
        log = server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode()
        return [json.loads(line)["message"] for line in log.splitlines()]

    return lines


def told(lines, who, kind):
    """Events of this kind that the extension says it was told of."""
    found = [line.removeprefix(f"{who} ") for line in lines if line.startswith(f"{who} {{")]
    return [event for event in map(json.loads, found) if event["eventType"] == kind]


def test_an_extension_of_a_layer_lives_beside_its_function(functions, make, call, layer, lines):
    name = make(HEALTHY, Layers=[layer({"extensions/watch": WATCH})], Timeout=20)
    first, second = call(name, 1, LogType="Tail"), call(name, 2)
    assert (first.payload, second.payload) == ({"healthy": 1}, {"healthy": 2})
    assert f"watch {{\"eventType\":\"INVOKE\"" in first.tail, "what it says belongs to the invocation"
    eventually("both", lambda: len(told(lines(name), "watch", "INVOKE")) == 2)
    events = told(lines(name), "watch", "INVOKE")
    assert [event["requestId"] for event in events] == [first.request_id, second.request_id]
    assert events[0]["invokedFunctionArn"].endswith(f":function:{name}")
    assert events[0]["tracing"]["type"] == "X-Amzn-Trace-Id" and events[0]["deadlineMs"] > 1_700_000_000_000
    welcome = {"functionName": name, "functionVersion": "$LATEST", "handler": "index.handler", "accountId": "000000000000"}
    assert json.dumps(welcome, separators=(",", ":")) in lines(name)
    assert "EXTENSION\tName: watch\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in lines(name)
    # Other code: what ran the old one is ended.
    functions.change(name, HEALTHY | {"more.txt": "x"})
    eventually("the end", lambda: told(lines(name), "watch", "SHUTDOWN"))
    assert told(lines(name), "watch", "SHUTDOWN")[0]["shutdownReason"] == "spindown"


def test_the_published_rust_client_works(make, call, layer, lines):
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST_EXTENSION"]).read_bytes()
    name = make(python("if event == 'sleep': time.sleep(100)\nreturn event", before="import time"), Timeout=5, Layers=[
        layer({"extensions/rust-extension": program})
    ])
    answer = call(name, 5)
    assert answer.payload == 5
    late = call(name, "sleep")
    assert late.payload["errorType"] == "Sandbox.Timedout"
    assert call(name, 6).payload == 6
    said = lines(name)
    for line in (f"rust extension INVOKE {answer.request_id}", "rust extension SHUTDOWN timeout"):
        assert line in said, said


def test_the_published_rust_client_is_sent_telemetry(functions, make, call, layer, lines):
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST_EXTENSION"]).read_bytes()
    name = make(python("print('hello')\nreturn event"), Layers=[layer({"extensions/rust-extension": program})])
    answers = [call(name, number) for number in range(2)]
    # Other code: what ran the old one is ended, and is sent what was still to come.
    functions.change(name, HEALTHY)
    eventually("the end", lambda: "rust extension SHUTDOWN spindown" in lines(name))
    said = [line.removeprefix("rust telemetry ") for line in lines(name) if line.startswith("rust telemetry ")]
    assert said[0] == "init Init", said
    for kind in ("telemetrySubscription", "initRuntimeDone", "extension", "initReport", "start"):
        assert f'other "platform.{kind}"' in said, said
    assert said.count("function hello") == 2
    reports = {found["id"]: found["billed"] for line in lines(name) if (found := REPORT.match(line))}
    for answer in answers:
        assert f"done {answer.request_id} Success 3 spans" in said, said
    # The last report is on its way when the extension is told to end, and this one ends at once.
    first = answers[0].request_id
    assert f"report {first} {reports[first]} ms" in said, said
    subscribed = "TELEMETRY\tName: rust-extension\tState: Subscribed\tTypes: [Platform, Function]"
    assert subscribed in lines(name)


def test_the_caller_does_not_wait_for_extensions_but_the_bill_does(make, call, layer, lines):
    slow = WATCH.replace("*SHUTDOWN*) exit 0", "*INVOKE*) sleep 0.7")
    name = make(HEALTHY, Layers=[layer({"extensions/slow": slow})])
    call(name, 0)
    answer = call(name, 1)
    reports = lambda: [found for line in lines(name) if (found := REPORT.match(line)) and found["id"] == answer.request_id]
    report = eventually("the report", reports)[0]
    assert float(report["duration"]) >= 700 and int(report["billed"]) >= 700


def test_a_layer_with_a_broken_extension_says_which_and_how(make, call, layer, lines):
    name = make(HEALTHY, Layers=[layer({"extensions/broken": "#!/bin/sh\nexit 3\n"})])
    answer = call(name, 1)
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Extension.Crash")
    assert re.fullmatch(r"RequestId: [0-9a-f-]{36} Error: exit status 3", answer.payload["errorMessage"])
    assert "EXTENSION\tName: broken\tState: Exited\tEvents: []\tError Type: Extension.Crash" in lines(name)
    name = make(HEALTHY, Layers=[layer({"extensions/text": "no program"})])
    payload = call(name, 1).payload
    assert payload["errorType"] == "Extension.LaunchError"
    assert payload["errorMessage"].endswith("fork/exec /opt/extensions/text: permission denied")


def test_extensions_end_with_the_server(start):
    server = start()
    client = make_client(server)
    arn = client.publish_layer_version(LayerName="w", Content={"ZipFile": zipped({"extensions/watch": WATCH})})
    functions = Functions(client)
    name = functions.make(HEALTHY, Layers=[arn["LayerVersionArn"]])
    assert caller(client)(name, 1).payload == {"healthy": 1}
    server.stop()
    server = start()
    log = server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode()
    assert "\\\"shutdownReason\\\":\\\"spindown\\\"" in log, log


def test_a_function_can_log_json(make, call, lines):
    body = "print('plain')\nlogging.getLogger().warning('careful')\nlogging.getLogger().info('chatty')\nreturn event"
    logging = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN", "SystemLogLevel": "INFO"}
    name = make(python(body, before="import logging"), LoggingConfig=logging)
    answer = call(name, 1, LogType="Tail")
    events = [json.loads(line) for line in answer.tail.splitlines()]
    assert [event.get("type", event.get("message")) for event in events] == ["platform.start", "careful", "platform.report"]
    start, careful, report = events
    assert start["record"] == {"requestId": answer.request_id, "version": "$LATEST"}
    assert (careful["level"], careful["requestId"]) == ("WARNING", answer.request_id)
    assert report["record"]["status"] == "success" and report["record"]["metrics"]["memorySizeMB"] == 128
    eventually("the start", lambda: [line for line in lines(name) if json.loads(line).get("type") == "platform.initStart"])
