"""Answers that come while they are made: custom runtimes, Node.js, a program in Rust; by InvokeWithResponseStream, by
Invoke and by function URLs."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import urllib.parse
import uuid

import pytest

import urls
from conftest import make_client
from expect import refused
from hearth import eventually, resident, scope
from packages import python

HTTP = "application/vnd.awslambda.http-integration-response"
STREAM_MAX = 200 * 1024 * 1024
BUFFERED_MAX = 6291556
# An answer that would be seen in the server's memory.
SLOW = 64 << 20

# A runtime that does what its event says, step by step, on plain sockets. It takes the place of Python's own.
CODE = r"""
import base64, http.client, json, os, socket, time, urllib.error, urllib.request

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
PATH = "/2018-06-01/runtime/invocation/"


class Response:
    # One post to the Runtime API, written by hand.
    def __init__(self, id):
        host, port = API.split(":")
        self.id, self.begun = id, False
        self.socket = socket.create_connection((host, int(port)))

    def head(self, headers="Lambda-Runtime-Function-Response-Mode: streaming\r\n", path="response"):
        self.begun = True
        trailer = "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
        head = f"POST {PATH}{self.id}/{path} HTTP/1.1\r\nHost: {API}\r\nTransfer-Encoding: chunked\r\n{trailer}{headers}\r\n"
        self.socket.sendall(head.encode())

    def write(self, data):
        if not self.begun:
            self.head()
        self.socket.sendall(b"%x\r\n" % len(data) + data + b"\r\n")

    def end(self, trailers=""):
        if not self.begun:
            self.head()
        self.socket.sendall(f"0\r\n{trailers}\r\n".encode())
        return self.reply()

    def reply(self):
        reply = self.socket.makefile("rb")
        status = reply.readline().split()[1].decode()
        length = 0
        while line := reply.readline().strip():
            name, _, value = line.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        return status + " " + reply.read(length).decode()


def wait(url):
    while True:
        try:
            return urllib.request.urlopen(url).read()
        except urllib.error.HTTPError:
            time.sleep(0.005)


def run(id, steps):
    response = Response(id)
    for kind, *values in steps:
        if kind == "head":
            response.head(*values)
        elif kind == "write":
            response.write(values[0].encode())
        elif kind == "bytes":
            piece = b"x" * (1 << 16)
            for _ in range(values[0] // len(piece)):
                response.write(piece)
            if rest := values[0] % len(piece):
                response.write(piece[:rest])
        elif kind == "wait":
            wait(values[0])
        elif kind == "say":
            print(values[0], flush=True)
        elif kind == "sleep":
            time.sleep(3600)
        elif kind == "exit":
            os._exit(values[0])
        elif kind == "drop":
            response.socket.close()
            return "dropped"
        elif kind == "error":
            body = json.dumps(values[1]).encode()
            connection = http.client.HTTPConnection(API)
            connection.request("POST", PATH + id + "/error", body, {"Lambda-Runtime-Function-Error-Type": values[0]})
            return f"error {connection.getresponse().status}"
        elif kind == "again":
            print("again", Response(id).end(), flush=True)
        elif kind == "next":
            connection = http.client.HTTPConnection(API)
            connection.request("GET", PATH + "next")
            print("next", connection.getresponse().read().decode(), flush=True)
        elif kind == "trailers":
            type, body = values
            body = base64.b64encode(json.dumps(body).encode()).decode()
            return response.end(f"Lambda-Runtime-Function-Error-Type: {type}\r\nLambda-Runtime-Function-Error-Body: {body}\r\n")
    return response.end()


while True:
    api = http.client.HTTPConnection(API)
    api.request("GET", PATH + "next")
    event = api.getresponse()
    id, steps = event.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(event.read())
    print("told", run(id, steps), flush=True)
"""

RAW = {"wrapper": '#!/bin/sh\nexec "$1" /var/task/raw.py\n', "raw.py": CODE}
WRAPPED = {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}}

NODE = {
    "index.js": """
const pause = () => new Promise((then) => setTimeout(then, 5));
const wait = async (url) => { while (!(await fetch(url)).ok) await pause(); };
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event.status) stream = awslambda.HttpResponseStream.from(stream, { statusCode: event.status, headers: { a: 'b' } });
  if (event.type) stream.setContentType(event.type);
  stream.write(`first ${context.awsRequestId}`);
  if (event.go) await wait(event.go);
  if (event.throw) throw new TypeError('in the middle');
  stream.write(' second');
  stream.end();
});
"""
}

# The same for what comes through a URL.
URL = {
    "index.js": """
const pause = () => new Promise((then) => setTimeout(then, 5));
const wait = async (url) => { while (!(await fetch(url)).ok) await pause(); };
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const { status, go, early, late, bytes } = event.queryStringParameters ?? {};
  if (early) throw new TypeError('at once');
  if (status) {
    const head = { statusCode: Number(status), headers: { a: 'b', 'content-type': 'text/x' }, cookies: ['c=d', 'e=f'] };
    stream = awslambda.HttpResponseStream.from(stream, head);
  }
  stream.write('first');
  if (go) await wait(go);
  if (late) throw new TypeError('in the middle');
  const piece = Buffer.alloc(1 << 16, 'x');
  for (let n = 0; n < Number(bytes ?? 0); n += piece.length) {
    if (!stream.write(piece)) await new Promise((then) => stream.once('drain', then));
  }
  stream.end(' second');
});
"""
}


class Streamed:
    # An answer to InvokeWithResponseStream, taken as it comes.
    def __init__(self, answer):
        self.status, self.version = answer["StatusCode"], answer["ExecutedVersion"]
        self.type = answer["ResponseStreamContentType"]
        self.request_id = answer["ResponseMetadata"]["RequestId"]
        self.headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self.stream = answer["EventStream"]
        self.events = iter(self.stream)
        self.complete = None

    def piece(self):
        event = next(self.events)
        if "InvokeComplete" in event:
            self.complete = event["InvokeComplete"]
            return None
        return event["PayloadChunk"]["Payload"]

    def rest(self):
        pieces = []
        while self.complete is None:
            pieces.append(self.piece() or b"")
        assert list(self.events) == [], "something follows the end"
        return b"".join(pieces)

    @property
    def tail(self):
        return base64.b64decode(self.complete["LogResult"]).decode()


@pytest.fixture
def stream(client):
    def stream(name, payload, **settings):
        body = json.dumps(payload)
        return Streamed(client.invoke_with_response_stream(FunctionName=name, Payload=body, **settings))

    return stream


@pytest.fixture
def raw(make):
    return make(RAW, Environment=WRAPPED, MemorySize=256)


class Signal:
    # Something that a function can wait for: an object that is not there yet.
    def __init__(self, client):
        self.client, self.key = client, uuid.uuid4().hex
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="signals")
        self.url = client.generate_presigned_url("get_object", Params={"Bucket": "signals", "Key": self.key})

    def give(self):
        self.client.put_object(Bucket="signals", Key=self.key, Body=b"go")


@pytest.fixture
def signal(server):
    client = make_client(server, "s3")
    return lambda: Signal(client)


def logged(server, name):
    status, _, body = server.lambda_request("GET", f"/_hearth/v1/functions/{name}/logs")
    assert status == 200, body
    return [json.loads(line)["message"] for line in body.decode().splitlines()]


def test_pieces_arrive_while_the_function_runs(raw, stream, signal):
    first, second = signal(), signal()
    steps = [["write", "one"], ["wait", first.url], ["write", "two"], ["wait", second.url], ["write", "three"]]
    answer = stream(raw, steps)
    assert (answer.status, answer.version, answer.type) == (200, "$LATEST", "application/vnd.amazon.eventstream")
    assert answer.piece() == b"one", answer.complete
    first.give()
    assert answer.piece() == b"two"
    second.give()
    assert answer.rest() == b"three"
    assert answer.complete == {}


def test_the_log_of_a_stream_is_told_at_its_end(raw, stream):
    answer = stream(raw, [["write", "a"], ["say", "in between"], ["write", "b"]], LogType="Tail")
    assert answer.rest() == b"ab"
    lines = [line for line in answer.tail.splitlines() if line]
    assert lines[0] == f"START RequestId: {answer.request_id} Version: $LATEST"
    assert lines[1:3] == ["in between", 'told 202 {"status":"OK"}']
    assert lines[4].startswith(f"REPORT RequestId: {answer.request_id}\t") and "Status" not in lines[4]
    assert "ErrorCode" not in answer.complete


def test_invoke_gives_the_whole_of_a_stream(raw, call):
    head = "Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: text/x\r\n"
    answer = call(raw, [["head", head], ["write", "a"], ["write", "b"]])
    assert (answer.error, answer.bytes, answer.headers["content-type"]) == (None, b"ab", "text/x")
    failed = call(raw, [["write", "half"], ["trailers", "Runtime.Broken", {"errorType": "E", "errorMessage": "m"}]])
    assert (failed.error, failed.payload) == ("Unhandled", {"errorType": "E", "errorMessage": "m"})


def test_the_whole_of_a_stream_is_limited_to_six_megabytes(raw, call):
    assert len(call(raw, [["bytes", BUFFERED_MAX]]).bytes) == BUFFERED_MAX
    answer = call(raw, [["bytes", BUFFERED_MAX + 1]], LogType="Tail")
    message = f"Response payload size exceeded maximum allowed payload size ({BUFFERED_MAX} bytes)."
    assert answer.error == "Unhandled"
    assert answer.payload == {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}
    assert "told 413 " in answer.tail
    assert f"Exceeded maximum allowed payload size ({BUFFERED_MAX} bytes)." in answer.tail


def test_an_error_in_the_middle_ends_the_stream(raw, stream):
    error = {"errorType": "Mine", "errorMessage": "no more"}
    answer = stream(raw, [["write", "half"], ["trailers", "Function.Mine", error]], LogType="Tail")
    assert answer.rest() == b"half"
    assert answer.complete["ErrorCode"] == "Function.Mine"
    assert json.loads(answer.complete["ErrorDetails"]) == error
    assert "\tStatus: error\tError Type: Function.Mine\t" in answer.tail
    assert stream(raw, [["write", "whole"]]).rest() == b"whole", "the environment goes on"


def test_an_error_before_the_stream_is_all_that_there_is(raw, stream):
    error = {"errorType": "Mine", "errorMessage": "not at all"}
    answer = stream(raw, [["error", "Function.Mine", error]], LogType="Tail")
    assert answer.status == 200
    assert answer.rest() == b""
    assert answer.complete["ErrorCode"] == "Unhandled"
    assert json.loads(answer.complete["ErrorDetails"]) == error
    assert "\tStatus: error\tError Type: Function.Mine\t" in answer.tail


@pytest.mark.parametrize(
    "step, answered, line",
    [
        (["drop"], {"errorType": "Runtime.TruncatedResponse"}, "\tStatus: error\tError Type: Runtime.TruncatedResponse\t"),
        (["exit", 3], {"errorType": "Runtime.TruncatedResponse"}, "\tStatus: error\tError Type: Runtime.ExitError\t"),
    ],
)
def test_a_stream_that_is_cut_off_says_so(raw, stream, step, answered, line):
    answer = stream(raw, [["write", "half"], step], LogType="Tail")
    assert answer.rest() == b"half"
    assert (answer.complete["ErrorCode"], json.loads(answer.complete["ErrorDetails"])) == (answered["errorType"], answered)
    assert line in answer.tail
    assert stream(raw, [["write", "whole"]]).rest() == b"whole"


def test_a_stream_that_takes_too_long_times_out(make, stream):
    name = make(RAW, Environment=WRAPPED, MemorySize=256, Timeout=2)
    answer = stream(name, [["write", "half"], ["sleep"]], LogType="Tail")
    assert answer.rest() == b"half"
    assert answer.complete["ErrorCode"] == "Sandbox.Timeout"
    message = f"RequestId: {answer.request_id} Error: Task timed out after 2.00 seconds"
    assert json.loads(answer.complete["ErrorDetails"]) == {"errorType": "Sandbox.Timedout", "errorMessage": message}
    assert f"{answer.request_id} Task timed out after 2.00 seconds\n" in answer.tail
    assert "\tStatus: timeout\t" in answer.tail
    # Before its first word it is an error like any other.
    silent = stream(name, [["sleep"]])
    assert silent.rest() == b""
    assert silent.complete["ErrorCode"] == "Unhandled"
    assert json.loads(silent.complete["ErrorDetails"])["errorType"] == "Sandbox.Timedout"


def test_a_caller_that_reads_slowly_holds_up_the_function_and_no_memory(raw, server):
    body = json.dumps([["bytes", SLOW]])
    before = resident(server.process.pid)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        path = f"/2021-11-15/functions/{raw}/response-streaming-invocations"
        connection.request("POST", path, body, scope("lambda"))
        answer = connection.getresponse()
        taken = 0
        while piece := answer.read(1 << 20):
            taken += len(piece)
            # The debug build of a server that is also serving others; a stream alone has 64 KB.
            assert resident(server.process.pid) - before < SLOW // 2
    assert taken > SLOW


def test_a_caller_that_goes_away_does_not_interrupt_the_function(raw, client, stream, server, signal):
    go = signal()
    answer = stream(raw, [["write", "one"], ["wait", go.url], ["bytes", 4 << 20], ["say", "went on"]])
    assert answer.piece() == b"one"
    answer.stream.close()
    go.give()
    eventually("the rest of the function", lambda: any("told 202" in line for line in logged(server, raw)))
    assert "went on" in "".join(logged(server, raw))
    gone = "a caller went away before the end of a stream"
    eventually("what is said of it", lambda: gone in server.said() and answer.request_id in server.said())
    assert stream(raw, [["write", "next"]]).rest() == b"next"


def test_two_hundred_megabytes_are_the_most(raw, stream):
    answer = stream(raw, [["bytes", STREAM_MAX + 1]], LogType="Tail")
    size = 0
    while (piece := answer.piece()) is not None:
        size += len(piece)
    assert size == STREAM_MAX
    assert answer.complete["ErrorCode"] == "Function.ResponseSizeTooLarge"
    message = f"Response payload size exceeded maximum allowed payload size ({STREAM_MAX} bytes)."
    assert json.loads(answer.complete["ErrorDetails"])["errorMessage"] == message
    assert "told 413" in answer.tail


def test_while_a_response_is_streamed_the_runtime_can_say_nothing_else(raw, stream, signal):
    go = signal()
    # Two connections: which of them is heard first is nobody's to say, so the first has been heard before the others speak.
    steps = [["write", "one"], ["wait", go.url], ["again"], ["next"], ["write", "two"]]
    answer = stream(raw, steps, LogType="Tail")
    assert answer.piece() == b"one"
    go.give()
    assert answer.rest() == b"two"
    refused = "failed for runtime. Error: State transition is not allowed"
    assert f"State transition from InvocationResponse to InvocationResponse {refused}" in answer.tail
    assert f"State transition from InvocationResponse to Ready {refused}" in answer.tail


def test_a_function_that_does_not_stream_answers_a_stream(make, stream):
    name = make(python("if event == 'fail': raise ValueError('no')\nreturn event"))
    answer = stream(name, {"a": "b" * 100_000}, LogType="Tail")
    assert json.loads(answer.rest()) == {"a": "b" * 100_000}
    assert set(answer.complete) == {"LogResult"}
    failed = stream(name, "fail")
    assert failed.rest() == b""
    assert failed.complete["ErrorCode"] == "Unhandled"
    assert json.loads(failed.complete["ErrorDetails"])["errorType"] == "ValueError"


def test_node_streams(make, stream, call, signal):
    name = make(NODE, Runtime="nodejs20.x", MemorySize=256)
    go = signal()
    answer = stream(name, {"go": go.url})
    assert answer.piece() == f"first {answer.request_id}".encode()
    go.give()
    assert (answer.rest(), answer.complete) == (b" second", {})
    whole = call(name, {"type": "text/x"})
    assert (whole.bytes, whole.headers["content-type"]) == (f"first {whole.request_id} second".encode(), "text/x")


def test_node_gives_a_prelude_of_http(make, stream, call):
    name = make(NODE, Runtime="nodejs20.x", MemorySize=256)
    whole = call(name, {"status": 201})
    assert whole.headers["content-type"] == HTTP
    prelude, _, body = whole.bytes.partition(bytes(8))
    assert json.loads(prelude) == {"statusCode": 201, "headers": {"a": "b"}}
    assert body == f"first {whole.request_id} second".encode()
    streamed = stream(name, {"status": 201})
    assert streamed.rest().partition(bytes(8))[0] == prelude


def test_node_fails_in_the_middle(make, stream, call):
    name = make(NODE, Runtime="nodejs20.x", MemorySize=256)
    answer = stream(name, {"throw": True}, LogType="Tail")
    assert answer.rest() == f"first {answer.request_id}".encode()
    assert answer.complete["ErrorCode"] == "TypeError"
    details = json.loads(answer.complete["ErrorDetails"])
    assert (details["errorType"], details["errorMessage"]) == ("TypeError", "in the middle")
    assert "Invoke Error" in answer.tail
    whole = call(name, {"throw": True})
    assert (whole.error, whole.payload["errorMessage"]) == ("Unhandled", "in the middle")


def test_a_program_in_rust_streams(make, stream):
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST"]).with_name("streaming").read_bytes()
    name = make({"bootstrap": program}, Runtime="provided.al2023", MemorySize=256)
    answer = stream(name, {"pieces": ["a", "b", "c"]})
    # The crate always sends a prelude of HTTP.
    prelude, _, body = answer.rest().partition(bytes(8))
    assert json.loads(prelude)["statusCode"] == 200
    assert (body, answer.complete) == (b"abc", {})
    failed = stream(name, {"fail": True})
    assert failed.rest() == b""
    assert failed.complete["ErrorCode"] == "Unhandled"
    assert json.loads(failed.complete["ErrorDetails"])["errorMessage"] == "asked to fail"


def test_a_stream_holds_its_share_of_concurrency(own, signal, server):
    name = own.make(RAW, Environment=WRAPPED, MemorySize=256)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    go = Signal(make_client(server, "s3", account=own.account))

    def stream(*steps):
        answer = own.client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(steps))
        return Streamed(answer)

    first = stream(["write", "one"], ["wait", go.url])
    assert first.piece() == b"one"
    with refused("TooManyRequestsException", 429):
        stream(["write", "two"])
    go.give()
    first.rest()
    # Its environment is free a moment later.
    assert stream(["write", "two"]).rest() == b"two"


def test_what_is_wrong_is_said_before_a_stream_begins(client, make):
    with refused("ResourceNotFoundException", 404):
        client.invoke_with_response_stream(FunctionName="nobody")
    name = make(python("return 1"))
    with refused("InvalidRequestContentException", 400):
        client.invoke_with_response_stream(FunctionName=name, Payload=b"{")
    with refused("RequestEntityTooLargeException", 413):
        client.invoke_with_response_stream(FunctionName=name, Payload=b'"' + b"x" * 6_291_456 + b'"')
    with refused("InvalidParameterValueException", 400, re.compile("not enabled with tenancy configuration")):
        client.invoke_with_response_stream(FunctionName=name, TenantId="a")
    dry = client.invoke_with_response_stream(FunctionName=name, InvocationType="DryRun")
    assert dry["StatusCode"] == 204


@pytest.fixture
def url(make, client):
    name = make(URL, Runtime="nodejs20.x", MemorySize=256)
    return urls.create(client, name, InvokeMode="RESPONSE_STREAM")


@contextlib.contextmanager
def opened(url, target):
    connection = http.client.HTTPConnection("127.0.0.1", url.parts.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", target, headers={"Host": url.parts.netloc})
        yield connection.getresponse()


def test_a_url_streams(url, signal):
    go = signal()
    with opened(url, f"/?go={urllib.parse.quote(go.url, safe='')}") as answer:
        assert (answer.status, answer.getheader("content-type")) == (200, "application/octet-stream")
        assert answer.read(5) == b"first"
        go.give()
        assert answer.read() == b" second"


def test_a_prelude_is_the_head_of_a_urls_answer(url):
    answer = url.request(target="/?status=418")
    assert (answer.status, answer.body, answer.headers["a"]) == (418, b"first second", "b")
    assert (answer.headers["content-type"], answer.every("set-cookie")) == ("text/x", ["c=d", "e=f"])
    assert answer.headers["transfer-encoding"] == "chunked" and "x-amzn-trace-id" in answer.headers


def test_a_url_streams_two_hundred_megabytes_and_no_more(url):
    size = 8 << 20
    assert len(url.request(target=f"/?bytes={size}").body) == size + len("first second")
    with opened(url, f"/?bytes={STREAM_MAX}") as answer:
        assert taken(answer) == (STREAM_MAX, "cut")


def taken(answer):
    """How much was answered, and how it ended."""
    size = 0
    try:
        while piece := answer.read1(1 << 20):
            size += len(piece)
    except http.client.HTTPException:
        return size, "cut"
    return size, "whole"


def test_a_browser_that_reads_slowly_holds_up_the_function_and_no_memory(url, server):
    before = resident(server.process.pid)
    with opened(url, f"/?bytes={SLOW}") as answer:
        size = 0
        while piece := answer.read(1 << 20):
            size += len(piece)
            assert resident(server.process.pid) - before < SLOW // 2
    assert size == SLOW + len("first second")


def test_a_function_whose_time_is_over_cuts_its_urls_answer(make, client, signal):
    never = urllib.parse.quote(signal().url, safe="")
    url = urls.create(client, make(URL, Runtime="nodejs20.x", MemorySize=256, Timeout=2), InvokeMode="RESPONSE_STREAM")
    with opened(url, f"/?status=200&go={never}") as answer:
        assert (answer.status, taken(answer)) == (200, (len("first"), "cut"))
    assert url.request().body == b"first second"


def test_a_url_streams_over_http_2(url):
    resolve = ["--resolve", f"{url.parts.hostname}:{url.parts.port}:127.0.0.1"]
    for query, status, body in (("", 0, b"first second"), ("?status=201", 0, b"first second"), ("?late=1", 92, b"first")):
        command = ["curl", "-sS", "--http2-prior-knowledge", *resolve, url.text + query]
        answer = subprocess.run(command, capture_output=True, timeout=60)
        # 92: the stream was not ended as it should be.
        assert (answer.returncode, answer.stdout) == (status, body), answer.stderr


def test_a_function_that_fails_cuts_its_urls_answer(url):
    assert url.request(target="/?early=1").status == 502
    for target in ("/?late=1", "/?late=1&status=200"):
        with opened(url, target) as answer:
            assert answer.status == 200
            with pytest.raises(http.client.IncompleteRead) as cut:
                answer.read()
            assert cut.value.partial == b"first"
    assert url.request().body == b"first second"


def test_a_client_that_leaves_a_url_ends_nothing(url):
    with opened(url, f"/?bytes={64 << 20}") as answer:
        assert answer.read(5) == b"first"
    assert url.request().body == b"first second"


def test_a_url_that_streams_passes_on_what_a_function_returns(make, client):
    name = make(python("return {'statusCode': 404, 'body': 'b'}"))
    answer = urls.create(client, name, InvokeMode="RESPONSE_STREAM").request()
    assert (answer.status, answer.json) == (200, {"statusCode": 404, "body": "b"})


def test_a_buffered_url_gathers_a_stream(make, client):
    name = make(URL, Runtime="nodejs20.x", MemorySize=256)
    url = urls.create(client, name)
    answer = url.request(target="/?status=201")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (201, b"first second", "12")
    assert url.request(target="/?late=1&status=201").status == 502
    client.update_function_url_config(FunctionName=name, InvokeMode="RESPONSE_STREAM")
    assert url.request(target="/?status=201").headers["transfer-encoding"] == "chunked"
