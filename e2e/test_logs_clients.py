"""CloudWatch Logs through the AWS CLI (both versions) as people type it; the JavaScript SDK has its suite in `javascript`."""

import contextlib
import json
import pathlib
import subprocess
import sys
import threading
import time
import uuid

import pytest

from conftest import make_client
from hearth import environment, eventually
from packages import python

# The CLI's second version is Debian's: its first, beside this interpreter, has no `logs tail`.
SECOND = ["/usr/bin/aws"]
FIRST = [sys.executable, str(pathlib.Path(sys.executable).with_name("aws"))]


@contextlib.contextmanager
def running(server, *arguments, cli=SECOND, **variables):
    process = subprocess.Popen(
        [*cli, "logs", *arguments, "--endpoint-url", server.url, "--region", "us-east-1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        env=environment(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_PAGER="", PYTHONUNBUFFERED="1", **variables),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def aws(server):
    def aws(*arguments, cli=SECOND):
        with running(server, *arguments, cli=cli) as process:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0, out
            return json.loads(out) if out.strip() else None

    return aws


@pytest.fixture
def logs(server):
    return make_client(server, "logs")


@pytest.fixture
def group(aws):
    name = f"/cli/{uuid.uuid4().hex}"
    aws("create-log-group", "--log-group-name", name)
    aws("create-log-stream", "--log-group-name", name, "--log-stream-name", "s")
    yield name
    aws("delete-log-group", "--log-group-name", name)


def put(logs, group, *messages):
    at = int(time.time() * 1000)
    events = [{"timestamp": at, "message": message} for message in messages]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)


def test_tail_follows_a_function(server, make, call, logs):
    name = make(python("print('said', event)"))
    call(name, 0)
    eventually("the group", lambda: logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"])
    arguments = ["tail", f"/aws/lambda/{name}", "--follow", "--since", "5m", "--filter-pattern", "said", "--format", "short"]
    with running(server, *arguments) as process:
        for i in range(1, 4):
            # It prints what was there, and then what comes.
            assert process.stdout.readline().rstrip().endswith(f"said {i - 1}")
            call(name, i)


@pytest.mark.parametrize("cli", [FIRST, SECOND], ids=["first", "second"])
def test_events_are_put_filtered_and_got(aws, group, cli):
    at = int(time.time() * 1000)
    events = json.dumps([{"timestamp": at + i, "message": f"said {i}"} for i in range(25)])
    aws("put-log-events", "--log-group-name", group, "--log-stream-name", "s", "--log-events", events, cli=cli)
    found = aws("filter-log-events", "--log-group-name", group, "--filter-pattern", "?3 ?4", "--page-size", "2", cli=cli)
    expected = ["said 3", "said 4", "said 13", "said 14", "said 23", "said 24"]
    assert [event["message"] for event in found["events"]] == expected
    got = aws("get-log-events", "--log-group-name", group, "--log-stream-name", "s", "--limit", "2", cli=cli)
    assert [event["message"] for event in got["events"]] == ["said 23", "said 24"] and got["nextForwardToken"]
    streams = aws("describe-log-streams", "--log-group-name", group, cli=cli)["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["s"]


def test_settings_of_a_group(aws, group):
    aws("put-retention-policy", "--log-group-name", group, "--retention-in-days", "7")
    aws("put-metric-filter", "--log-group-name", group, "--filter-name", "f", "--filter-pattern", "ERROR",
        "--metric-transformations", "metricName=errors,metricNamespace=cli,metricValue=1,defaultValue=0")  # fmt: skip
    found = aws("describe-log-groups", "--log-group-name-prefix", group)["logGroups"][0]
    assert (found["retentionInDays"], found["metricFilterCount"]) == (7, 1)
    filters = aws("describe-metric-filters", "--log-group-name", group)["metricFilters"]
    assert filters[0]["metricTransformations"][0]["metricNamespace"] == "cli"
    aws("delete-metric-filter", "--log-group-name", group, "--filter-name", "f")
    aws("tag-log-group", "--log-group-name", group, "--tags", "a=b")
    assert aws("list-tags-log-group", "--log-group-name", group)["tags"] == {"a": "b"}


def test_deletion_protection(aws, group):
    protection = ["put-log-group-deletion-protection", "--log-group-identifier", group]
    # The second version that Debian has is older than this operation.
    aws(*protection, "--deletion-protection-enabled", cli=FIRST)
    with pytest.raises(AssertionError, match="ValidationException"):
        aws("delete-log-group", "--log-group-name", group)
    aws(*protection, "--no-deletion-protection-enabled", cli=FIRST)


@pytest.mark.parametrize("cli", [FIRST, SECOND], ids=["first", "second"])
def test_queries(aws, logs, group, cli):
    put(logs, group, *(json.dumps({"ms": i, "level": "ERROR" if i % 4 == 0 else "INFO"}) for i in range(20)))
    begin = int(time.time())
    started = aws(
        "start-query", "--log-group-name", group, "--start-time", str(begin - 3600), "--end-time", str(begin + 60),
        "--query-string", "stats count(*) as n, max(ms) as most by level | sort n", cli=cli,
    )["queryId"]  # fmt: skip

    def complete():
        answer = aws("get-query-results", "--query-id", started, cli=cli)
        return answer if answer["status"] == "Complete" else None

    rows = [{field["field"]: field["value"] for field in row} for row in eventually("its end", complete)["results"]]
    assert rows == [{"level": "ERROR", "n": "5", "most": "16"}, {"level": "INFO", "n": "15", "most": "19"}]
    described = aws("describe-queries", "--log-group-name", group, cli=cli)["queries"]
    assert [query["queryId"] for query in described] == [started]


def test_live_tail(server, logs, group):
    """Of the first version. The host stays as it is: it would get `streaming-` before it, which no resolver knows."""
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{group}"
    arguments = ["start-live-tail", "--log-group-identifiers", arn, "--log-event-filter-pattern", "said"]
    with running(server, *arguments, cli=FIRST, AWS_DISABLE_HOST_PREFIX_INJECTION="true") as process:
        heard = threading.Event()

        def listen():
            if "said live" in process.stdout.readline():
                heard.set()

        threading.Thread(target=listen, daemon=True).start()
        # There is no telling when its session has begun.
        eventually("a line", lambda: put(logs, group, "noise", "said live") or heard.wait(0.2))
