"""Whatever comes in, it is refused as AWS does, and Hearth serves the next call."""

import base64
import io
import json
import re
import socket
import uuid
import zipfile

import pytest

from conftest import ROLE, make_client
from hearth import scope
from packages import HEALTHY, python, zipped
from expect import refused

CREATE = "/2015-03-31/functions"


@pytest.fixture
def healthy(make):
    return make(HEALTHY)


@pytest.fixture(autouse=True)
def serves_the_next_call(server, healthy):
    yield
    status, _, body = server.lambda_request("POST", f"{CREATE}/{healthy}/invocations", b'"next"')
    assert (status, json.loads(body)) == (200, {"healthy": "next"})
    assert server.alive()


def whole(**changes):
    package = base64.b64encode(zipped(HEALTHY)).decode()
    settings = {
        "FunctionName": f"f-{uuid.uuid4().hex[:12]}",
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": package},
    }
    return settings | changes


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"FunctionName": }'])
def test_malformed_json(server, body):
    status, headers, answer = server.lambda_request("POST", CREATE, body)
    assert status == 400, answer
    assert headers["x-amzn-errortype"] in ("SerializationException", "ValidationException", "InvalidRequestContentException")


@pytest.mark.parametrize(
    "changes",
    [
        {"Timeout": "three"},
        {"Timeout": 1.5},
        {"FunctionName": 7},
        {"Code": []},
        {"Environment": {"Variables": {"KEY": 1}}},
        {"Architectures": "x86_64"},
        {"Publish": "yes"},
        {"Code": {"ZipFile": "%%% not base64 %%%"}},
    ],
)
def test_wrong_types(server, changes):
    status, headers, answer = server.lambda_request("POST", CREATE, whole(**changes))
    assert status == 400, answer
    assert headers["x-amzn-errortype"] in ("SerializationException", "ValidationException"), answer


# Each constraint of the model once, with AWS's text.
CONSTRAINTS = {
    "required": ({"Role": None}, "Value null at 'role' failed to satisfy constraint: Member must not be null"),
    "pattern": (
        {"Role": "me"},
        r"Value 'me' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    ),
    "longest": (
        {"Description": "x" * 257},
        f"Value '{'x' * 257}' at 'description' failed to satisfy constraint: Member must have length less than or equal to 256",
    ),
    "least": ({"Timeout": 0}, "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"),
    "a nested one": (
        {"EphemeralStorage": {"Size": 1}},
        "Value '1' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512",
    ),
}


@pytest.mark.parametrize("case", CONSTRAINTS)
def test_constraints_of_the_model(server, case):
    changes, text = CONSTRAINTS[case]
    settings = {name: value for name, value in whole(**changes).items() if value is not None}
    status, headers, answer = server.lambda_request("POST", CREATE, settings)
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException"), answer
    answer = json.loads(answer)
    assert answer.get("message", answer.get("Message")) == f"1 validation error detected: {text}"


def test_enumerations_of_the_model(server):
    settings = whole(TracingConfig={"Mode": "Sometimes"})
    status, _, answer = server.lambda_request("POST", CREATE, settings)
    said = json.loads(answer)["message"]
    expected = r"1 validation error detected: Value 'Sometimes' at 'tracingConfig\.mode' failed to satisfy constraint: Member must satisfy enum value set: \[(Active, PassThrough|PassThrough, Active)\]"
    assert status == 400 and re.fullmatch(expected, said), said


def test_several_faults_are_told_together(server):
    settings = whole(Timeout=0, MemorySize=1, Role="me")
    status, headers, answer = server.lambda_request("POST", CREATE, settings)
    said = json.loads(answer)["message"]
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert said.startswith("3 validation errors detected: ") and said.count("; ") == 2
    for path in ("role", "timeout", "memorySize"):
        assert f"at '{path}' failed to satisfy constraint: " in said


def test_a_body_over_seventy_megabytes(server):
    settings = whole(Code={"ZipFile": "A" * 70_167_211})
    status, headers, answer = server.lambda_request("POST", CREATE, settings, timeout=60)
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    assert b"Request must be smaller than 70167211 bytes for the CreateFunction operation" in answer


def test_a_package_over_fifty_megabytes(client):
    with refused("RequestEntityTooLargeException", 413, "Zipped size must be smaller than 52428800 bytes"):
        client.create_function(**whole(Code={"ZipFile": b"x" * 52428801}))


def test_a_body_that_is_promised_and_does_not_come(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    assert server.status("/_hearth/health") == 200


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"X" * 100_000, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"])
def test_noise_instead_of_http(server, noise):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        try:
            # It may be refused before all of it is sent.
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError as error:
            # Reset, and then no longer connected: whichever of the calls meets it.
            assert not isinstance(error, TimeoutError)
    assert server.status("/_hearth/health") == 200


def lying():
    """A zip whose entry says that it is small, and is a gigabyte."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("big", "w", force_zip64=True) as entry:
            for _ in range(300):
                entry.write(bytes(1 << 20))
    return out.getvalue()


UNZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
PACKAGES = {
    "not a zip": (b"this is not a zip", UNZIP),
    "nothing": (b"", None),
    "half a zip": (zipped(HEALTHY)[:-20], UNZIP),
    "too much inside": (lying(), "Unzipped size must be smaller than 262144000 bytes"),
    "out of its folder": (zipped({"../outside": "x"}), None),
    "an absolute path": (zipped({"/etc/passwd": "x"}), None),
}


@pytest.mark.parametrize("case", PACKAGES)
def test_packages_that_are_none(client, case):
    package, message = PACKAGES[case]
    settings = whole(Code={"ZipFile": package})
    code = "InvalidParameterValueException"
    with refused(code, 400, message):
        client.create_function(**settings)
    with refused("ResourceNotFoundException", 404):
        client.get_function(FunctionName=settings["FunctionName"])


def test_an_empty_zip(client):
    with refused("InvalidParameterValueException", 400):
        client.create_function(**whole(Code={"ZipFile": zipped({})}))


def test_a_zip_function_without_handler_or_runtime(server):
    for missing in ("Handler", "Runtime"):
        settings = whole()
        del settings[missing]
        status, headers, answer = server.lambda_request("POST", CREATE, settings)
        assert (status, headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException"), answer


@pytest.mark.parametrize(
    "method, path, operation",
    [
        ("GET", "/2025-11-30/capacity-providers", "ListCapacityProviders"),
    ],
)
def test_operations_that_are_not_there(server, method, path, operation):
    status, headers, answer = server.lambda_request(method, path, b"{}" if method == "POST" else None)
    assert (status, headers["x-amzn-errortype"]) == (501, "NotImplementedException"), answer
    assert f"Hearth does not support lambda:{operation}.".encode() in answer


def test_services_that_are_not_there(server):
    status, _, answer = server.request("POST", "/", b"{}", scope("dynamodb") | {"X-Amz-Target": "DynamoDB_20120810.ListTables"})
    assert status == 501 and b"dynamodb" in answer


@pytest.mark.parametrize(
    "service, operation, named",
    [
        ("dynamodb", "list_tables", "dynamodb:ListTables"),
        ("logs", "describe_deliveries", "logs:DescribeDeliveries"),
        ("sns", "list_topics", "sns:ListTopics"),
        ("route53", "list_hosted_zones", "route53"),
    ],
)
def test_services_that_are_not_there_are_refused_so_that_their_clients_read_it(server, service, operation, named):
    with refused("NotImplementedException", 501, f"Hearth does not support {named}."):
        getattr(make_client(server, service), operation)()


def test_paths_that_lead_nowhere(server):
    for path in ("/", "/2015-03-31", "/2015-03-31/functions/a/b/c/d", "/%00", "/2015-03-31/functions/%2e%2e%2f", "/" + "x" * 9000):
        status, _, _ = server.lambda_request("GET", path)
        assert 400 <= status < 500, path


def test_payloads_over_the_limit(server, healthy):
    path = f"{CREATE}/{healthy}/invocations"
    status, headers, answer = server.lambda_request("POST", path, b'"' + b"x" * 6291456 + b'"')
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    assert json.loads(answer)["Message"] == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


def test_a_client_context_that_is_none(server, healthy):
    path = f"{CREATE}/{healthy}/invocations"
    for context in ("%%%", base64.b64encode(b"not json").decode(), base64.b64encode(b'"' + b"x" * 4000 + b'"').decode()):
        status, _, answer = server.lambda_request("POST", path, b"1", {"X-Amz-Client-Context": context})
        assert status == 400, answer


# What hostile code does with its Runtime API. `raw` is one plain request on a connection of its own.
RAW = """
import os, socket, sys, time
def raw(text, read=True):
    host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(text.encode())
        return connection.recv(65536).decode() if read else None
def post(path, body, length=None, read=True):
    length = len(body) if length is None else length
    return raw(f'POST /2018-06-01/runtime/{path} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {length}\\r\\n\\r\\n{body}', read)
"""


def test_a_function_that_never_answers(make, call):
    name = make(python("if event: time.sleep(100)\nreturn 'well'", before=RAW), Timeout=1)
    answer = call(name, 1)
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert call(name, 0).payload == "well"


def test_a_function_that_answers_twice(make, call):
    body = "said = post(f'invocation/{context.aws_request_id}/response', '\"first\"')\nprint(said.split()[1])\nreturn 'second'"
    name = make(python(body, before=RAW))
    for _ in range(3):
        answer = call(name, LogType="Tail")
        assert (answer.error, answer.payload) == (None, "first")


def test_a_function_that_answers_for_another(make, call):
    body = """
said = [post('invocation/00000000-0000-0000-0000-000000000000/response', '1')]
said.append(post('invocation/nonsense/error', '{}'))
said.append(raw('GET /nowhere HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'))
said.append(raw('DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'))
return [int(text.split()[1]) for text in said]
"""
    name = make(python(body, before=RAW))
    assert call(name).payload == [400, 400, 404, 405]
    assert call(name).payload == [400, 400, 404, 405]


def test_a_function_that_closes_its_socket(make, call):
    body = """
if event:
    for name in os.listdir('/proc/self/fd'):
        try:
            if os.readlink(f'/proc/self/fd/{name}').startswith('socket:'):
                os.close(int(name))
        except OSError:
            pass
return 'well'
"""
    name = make(python(body, before=RAW), Timeout=2)
    assert call(name, 0).payload == "well"
    answer = call(name, 1)
    assert answer.status == 200 and (answer.error == "Unhandled" or answer.payload == "well")
    assert call(name, 0).payload == "well"


def test_a_function_that_ends_its_answer_early(make, call):
    body = "post(f'invocation/{context.aws_request_id}/response', 'half', 1000, False)\ntime.sleep(0.2)\nreturn 'well'"
    answer = call(make(python(body, before=RAW), Timeout=5))
    assert answer.status == 200
    assert (answer.error, answer.payload.get("errorType") if answer.error else answer.payload) in (
        ("Unhandled", "Runtime.TruncatedResponse"),
        (None, "well"),
    )


def test_a_function_that_sends_noise_to_its_runtime_api(make, call):
    body = """
for noise in ('\\x00' * 1000, 'GET / HTTP/9.9\\r\\n\\r\\n', 'X' * 100000, 'POST / HTTP/1.1\\r\\nContent-Length: -1\\r\\n\\r\\n'):
    try:
        raw(noise)
    except OSError:
        pass
held = [socket.create_connection(('127.0.0.1', 9001), timeout=5) for _ in range(100)]
return len(held)
"""
    name = make(python(body, before=RAW))
    assert [call(name).payload, call(name).payload] == [100, 100]


def test_a_function_that_floods_its_log(server, make, call):
    body = "line = b'x' * 1023 + b'\\n'\nfor _ in range(32 * 1024):\n    os.write(1, line)\nreturn 'well'"
    name = make(python(body, before=RAW), MemorySize=1769, Timeout=60)
    answer = call(name, LogType="Tail")
    assert answer.payload == "well"
    assert len(answer.tail) == 4096 and "REPORT RequestId: " in answer.tail


def test_a_function_that_writes_without_newline(server, make, call):
    name = make(python("os.write(1, b'no end')\nos.write(2, b'\\xff\\x00 nor here')\nreturn 'well'", before=RAW))
    answer = call(name, LogType="Tail")
    # Both descriptors are one stream, so the texts may be one line; the report begins a line of its own all the same.
    assert answer.payload == "well" and "no end" in answer.tail and " nor here\nEND RequestId: " in answer.tail
    long = make(python("os.write(1, b'y' * 600000)\nreturn 'well'", before=RAW))
    found = call(long)
    path = f"/_hearth/v1/functions/{long}/logs?request={found.request_id}"
    logged = [json.loads(line)["message"] for line in server.request("GET", path)[2].splitlines()]
    assert [len(line) for line in logged if line.startswith("y")] == [262144, 262144, 600000 - 524288]
