"""Every runtime and published client, feature by feature; `docs/runtimes.md` is made of what is seen here."""

import base64
import json

import pytest

import failures  # noqa: F401 (rows of the table)
import runtimes
from conftest import Functions, caller, make_client
from hearth import eventually
from runtimes import TABLE, UPDATE, Bench, lines, why
from test_extensions import WATCH

# The first test that needs a part may have to build it.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bench(server):
    functions = Functions(make_client(server))
    yield Bench(functions)
    functions.delete()


@pytest.fixture(scope="module")
def call(server):
    """Calls so that an answer comes when its environment is idle again: the next call finds that one."""
    call = caller(make_client(server))
    return lambda name, payload=None, **settings: call(name, payload, **{"LogType": "Tail"} | settings)


def feature(group, name, absent=None):
    """Marks a test that is run for each runtime, save those that are absent for a reason. What passes is a cell."""
    columns = TABLE.row(group, name, absent)

    def wrap(test):
        each = pytest.mark.parametrize("column", columns, ids=[column.name for column in columns])
        return each(pytest.mark.cell(name)(test))

    return wrap


PYTHONS, NODES = ("python", "awslambdaric"), ("nodejs", "aws-lambda-ric")
SYNCHRONOUS = "Python's handlers are synchronous, on AWS too: what a coroutine function returns cannot be marshalled"
BY_HAND = "there are no handlers: the protocol is spoken by hand"
ONE_FORM = "the client knows other forms of handlers alone"
CALLBACKS = "only Node.js before 24 has them, and version 3 of the client, which `e2e/bootstraps` tests"
NOT_STREAMED = "the client does not stream its answers, on AWS neither"
NO_LOGGER = "it has no logger: what is written is logged as it is"
GO_LOGGER = "the client's logger needs Go 1.21, and the oldest Debian that Hearth is tested on has 1.19"


def answers(call, name):
    first = call(name, {"do": "echo", "value": "x"})
    assert (first.error, first.payload.get("got")) == (None, "x"), first.payload
    assert call(name, {"do": "echo"}).payload["calls"] == first.payload["calls"] + 1, "in the same environment"


@feature("Handlers", "synchronous", why(ONE_FORM, *NODES, "lambda_runtime") | why(BY_HAND, "by hand"))
def test_a_handler_answers(bench, call, column):
    answers(call, bench.one(column))


@feature("Handlers", "asynchronous", why(SYNCHRONOUS, *PYTHONS) | why(ONE_FORM, "aws-lambda-go", "java") | why(BY_HAND, "by hand"))
def test_an_asynchronous_handler_answers(bench, call, column):
    answers(call, bench.one(column))


@feature("Handlers", "with a callback", why(ONE_FORM, *PYTHONS, "lambda_runtime", "aws-lambda-go", "java") | why(CALLBACKS, "aws-lambda-ric") | why(BY_HAND, "by hand"))
def test_a_handler_calls_back(bench, call, column):
    name = bench.make(column, Handler="index.callback")
    assert call(name, {"value": 1}).payload == {"got": 1}


@feature("Handlers", "of streams of bytes", why(ONE_FORM, *PYTHONS, *NODES, "lambda_runtime", "aws-lambda-go") | why(BY_HAND, "by hand"))
def test_a_handler_reads_and_writes_bytes(bench, call, column):
    name = bench.make(column, Handler="hearth.Function$Bytes")
    assert call(name, b'{"a": 1}').bytes == b'{"bytes":{"a": 1}}'


@feature("Handlers", "what a handler sees of its context")
def test_the_context_is_of_the_call(bench, call, column):
    name = bench.one(column)
    answer = call(name, {"do": "echo"})
    seen = answer.payload
    assert (seen["id"], seen["function"]) == (answer.request_id, name)
    assert seen["arn"].endswith(f":function:{name}")
    assert seen["memory"] == column.settings.get("MemorySize", 128)
    assert 0 < seen["left"] <= 20_000


@feature("Handlers", "client context")
def test_the_client_context_arrives(bench, call, column):
    client = {"installation_id": "i", "app_title": "t", "app_version_name": "n", "app_version_code": "c", "app_package_name": "p"}
    context = {"client": client, "custom": {"a": "1"}, "env": {"b": "2"}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    assert call(bench.one(column), {"do": "echo"}, ClientContext=encoded).payload["client"] == {"a": "1"}


@feature("Handlers", "large events")
def test_large_events_arrive(bench, call, column):
    text = "é" * 1_000_000
    assert call(bench.one(column), json.dumps({"do": "echo", "value": text}, ensure_ascii=False).encode()).payload["got"] == text


def streamed(client, name, event):
    stream = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event))["EventStream"]
    events = list(stream)
    assert "InvokeComplete" in events[-1] and "ErrorCode" not in events[-1]["InvokeComplete"], events[-1]
    return b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])


@feature("Answers", "as a whole, and streamed by a caller who asks so")
def test_an_answer_is_streamed_to_who_asks_so(bench, call, client, column):
    found = json.loads(streamed(client, bench.one(column), {"do": "echo", "value": "x"}))
    assert found["got"] == "x"


STREAMING = {"nodejs": {"Handler": "index.stream"}, "aws-lambda-ric": {"Handler": "index.stream"}}


@feature("Answers", "streamed by the function", why(NOT_STREAMED, *PYTHONS, "java"))
def test_a_function_streams_its_answer(bench, call, client, column):
    files = {"bootstrap": runtimes.parts.rust("streaming")} if column.name == "lambda_runtime" else None
    name = bench.make(column, files, **STREAMING.get(column.name, {}))
    for _ in range(2):
        found = streamed(client, name, {"do": "stream", "pieces": ["one ", "two "]})
        # What `lambda_runtime` streams has a prelude, as for function URLs.
        assert found.rpartition(bytes(8))[2] == b"one two "


@feature("Answers", "errors of the handler")
def test_an_error_of_the_handler_is_answered_and_the_environment_goes_on(bench, call, column):
    name = bench.one(column)
    before = call(name, {"do": "echo"}).payload["calls"]
    failed = call(name, {"do": "fail"})
    assert (failed.error, failed.payload["errorMessage"]) == ("Unhandled", "asked to fail") and failed.payload["errorType"]
    assert call(name, {"do": "echo"}).payload["calls"] == before + 2


def logged(server, bench, call, column, want, **logging):
    """Lines of a function that was asked to log."""
    name = bench.make(column, **({"LoggingConfig": logging} if logging else {}))
    answer = call(name, {"do": "log"})
    assert answer.error is None, answer.payload
    return answer, eventually("its lines", lambda: found if want(found := lines(server, name)) else None)


def ended(found):
    return any("REPORT" in line or "platform.report" in line for line in found)


@feature("Logs", "what is written, as text")
def test_a_line_is_logged(server, bench, call, column):
    answer, found = logged(server, bench, call, column, ended)
    start, end = found.index(f"START RequestId: {answer.request_id} Version: $LATEST"), found.index(f"END RequestId: {answer.request_id}")
    assert "a plain line" in found[start:end]


@feature("Logs", "what is written, beside platform lines of JSON")
def test_a_line_is_logged_beside_json(server, bench, call, column):
    answer, found = logged(server, bench, call, column, ended, LogFormat="JSON")
    assert "a plain line" in found
    types = [json.loads(line).get("type") for line in found if line.startswith("{")]
    assert {"platform.initStart", "platform.start", "platform.report"} <= set(types)


@feature("Logs", "the logger, as text", why(NO_LOGGER, "by hand") | why(GO_LOGGER, "aws-lambda-go"))
def test_the_logger_writes_text(server, bench, call, column):
    answer, found = logged(server, bench, call, column, ended)
    said = [line for line in found if "by the logger" in line]
    assert len(said) == 1 and not said[0].startswith("{"), said
    if column.name in PYTHONS + NODES:
        assert answer.request_id in said[0] and "WARN" in said[0]


@feature("Logs", "the logger, as JSON", why(NO_LOGGER, "by hand") | why(GO_LOGGER, "aws-lambda-go"))
def test_the_logger_writes_json(server, bench, call, column):
    answer, found = logged(server, bench, call, column, ended, LogFormat="JSON")
    said = [json.loads(line) for line in found if "by the logger" in line]
    assert len(said) == 1, found
    assert said[0]["level"] in ("WARN", "WARNING"), said
    if column.name != "lambda_runtime":
        assert answer.request_id in (said[0].get("requestId"), said[0].get("AWSRequestId")), said


@feature("Logs", "levels", why(NO_LOGGER, "by hand") | why(GO_LOGGER, "aws-lambda-go"))
def test_levels_are_kept(server, bench, call, column):
    for level, expected in (("DEBUG", True), ("ERROR", False)):
        answer, found = logged(server, bench, call, column, ended, LogFormat="JSON", ApplicationLogLevel=level)
        assert any("chatty" in line for line in found) == any("by the logger" in line for line in found) == expected, found


@feature("Extensions", "beside it, from a layer")
def test_an_extension_is_told_of_calls(server, bench, call, column):
    name = bench.make(column, layers=[bench.layer({"extensions/watch": WATCH})])
    asked = [call(name, {"do": "echo"}).request_id for _ in range(2)]

    def told():
        found = [json.loads(line.removeprefix("watch ")) for line in lines(server, name) if line.startswith("watch {")]
        return [event["requestId"] for event in found if event["eventType"] == "INVOKE"] == asked

    eventually("both calls", told)


# Last: what the others saw.
def test_the_document_says_what_was_seen():
    worked = TABLE.seen | (runtimes.worked_before() if len(TABLE.seen) < TABLE.count() else set())
    text = runtimes.document(worked)
    if UPDATE:
        runtimes.DOCUMENT.write_text(text)
    assert runtimes.DOCUMENT.read_text() == text, "run it with HEARTH_UPDATE_DOCS=1"
    assert "?" not in text.split("## Why")[0], "a cell was not seen to work"
