"""Running functions: what goes in, what comes out, and what is said about it."""

import base64
import json
import os
import pathlib
import re
import uuid

import pytest

from conftest import Functions, caller, make_client
from hearth import eventually, scope
from packages import HEALTHY, python
from expect import refused
from test_functions import ARN

REPORT = re.compile(
    r"^REPORT RequestId: (?P<id>[0-9a-f-]{36})\tDuration: (?P<duration>\d+\.\d\d) ms\tBilled Duration: (?P<billed>\d+) ms"
    r"\tMemory Size: (?P<size>\d+) MB\tMax Memory Used: (?P<used>\d+) MB\t(?P<rest>.*)$",
    re.MULTILINE,
)


def test_an_answer_says_what_ran(make, call):
    name = make(python("return {'event': event, 'id': context.aws_request_id, 'arn': context.invoked_function_arn}"))
    answer = call(name, {"a": ["\u00e9", 1.5, None]})
    assert (answer.status, answer.error, answer.version) == (200, None, "$LATEST")
    assert answer.payload == {"event": {"a": ["\u00e9", 1.5, None]}, "id": answer.request_id, "arn": ARN + name}
    assert answer.headers["content-type"] == "application/json"
    qualified = call(name, {}, Qualifier="$LATEST")
    assert qualified.payload["arn"] == f"{ARN}{name}:$LATEST"


def test_nothing_is_null_and_no_payload_is_an_empty_object(client, make, call):
    name = make(python("return None if event else 'empty'"))
    assert call(name, {"some": 1}).bytes == b"null"
    assert json.loads(client.invoke(FunctionName=name)["Payload"].read()) == "empty"


NODE = {
    "a module of CommonJS": ({"index.js": "exports.handler = async (event) => ({ got: event });"}, "index.handler"),
    "an ES module": ({"index.mjs": "export const handler = async (event) => ({ got: event });"}, "index.handler"),
    "a package of ES modules": (
        {"package.json": '{"type": "module"}', "index.js": "export const handler = async (e) => ({ got: e });"},
        "index.handler",
    ),
    "a callback": (
        {"index.js": "exports.handler = (event, context, done) => setTimeout(() => done(null, { got: event }), 5);"},
        "index.handler",
    ),
    "a promise": ({"index.js": "exports.handler = (event) => Promise.resolve({ got: event });"}, "index.handler"),
    "a nested path": ({"src/lib/app.js": "exports.api = { get: async (event) => ({ got: event }) };"}, "src/lib/app.api.get"),
}


@pytest.mark.parametrize("form", NODE)
def test_node_runs(make, call, form):
    files, handler = NODE[form]
    answer = call(make(files, Runtime="nodejs20.x", Handler=handler, MemorySize=256), {"n": 1})
    assert (answer.error, answer.payload) == (None, {"got": {"n": 1}})


SHELL = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    event=$(curl -sS -D /tmp/headers "$api/next")
    id=$(sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *//p' /tmp/headers | tr -d '\\r')
    echo "shell got $event"
    curl -sS -o /dev/null -d "{\\"shell\\":$event,\\"handler\\":\\"$_HANDLER\\"}" "$api/$id/response"
done
"""


@pytest.mark.parametrize("runtime", ["provided.al2023", "provided.al2"])
def test_a_shell_script_is_a_runtime(make, call, runtime):
    name = make({"bootstrap": SHELL}, Runtime=runtime, Handler="what.ever")
    for n in range(3):
        answer = call(name, {"n": n}, LogType="Tail")
        assert (answer.error, answer.payload) == (None, {"shell": {"n": n}, "handler": "what.ever"})
        assert f'shell got {{"n": {n}}}\n' in answer.tail


def test_a_program_in_rust_is_a_runtime(make, call):
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST"]).read_bytes()
    name = make({"bootstrap": program}, Runtime="provided.al2023", Handler="bootstrap")
    answer = call(name, {"n": 1}, LogType="Tail")
    expected = {"event": {"n": 1}, "requestId": answer.request_id, "arn": ARN + name, "function": name, "memory": 128}
    assert (answer.error, answer.payload) == (None, expected)
    assert "handled by rust\n" in answer.tail
    failed = call(name, {"fail": True})
    assert (failed.error, failed.payload["errorMessage"]) == ("Unhandled", "asked to fail")


def test_a_bootstrap_that_is_missing_is_named(make, call):
    answer = call(make({"other": "x"}, Runtime="provided.al2023"))
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Runtime.InvalidEntrypoint")
    assert "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]" in answer.payload["errorMessage"]


def test_the_client_context_arrives(make, call):
    name = make(python("c = context.client_context\nreturn [c.client.app_title, c.custom, c.env]"))
    context = {"client": {"app_title": "fire"}, "custom": {"a": "1"}, "env": {"b": "2"}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    assert call(name, {}, ClientContext=encoded).payload == ["fire", {"a": "1"}, {"b": "2"}]


def test_the_tail_holds_the_lines_of_this_invocation(make, call):
    name = make(python("print('hello', event)\nreturn 1", before="print('at init')"), MemorySize=192)
    first, second = call(name, 1, LogType="Tail"), call(name, 2, LogType="Tail")
    for answer, event in ((first, 1), (second, 2)):
        lines = answer.tail.splitlines()
        start = lines.index(f"START RequestId: {answer.request_id} Version: $LATEST")
        assert lines[start + 1 : start + 3] == [f"hello {event}", f"END RequestId: {answer.request_id}"]
        report = REPORT.search(answer.tail)
        assert (report["id"], report["size"]) == (answer.request_id, "192")
        assert 1 <= int(report["used"]) <= 192
        assert answer.tail.endswith("\t\n")
    cold, warm = REPORT.search(first.tail), REPORT.search(second.tail)
    init = float(re.fullmatch(r"Init Duration: (\d+\.\d\d) ms\t", cold["rest"])[1])
    assert abs(int(cold["billed"]) - (float(cold["duration"]) + init)) <= 1.02
    assert warm["rest"] == ""
    assert 0 <= int(warm["billed"]) - float(warm["duration"]) < 1.01
    assert call(name, 3).tail == ""


def test_the_tail_is_the_last_4096_bytes(make, call):
    name = make(python("for n in range(1000):\n    print(f'line {n:05}')"))
    tail = call(name, LogType="Tail").tail
    assert len(tail) == 4096
    assert "line 00999\nEND RequestId: " in tail and "START" not in tail


def test_the_report_comes_after_a_megabyte_of_output(server, make, call):
    name = make(python("import os\nfor n in range(16384):\n    os.write(1, b'%063d\\n' % n)\nreturn 'done'"))
    answer = call(name, LogType="Tail")
    assert answer.payload == "done"
    lines = answer.tail.splitlines()
    assert lines[-3].endswith("016383") and lines[-2].startswith("END ") and lines[-1].startswith("REPORT ")
    path = f"/_hearth/v1/functions/{name}/logs?request={answer.request_id}"
    logged = [json.loads(line)["message"] for line in server.request("GET", path)[2].splitlines()]
    assert [line for line in logged if line.isdigit()] == [f"{n:063}" for n in range(16384)]
    assert logged[-1].startswith("REPORT ")


def test_a_dry_run_runs_nothing(client, make, call):
    name = make(python("print('ran')"))
    answer = call(name, {}, InvocationType="DryRun")
    assert (answer.status, answer.bytes) == (204, b"")
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}missing:$LATEST"):
        client.invoke(FunctionName="missing", InvocationType="DryRun")


def test_a_python_exception_is_a_function_error(make, call):
    name = make(python("raise ValueError('no good')"))
    for _ in range(2):
        answer = call(name, LogType="Tail")
        assert (answer.status, answer.error) == (200, "Unhandled")
        payload = answer.payload
        assert list(payload) == ["errorMessage", "errorType", "requestId", "stackTrace"]
        assert (payload["errorMessage"], payload["errorType"]) == ("no good", "ValueError")
        assert payload["requestId"] == answer.request_id
        assert 'File "/var/task/index.py", line 3, in handler' in payload["stackTrace"][-1]
        assert "[ERROR] ValueError: no good" in answer.tail and "Traceback (most recent call last):" in answer.tail


def test_a_node_error_is_a_function_error(make, call):
    source = "exports.handler = async () => { throw new TypeError('no good'); };"
    answer = call(make({"index.js": source}, Runtime="nodejs20.x"), LogType="Tail")
    assert (answer.status, answer.error) == (200, "Unhandled")
    payload = answer.payload
    assert list(payload) == ["errorType", "errorMessage", "trace"]
    assert (payload["errorType"], payload["errorMessage"]) == ("TypeError", "no good")
    assert payload["trace"][0] == "TypeError: no good" and "/var/task/index.js" in payload["trace"][1]


def test_a_timeout_ends_the_environment_and_the_next_call_has_another(make, call):
    name = make(
        python("count.append(1)\nif event: time.sleep(60)\nreturn len(count)", before="import time\ncount = []"), Timeout=1
    )
    assert [call(name, None).payload, call(name, None).payload] == [1, 2]
    answer = call(name, "sleep", LogType="Tail")
    assert (answer.status, answer.error) == (200, "Unhandled")
    expected = f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    assert answer.payload == {"errorType": "Sandbox.Timedout", "errorMessage": expected}
    assert list(answer.payload) == ["errorType", "errorMessage"]
    stamp = rf"^\d{{4}}-\d\d-\d\dT[\d:.]+Z {answer.request_id} Task timed out after 1\.00 seconds\n\n"
    assert re.search(stamp, answer.tail, re.MULTILINE)
    assert REPORT.search(answer.tail)["rest"] == "Status: timeout\t"
    assert call(name, None).payload == 1


EXIT, OUT_OF_MEMORY = "Runtime.ExitError", "Runtime.OutOfMemory"  # the latter in the report alone


@pytest.mark.parametrize(
    "body, message, reported",
    [
        ("import os; os._exit(0)", "Runtime exited without providing a reason", EXIT),
        ("import os; os._exit(7)", "Runtime exited with error: exit status 7", EXIT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Runtime exited with error: signal: killed", EXIT),
        ("x = bytearray(400 << 20)\nreturn len(x)", "Runtime exited with error: signal: killed", OUT_OF_MEMORY),
    ],
)
def test_a_process_that_ends_is_a_function_error(make, call, body, message, reported):
    name = make(python("if event == 'end':\n" + "\n".join("    " + line for line in body.splitlines()) + "\nreturn 'well'"))
    for _ in range(2):
        assert call(name).payload == "well"
        answer = call(name, "end", LogType="Tail")
        expected = f"RequestId: {answer.request_id} Error: {message}"
        assert (answer.error, answer.payload) == (
            "Unhandled",
            {"errorType": EXIT, "errorMessage": expected},
        )
        assert f"RequestId: {answer.request_id} Error: {message}\n{EXIT}\n" in answer.tail
        assert REPORT.search(answer.tail)["rest"].endswith(f"Status: error\tError Type: {reported}\t")


def test_an_init_that_takes_too_long_is_tried_again_inside_the_invocation(server, make, call):
    body = "import time\nprint('begins')\ntime.sleep(10.5)\ndef handler(event, context): return event"
    name = make({"index.py": body}, Timeout=60)
    answer = call(name, 1, LogType="Tail")
    assert (answer.error, answer.payload) == (None, 1)
    report = REPORT.search(answer.tail)
    assert float(report["duration"]) > 10_500 and "Init Duration" not in report["rest"]
    log = server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2]
    lines = [json.loads(line)["message"] for line in log.splitlines()]
    assert [lines[0].split()[0], *lines[1:4]] == [
        "INIT_START",
        "begins",
        "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout",
        "begins",
    ]
    assert call(name, 2).payload == 2


INIT_ERRORS = {
    "a module that is missing": ({"other.py": ""}, "index.handler", "Runtime.ImportModuleError", "Unable to import module 'index': No module named 'index'"),
    "a handler that is missing": (HEALTHY, "index.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'index'"),
    "a handler that is not one": (HEALTHY, "index", "Runtime.MalformedHandlerName", "Bad handler 'index': not enough values to unpack (expected 2, got 1)"),
    "a syntax error": ({"index.py": "def handler(:"}, "index.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'index'"),
    "an exception": ({"index.py": "raise RuntimeError('at init')"}, "index.handler", "RuntimeError", "at init"),
}


@pytest.mark.parametrize("case", INIT_ERRORS)
def test_an_init_that_fails_is_told_to_the_caller_every_time(make, call, case):
    files, handler, kind, message = INIT_ERRORS[case]
    name = make(files, Handler=handler)
    for _ in range(2):
        answer = call(name, LogType="Tail")
        assert (answer.status, answer.error, answer.payload["errorType"]) == (200, "Unhandled", kind)
        assert message in answer.payload["errorMessage"]


def test_an_init_that_fails_once_is_tried_again_inside_the_invocation(make, call):
    source = """
import pathlib
mark = pathlib.Path('/tmp/tried')
if not mark.exists():
    mark.touch()
    raise RuntimeError('the first time')
"""
    answer = call(make(python("return 'second'", before=source)), LogType="Tail")
    assert (answer.error, answer.payload) == (None, "second")
    assert "Init Duration" not in REPORT.search(answer.tail)["rest"]


def test_a_node_module_that_is_missing_is_named(make, call):
    name = make({"index.js": "require('nowhere');"}, Runtime="nodejs20.x")
    answer = call(name)
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
    assert "Cannot find module 'nowhere'" in answer.payload["errorMessage"]


def test_a_result_that_cannot_be_json_is_a_function_error(make, call):
    answer = call(make(python("return {1, 2}")))
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Runtime.MarshalError")
    assert answer.payload["errorMessage"].startswith("Unable to marshal response: ")


def test_answers_have_a_largest_size(make, call):
    name = make(python("return 'x' * event"), MemorySize=512)
    assert len(call(name, 6291556 - 2).bytes) == 6291556
    answer = call(name, 6291556 - 1)
    assert answer.error == "Unhandled"
    assert answer.payload == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    assert call(name, 3).payload == "xxx"


def test_payloads_have_a_largest_size(client, make, call):
    name = make(python("return len(event)"), MemorySize=512)
    assert call(name, b'"' + b"x" * (6291456 - 2) + b'"').payload == 6291454
    message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    with refused("RequestEntityTooLargeException", 413, message):
        client.invoke(FunctionName=name, Payload=b'"' + b"x" * (6291456 - 1) + b'"')
    assert call(name, "abc").payload == 3


JSON_VALUES = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"


@pytest.mark.parametrize("payload", [b"{", b"nonsense", b'{"a": 1} {"b": 2}', b'{"a": NaN}', b"'a'", b'"\xff"'])
def test_a_payload_that_is_not_json_is_refused(client, make, call, payload):
    name = make(HEALTHY)
    expected = re.compile(r"^Could not parse request body into json: Could not parse payload into json: ")
    with refused("InvalidRequestContentException", 400, expected):
        client.invoke(FunctionName=name, Payload=payload)
    assert call(name, 1).payload == {"healthy": 1}


@pytest.mark.parametrize(
    "payload, fault, column",
    [
        (b"nope", f"Unrecognized token 'nope': was expecting {JSON_VALUES}", 5),
        (b"{'a': 1}", "Unexpected character (''' (code 39)): was expecting double-quote to start field name", 3),
        (b'{"a" 1}', "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value", 7),
        (b'{"a":', "Unexpected end-of-input within/between Object entries", 6),
    ],
)
def test_what_is_wrong_with_a_payload_is_said_in_the_services_words(client, make, payload, fault, column):
    place = f"[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: {column}]"
    expected = f"Could not parse request body into json: Could not parse payload into json: {fault}\n at {place}"
    with refused("InvalidRequestContentException", 400, expected):
        client.invoke(FunctionName=make(HEALTHY), Payload=payload)


def test_a_qualifier_of_nothing_is_not_found(client, make):
    name = make(HEALTHY)
    for qualifier in ("1", "alias"):
        with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}{name}:{qualifier}"):
            client.invoke(FunctionName=name, Qualifier=qualifier)


def test_a_call_over_plain_http_has_awss_shape(server, make):
    name = make(HEALTHY)
    status, headers, body = server.lambda_request("POST", f"/2015-03-31/functions/{name}/invocations", b'{"a":1}')
    assert (status, json.loads(body)) == (200, {"healthy": {"a": 1}})
    assert headers["x-amz-executed-version"] == "$LATEST"
    assert headers["x-amzn-remapped-content-length"] == "0"
    assert uuid.UUID(headers["x-amzn-requestid"])
    assert "x-amz-function-error" not in headers and "x-amz-log-result" not in headers


def test_a_custom_log_group_is_written_to(server, make, call):
    name = make(python("print('into mine')\nreturn context.log_group_name"), LoggingConfig={"LogGroup": "/mine/own"})
    assert call(name).payload == "/mine/own"
    path = f"/_hearth/v1/functions/{name}/logs"
    eventually("the line", lambda: b"into mine" in server.request("GET", path)[2])


def test_a_program_that_crashes_at_init_uses_up_the_functions_time(make, call, server):
    """Recorded: init is tried again and again, and the caller hears of the time alone."""
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    name = make({"index.py": crash}, Timeout=4, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "DEBUG"})
    for _ in range(2):
        answer = call(name)
        message = f"RequestId: {answer.request_id} Error: Task timed out after 4.00 seconds"
        assert (answer.error, answer.payload) == ("Unhandled", {"errorType": "Sandbox.Timedout", "errorMessage": message})

    def records():
        found = server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode().splitlines()
        events = [json.loads(json.loads(line)["message"]) for line in found if "platform." in line]
        return events if sum(event["type"] == "platform.report" for event in events) == 2 else None

    events = eventually("both reports", records)
    within = [event for event in events if event["record"].get("phase") == "invoke" and event["type"] == "platform.initReport"]
    # The last one may be cut off by the function's time.
    failed = [event["record"]["errorType"] for event in within if event["record"]["status"] == "error"]
    assert len(failed) >= 2 and set(failed) == {"Runtime.ExitError"}
    for kind in ("platform.runtimeDone", "platform.report"):
        ended = [event["record"] for event in events if event["type"] == kind]
        assert [(record["status"], "errorType" in record) for record in ended] == [("timeout", False)] * 2


def test_other_regions_run_functions_too(server):
    client = make_client(server, region="eu-central-1")
    functions = Functions(client)
    name = functions.make(python("import os\nreturn [os.environ['AWS_REGION'], context.invoked_function_arn]"))
    expected = ["eu-central-1", f"arn:aws:lambda:eu-central-1:000000000000:function:{name}"]
    assert caller(client)(name).payload == expected
    # The log names the version of the runtime as the configuration does.
    arn = client.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]["RuntimeVersionArn"]
    assert arn.startswith("arn:aws:lambda:eu-central-1::runtime:")
    headers = scope("lambda", region="eu-central-1")
    lines = server.request("GET", f"/_hearth/v1/functions/{name}/logs", headers=headers)[2].decode().splitlines()
    first = json.loads(lines[0])["message"]
    assert re.fullmatch(rf"INIT_START Runtime Version: python:3\.11\.\d+\tRuntime Version ARN: {arn}", first), first
    functions.delete()
