"""Records that runtimes write to a pipe of their own (`_LAMBDA_TELEMETRY_LOG_FD`)."""

import json

import pytest

from hearth import eventually
from packages import python

# Something that is no frame, a length that is a lie, a level that there is not.
HOSTILE = """
kind = (event['kind']).to_bytes(4, 'big')
os.write(62, kind + event['length'].to_bytes(4, 'big') + bytes(8) + event['text'].encode())
return os.environ.get('_LAMBDA_TELEMETRY_LOG_FD')
"""


@pytest.fixture
def records(server):
    """Messages of a function's log."""

    def records(name):
        status, _, body = server.lambda_request("GET", f"/_hearth/v1/functions/{name}/logs")
        assert status == 200, body
        return [json.loads(line)["message"] for line in body.decode().splitlines()]

    return records


def test_many_lines_are_one_record_before_the_report(make, call, records):
    files = python("logging.warning('one\\ntwo\\n\\nfour')\nprint('a\\nb')", before="import logging")
    name = make(files)
    answer = call(name, {}, LogType="Tail")
    assert f"\t{answer.request_id}\tone\ntwo\n\nfour\n" in answer.tail
    said = eventually("the log", lambda: any(line.startswith("REPORT") for line in records(name)) and records(name))
    record = next(line for line in said if line.startswith("[WARNING]"))
    assert record.endswith("\tone\ntwo\n\nfour")
    assert "a" in said and "b" in said, "what is printed is lines"
    assert said.index(record) < next(at for at, line in enumerate(said) if line.startswith("END"))


def test_node_writes_records_of_many_lines_and_errors(make, call, records):
    code = "exports.handler = async () => { console.error('one\\ntwo'); throw new RangeError('far'); };"
    name = make({"index.js": code}, Runtime="nodejs20.x", MemorySize=256)
    answer = call(name, {}, LogType="Tail")
    said = eventually("the log", lambda: any(line.startswith("REPORT") for line in records(name)) and records(name))
    assert any(line.endswith(f"\t{answer.request_id}\tERROR\tone\ntwo") for line in said), said
    assert any("Invoke Error" in line and "RangeError: far" in line for line in said), said


def test_levels_of_records_are_those_of_their_frames(make, call):
    code = python("log(3, 'text of info')\nlog(5, 'text of error')\nlog(0, 'text without')", before=(
        "import os, time\ndef log(level, text):\n"
        "    kind = 0xa55a0003 | level << 2\n"
        "    os.write(62, (kind << 96 | len(text) << 64 | time.time_ns() // 1000).to_bytes(16, 'big') + text.encode())\n"))
    name = make(code, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "ERROR"})
    tail = call(name, {}, LogType="Tail").tail
    assert "text of error\n" in tail and "text of info" not in tail and "text without" not in tail


@pytest.mark.parametrize(
    "kind, length, text",
    [
        (0x41414141, 5, "hello\n"),
        (0xA55A0003, 0xFFFFFFFF, "all that there is"),
        (0xA55A001F, 3, "abc\n"),
        (0xA55A0003, 3, "abcdef\n"),
    ],
)
def test_hostile_records_harm_nobody(make, call, kind, length, text):
    name = make(python(HOSTILE, before="import os"))
    for _ in range(3):
        assert call(name, {"kind": kind, "length": length, "text": text}).bytes == b"null"
    other = make(python("return 1"))
    assert call(other).payload == 1


def test_a_flood_of_records_is_bounded(make, call):
    text = "x" * 1000
    name = make(python(f"for n in range(5000): logging.error('{text}')\nreturn n", before="import logging"), Timeout=60)
    answer = call(name, {}, LogType="Tail")
    assert answer.payload == 4999
    assert answer.tail.splitlines()[-1].startswith("REPORT")


def test_a_long_record_is_cut_at_256_kilobytes(make, call, records):
    name = make(python("logging.error('x' * 600_000)", before="import logging"))
    call(name)
    said = eventually("the log", lambda: any(line.startswith("REPORT") for line in records(name)) and records(name))
    lengths = [len(line) for line in said if set(line[-9:]) == {"x"}]
    assert lengths[:2] == [256 * 1024] * 2 and sum(lengths) > 600_000
