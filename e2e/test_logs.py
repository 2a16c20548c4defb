"""CloudWatch Logs: groups, streams, events, filters, and the logs of functions, through boto3 and the AWS CLI."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import uuid

import pytest
import requests

from conftest import Functions, caller, make_client
from expect import refused
from hearth import Server, environment, eventually
from packages import python

DAY = 86_400_000


def now():
    return int(time.time() * 1000)


@pytest.fixture
def logs(server):
    return make_client(server, "logs")


@pytest.fixture
def group(logs):
    name = f"/test/{uuid.uuid4().hex}"
    logs.create_log_group(logGroupName=name)
    yield name
    logs.delete_log_group(logGroupName=name)


@pytest.fixture
def put(logs, group):
    """Puts messages into a stream, which is made where it is not there."""
    streams = set()

    def put(*messages, stream="s", at=None, group=group):
        if (group, stream) not in streams:
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            streams.add((group, stream))
        first = at or now()
        events = [{"timestamp": first + i, "message": message} for i, message in enumerate(messages)]
        return logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

    return put


def messages(page):
    return [event["message"] for event in page["events"]]


def test_groups_are_made_described_and_deleted(logs):
    prefix = f"/test/{uuid.uuid4().hex}"
    names = [f"{prefix}/{i}" for i in range(5)]
    for name in names:
        logs.create_log_group(logGroupName=name, tags={"a": "b"})
    with refused("ResourceAlreadyExistsException", 400, "The specified log group already exists"):
        logs.create_log_group(logGroupName=names[0])
    pages = logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix=prefix, PaginationConfig={"PageSize": 2}
    )
    found = [group for page in pages for group in page["logGroups"]]
    assert [group["logGroupName"] for group in found] == names
    assert found[0]["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{names[0]}:*"
    assert found[0]["logGroupArn"] == found[0]["arn"][:-2]
    assert found[0]["logGroupClass"] == "STANDARD" and found[0]["storedBytes"] == 0
    assert abs(found[0]["creationTime"] - now()) < 60_000 and "retentionInDays" not in found[0]
    pattern = logs.describe_log_groups(logGroupNamePattern=names[3][6:])["logGroups"]
    assert [group["logGroupName"] for group in pattern] == [names[3]]
    listed = logs.list_log_groups(logGroupNamePattern=f"^{prefix[:20]}")["logGroups"]
    assert [group["logGroupName"] for group in listed] == names
    for name in names:
        logs.delete_log_group(logGroupName=name)
    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        logs.delete_log_group(logGroupName=names[0])


def test_retention_and_tags(logs, group):
    def described():
        return logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]

    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert described()["retentionInDays"] == 7
    with refused("InvalidParameterException", 400, re.compile("Value '8' at 'retentionInDays' failed to satisfy")):
        logs.put_retention_policy(logGroupName=group, retentionInDays=8)
    logs.delete_retention_policy(logGroupName=group)
    assert "retentionInDays" not in described()
    arn = described()["logGroupArn"]
    logs.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
    logs.untag_resource(resourceArn=arn, tagKeys=["a"])
    logs.tag_log_group(logGroupName=group, tags={"c": "3"})
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2", "c": "3"}
    assert logs.list_tags_log_group(logGroupName=group)["tags"] == {"b": "2", "c": "3"}
    with refused("TooManyTagsException", 400):
        logs.tag_resource(resourceArn=arn, tags={f"k{i}": "" for i in range(49)})


def test_a_protected_group_is_not_deleted(logs, group, put):
    put("kept")
    logs.put_log_group_deletion_protection(logGroupIdentifier=group, deletionProtectionEnabled=True)
    with refused("ValidationException", 400):
        logs.delete_log_group(logGroupName=group)
    with refused("ValidationException", 400):
        logs.delete_log_stream(logGroupName=group, logStreamName="s")
    logs.put_log_group_deletion_protection(logGroupIdentifier=group, deletionProtectionEnabled=False)


def test_streams_know_their_events(logs, group, put):
    begin = now()
    put("a", "b", stream="x/1", at=begin - 5000)
    put("c", stream="x/2", at=begin - 9000)
    logs.create_log_stream(logGroupName=group, logStreamName="empty")
    with refused("ResourceAlreadyExistsException", 400, "The specified log stream already exists"):
        logs.create_log_stream(logGroupName=group, logStreamName="empty")
    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        logs.create_log_stream(logGroupName=group + "x", logStreamName="empty")
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=group, orderBy="LastEventTime", descending=True, PaginationConfig={"PageSize": 1}
    )
    found = [stream for page in pages for stream in page["logStreams"]]
    assert [stream["logStreamName"] for stream in found] == ["empty", "x/1", "x/2"]
    assert (found[1]["firstEventTimestamp"], found[1]["lastEventTimestamp"]) == (begin - 5000, begin - 4999)
    assert found[1]["lastIngestionTime"] >= begin and "lastEventTimestamp" not in found[0]
    assert found[1]["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{group}:log-stream:x/1"
    prefixed = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="x/")["logStreams"]
    assert [stream["logStreamName"] for stream in prefixed] == ["x/1", "x/2"]
    with refused("InvalidParameterException", 400, "Cannot order by LastEventTime with a logStreamNamePrefix."):
        logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="x", orderBy="LastEventTime")
    logs.delete_log_stream(logGroupName=group, logStreamName="x/1")
    with refused("ResourceNotFoundException", 400, "The specified log stream does not exist."):
        logs.get_log_events(logGroupName=group, logStreamName="x/1")


def test_tokens_of_a_stream_lead_both_ways_and_stay_at_its_ends(logs, group, put):
    begin = now() - 60_000
    put(*map(str, range(10)), at=begin)
    stream = {"logGroupName": group, "logStreamName": "s"}
    head = logs.get_log_events(**stream, startFromHead=True, limit=4)
    assert messages(head) == ["0", "1", "2", "3"]
    second = logs.get_log_events(**stream, nextToken=head["nextForwardToken"], startFromHead=True, limit=4)
    assert messages(second) == ["4", "5", "6", "7"]
    back = logs.get_log_events(**stream, nextToken=second["nextBackwardToken"], startFromHead=True, limit=4)
    assert messages(back) == ["0", "1", "2", "3"]
    third = logs.get_log_events(**stream, nextToken=second["nextForwardToken"], startFromHead=True, limit=4)
    assert messages(third) == ["8", "9"]
    end = logs.get_log_events(**stream, nextToken=third["nextForwardToken"], startFromHead=True)
    assert messages(end) == [] and end["nextForwardToken"] == third["nextForwardToken"]
    put("10", at=begin + 10)
    more = logs.get_log_events(**stream, nextToken=end["nextForwardToken"], startFromHead=True)
    assert messages(more) == ["10"]
    start = logs.get_log_events(**stream, nextToken=head["nextBackwardToken"])
    assert messages(start) == [] and start["nextBackwardToken"] == head["nextBackwardToken"]
    latest = logs.get_log_events(**stream, limit=2)
    assert messages(latest) == ["9", "10"]
    ranged = logs.get_log_events(**stream, startTime=begin + 2, endTime=begin + 4, startFromHead=True)
    assert messages(ranged) == ["2", "3"]
    assert ranged["events"][0]["timestamp"] == begin + 2 and ranged["events"][0]["ingestionTime"] > begin
    with refused("InvalidParameterException", 400, "The specified nextToken is invalid."):
        logs.get_log_events(**stream, nextToken="x")


def test_events_of_all_streams_are_filtered_in_the_order_of_their_times(logs, group, put):
    begin = now() - 60_000
    for i in range(20):
        put(f"{'ERROR' if i % 3 == 0 else 'INFO'} {i}", stream=f"s{i % 4}", at=begin + 100 * (19 - i))
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, filterPattern="ERROR", PaginationConfig={"PageSize": 3}
    )
    found = [event for page in pages for event in page["events"]]
    assert [event["message"] for event in found] == [f"ERROR {i}" for i in range(18, -1, -3)]
    ids = [event["eventId"] for event in found]
    assert len(set(ids)) == 7 and ids == sorted(ids) and all(re.fullmatch("[0-9]{56}", id) for id in ids)
    newest = logs.filter_log_events(logGroupName=group, startTime=begin, startFromHead=False, limit=2)
    assert messages(newest) == ["ERROR 0", "INFO 1"]
    older = logs.filter_log_events(logGroupName=group, startTime=begin, nextToken=newest["nextToken"], limit=2)
    assert messages(older) == ["INFO 2", "ERROR 3"]
    until = logs.filter_log_events(logGroupName=group, startTime=begin + 100, endTime=begin + 200)
    assert messages(until) == ["ERROR 18", "INFO 17"], "the end is part of the range"
    one = logs.filter_log_events(logGroupName=group, logStreamNames=["s0"], filterPattern="ERROR")
    assert messages(one) == ["ERROR 12", "ERROR 0"]
    two = logs.filter_log_events(logGroupName=group, logStreamNames=["s0", "s1"])
    assert len(two["events"]) == 10
    assert len(logs.filter_log_events(logGroupName=group, logStreamNamePrefix="s")["events"]) == 20
    with refused("ResourceNotFoundException", 400):
        logs.filter_log_events(logGroupName=group, logStreamNames=["missing"])
    with refused("InvalidParameterException", 400, re.compile("^Invalid filter pattern")):
        logs.filter_log_events(logGroupName=group, filterPattern="a@b")


def test_patterns_of_json_and_of_words(logs, group, put):
    put('{"level": "ERROR", "size": 12}', '{"level": "INFO", "size": 3}', "10.0.0.1 GET /index.html 404 77")

    def found(pattern):
        return len(logs.filter_log_events(logGroupName=group, filterPattern=pattern)["events"])

    assert found('{ $.level = "ERROR" && $.size > 10 }') == 1
    assert found("{ $.size < 100 }") == 2
    assert found("[ip, method, path = *.html, status = 4*, bytes > 70]") == 1
    assert found("%ERR|404%") == 2
    tested = logs.test_metric_filter(
        filterPattern="[ip, method, path, status = 4*, bytes]", logEventMessages=["no", "1.1.1.1 GET / 404 5"]
    )
    assert tested["matches"] == [
        {
            "eventNumber": 2,
            "eventMessage": "1.1.1.1 GET / 404 5",
            "extractedValues": {"$ip": "1.1.1.1", "$method": "GET", "$path": "/", "$status": "404", "$bytes": "5"},
        }
    ]


def series(server, namespace):
    """Count and sum of each series of a namespace, by its other labels."""
    found = {}
    for line in requests.get(f"{server.url}/_hearth/metrics", timeout=30).text.splitlines():
        named = re.fullmatch(r"hearth_log_metric_(sum|count)\{(.*)\} (\S+)", line)
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', named[2])) if named else {}
        if labels.pop("namespace", None) == namespace:
            assert (labels.pop("account"), labels.pop("region")) == ("000000000000", "us-east-1")
            found.setdefault(tuple(sorted(labels.items())), {})[named[1]] = float(named[3])
    return {labels: (each["count"], each["sum"]) for labels, each in found.items()}


@pytest.fixture
def namespace():
    return f"n-{uuid.uuid4().hex}"


@pytest.fixture
def measure(logs, group, namespace):
    """Puts a metric filter."""

    def measure(name, pattern, value="1", **more):
        transformation = {"metricNamespace": namespace, "metricName": "m", "metricValue": value} | more
        logs.put_metric_filter(
            logGroupName=group, filterName=name, filterPattern=pattern, metricTransformations=[transformation]
        )

    return measure


def test_metric_filters_are_kept_described_and_deleted(logs, group, measure, namespace):
    pattern = "{ $.ms = * }"
    measure("b", pattern, "$.ms", unit="Milliseconds", dimensions={"Path": "$.path"})
    measure("a", "ERROR", "2.5", defaultValue=0, metricName="errors")
    one, other = logs.describe_metric_filters(logGroupName=group)["metricFilters"]
    assert (one["filterName"], one["filterPattern"], one["logGroupName"]) == ("a", "ERROR", group)
    assert one["metricTransformations"] == [
        {"metricName": "errors", "metricNamespace": namespace, "metricValue": "2.5", "defaultValue": 0}
    ]
    assert other["metricTransformations"] == [
        {"metricName": "m", "metricNamespace": namespace, "metricValue": "$.ms", "unit": "Milliseconds", "dimensions": {"Path": "$.path"}}
    ]
    assert abs(other["creationTime"] - now()) < 60_000
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["metricFilterCount"] == 2

    def names(**asked):
        pages = logs.get_paginator("describe_metric_filters").paginate(**asked, PaginationConfig={"PageSize": 1})
        return [found["filterName"] for page in pages for found in page["metricFilters"]]

    assert names(logGroupName=group) == ["a", "b"] and names(logGroupName=group, filterNamePrefix="b") == ["b"]
    assert names(metricName="errors", metricNamespace=namespace) == ["a"]
    measure("b", pattern, "3")
    assert logs.describe_metric_filters(logGroupName=group, filterNamePrefix="b")["metricFilters"][0]["metricTransformations"] == [
        {"metricName": "m", "metricNamespace": namespace, "metricValue": "3"}
    ]
    logs.delete_metric_filter(logGroupName=group, filterName="a")
    assert names(logGroupName=group) == ["b"]
    with refused("ResourceNotFoundException", 400, "The specified metric filter does not exist."):
        logs.delete_metric_filter(logGroupName=group, filterName="a")
    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        logs.describe_metric_filters(logGroupName=group + "x")
    with refused("InvalidParameterException", 400):
        names(metricName="errors")
    for refusal, arguments, more in (
        (
            "Invalid metric transformation: dimensions and default value are mutually exclusive properties",
            ("c", pattern),
            {"dimensions": {"Path": "$.path"}, "defaultValue": 0},
        ),
        ("The specified filter pattern does not support dimensions", ("c", "ERROR"), {"dimensions": {"Path": "$.path"}}),
        (re.compile("^Invalid metric transformation: metric value must be"), ("c", "ERROR", "$.ms"), {}),
        (re.compile("^Invalid character"), ("c", "a@b"), {}),
        (re.compile("unit"), ("c", "ERROR"), {"unit": "Parsecs"}),
    ):
        with refused("InvalidParameterException", 400, refusal):
            measure(*arguments, **more)
    for i in range(99):
        measure(f"c{i}", "ERROR")
    with refused("LimitExceededException", 400, "Resource limit exceeded."):
        measure("one too many", "ERROR")


def test_metric_filters_count_and_take_values_from_events(server, logs, group, put, measure, namespace):
    put("ERROR before")
    measure("words", "ERROR", metricName="errors")
    measure("json", "{ $.ms = * }", "$.ms", metricName="ms", unit="Milliseconds", dimensions={"Path": "$.path", "Code": "$.code"})
    measure("space", "[ip, method, status = 4*, bytes]", "$bytes", metricName="bytes")
    put("ERROR one", "fine", "ERROR two", '{"ms": 1.5, "path": "/a", "code": 200}', '{"ms": 2, "path": "/a", "code": 200}')
    put('{"ms": 4, "path": "/\\"b", "code": 500}', '{"ms": "no number", "path": "/a", "code": 200}', '{"ms": 9, "path": "/a"}')
    put("10.0.0.1 GET 404 77", "10.0.0.1 GET 200 50", "10.0.0.1 GET 400 3")
    path = (("dimension_code", "200"), ("dimension_path", "/a"), ("metric", "ms"), ("unit", "Milliseconds"))
    other = (("dimension_code", "500"), ("dimension_path", '/\\"b'), ("metric", "ms"), ("unit", "Milliseconds"))
    expected = {(("metric", "errors"),): (2, 2), path: (2, 3.5), other: (1, 4), (("metric", "bytes"),): (2, 80)}
    eventually("every value", lambda: series(server, namespace) == expected)
    logs.delete_metric_filter(logGroupName=group, filterName="words")
    put("ERROR three", "10.0.0.1 GET 404 1")
    expected[("metric", "bytes"),] = (3, 81)
    eventually("one filter goes on", lambda: series(server, namespace) == expected)


def test_metric_filters_count_what_functions_log(server, logs, make, call, namespace):
    name = make(python("print('said', event)"))
    group = f"/aws/lambda/{name}"
    logs.create_log_group(logGroupName=group)
    transformation = {"metricNamespace": namespace, "metricName": "m", "metricValue": "$billed"}
    pattern = '[report = REPORT, label, id, d, duration, ms, b, bd, billed, ...]'
    logs.put_metric_filter(logGroupName=group, filterName="f", filterPattern=pattern, metricTransformations=[transformation])
    for i in range(3):
        call(name, i)
    counted = eventually("three reports", lambda: (found := series(server, namespace)) and [*found.values()][0][0] == 3 and found)
    assert [*counted.values()][0][1] >= 3


def test_events_too_old_too_new_and_out_of_order(logs, group, put):
    put("first")
    at = now()

    def send(*times):
        events = [{"timestamp": time, "message": str(i)} for i, time in enumerate(times)]
        return logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)

    assert "rejectedLogEventsInfo" not in send(at - 60_000)
    assert send(at, at + 3 * 3_600_000)["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}
    assert send(at - 15 * DAY)["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    logs.put_retention_policy(logGroupName=group, retentionInDays=3)
    assert send(at - 4 * DAY, at - 3 * DAY - 1)["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 2}
    with refused("InvalidParameterException", 400, re.compile("must be in chronological order")):
        send(at, at - 1)
    with refused("InvalidParameterException", 400, re.compile("cannot span more than 24 hours")):
        send(at - 2 * DAY, at)
    with refused("ResourceNotFoundException", 400, "The specified log stream does not exist."):
        logs.put_log_events(logGroupName=group, logStreamName="t", logEvents=[{"timestamp": at, "message": "x"}])
    assert len(logs.get_log_events(logGroupName=group, logStreamName="s")["events"]) == 3


def test_functions_write_into_the_groups_of_aws(logs, make, call):
    name = make(python("print('said', event)"))
    for i in range(3):
        call(name, i)
    group = f"/aws/lambda/{name}"

    def said():
        return [event for event in logs.filter_log_events(logGroupName=group, filterPattern="said")["events"]]

    eventually("the lines", lambda: len(said()) == 3)
    events = said()
    assert [event["message"] for event in events] == ["said 0", "said 1", "said 2"]
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", events[0]["logStreamName"])
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [events[0]["logStreamName"]]
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["storedBytes"] > 0
    lines = messages(logs.get_log_events(logGroupName=group, logStreamName=events[0]["logStreamName"], startFromHead=True))
    assert lines[0].startswith("INIT_START") and lines[1].startswith("START RequestId: ")
    assert [line.split(" ")[0] for line in lines[2:5]] == ["said", "END", "REPORT"]


def test_functions_write_json_into_a_group_of_their_own(logs, make, call, group):
    name = make(python("print('said')"), LoggingConfig={"LogFormat": "JSON", "LogGroup": group})
    call(name)
    pattern = '{ $.type = "platform.report" && $.record.metrics.durationMs >= 0 }'
    found = eventually("a report", lambda: logs.filter_log_events(logGroupName=group, filterPattern=pattern)["events"])
    assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{name}\[\$LATEST\][0-9a-f]{{32}}", found[0]["logStreamName"])
    assert json.loads(found[0]["message"])["record"]["status"] == "success"


def test_logs_of_another_account_and_region_are_others(server, group):
    for others in (make_client(server, "logs", account="100000000999"), make_client(server, "logs", region="eu-west-1")):
        assert others.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []
        with refused("ResourceNotFoundException", 400):
            others.filter_log_events(logGroupName=group)


def test_what_is_not_built_refuses_by_name(logs):
    with refused("NotImplementedException", 501, "Hearth does not support logs:DescribeDeliveries."):
        logs.describe_deliveries()


def aws(server, *arguments):
    """The AWS CLI."""
    program = pathlib.Path(sys.executable).with_name("aws")
    return subprocess.Popen(
        [sys.executable, program, "--endpoint-url", server.url, "--region", "us-east-1", "logs", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test"),
    )


def test_the_aws_cli_filters(server, group, put):
    put("said before", "said after")
    filtered = aws(server, "filter-log-events", "--log-group-name", group, "--filter-pattern", "after")
    out, _ = filtered.communicate(timeout=60)
    assert [event["message"] for event in json.loads(out)["events"]] == ["said after"]


def test_a_log_is_followed_as_aws_logs_tail_does(logs, make, call):
    """Asks again from the last time on, and knows by their ids what was seen already."""
    name = make(python("print('said', event)"))
    seen, begin = {}, now() - 60_000

    def poll():
        nonlocal begin
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{name}", interleaved=True, startTime=begin, filterPattern="said"
        )
        for page in pages:
            for event in page["events"]:
                seen[event["eventId"]] = event["message"]
                begin = max(begin, event["timestamp"])
        return list(seen.values())

    for i in range(5):
        call(name, i)
        eventually(f"line {i}", lambda: f"said {i}" in poll())
    assert poll() == [f"said {i}" for i in range(5)]


def rows(logs, query, group, **more):
    """What a query finds, as the SDK waits for it."""
    begin = now() // 1000
    started = logs.start_query(
        logGroupName=group, startTime=begin - 3600, endTime=begin + 10, queryString=query, **more
    )["queryId"]

    def complete():
        answer = logs.get_query_results(queryId=started)
        return answer if answer["status"] not in ("Scheduled", "Running") else None

    answer = eventually("the query's end", complete)
    assert answer["status"] == "Complete", answer
    return [{field["field"]: field["value"] for field in row} for row in answer["results"]], answer, started


def test_queries_find_count_and_sort(logs, group, put):
    put(*(json.dumps({"level": "ERROR" if i % 4 == 0 else "INFO", "ms": i}) for i in range(40)), stream="a")
    put("plain text", stream="b")
    found, answer, started = rows(logs, "stats count(*) as n, avg(ms) as mean by level | sort n desc", group)
    assert found == [
        {"level": "INFO", "n": "30", "mean": "20"},
        {"level": "ERROR", "n": "10", "mean": "18"},
        {"n": "1"},
    ]
    assert answer["statistics"]["recordsScanned"] == 41 and answer["statistics"]["recordsMatched"] == 41
    found, _, _ = rows(logs, "fields @timestamp, @message, ms | filter ms > 35 and level = 'INFO' | limit 2", group)
    assert [row["ms"] for row in found] == ["39", "38"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", found[0]["@timestamp"])
    record = logs.get_log_record(logRecordPointer=found[0]["@ptr"])["logRecord"]
    assert record["ms"] == "39" and record["@message"] == found[0]["@message"] and record["@logStream"] == "a"
    parsed, _, _ = rows(logs, 'filter @logStream = "b" | parse @message "* *" as first, rest | display first, rest', group)
    assert [(row["first"], row["rest"]) for row in parsed] == [("plain", "text")]
    described = logs.describe_queries(logGroupName=group, status="Complete")["queries"]
    assert started in [query["queryId"] for query in described] and len(described) == 3
    many, answer, started = rows(logs, "fields ms", group, limit=5)
    assert len(many) == 5
    first = logs.get_query_results(queryId=started, maxItems=3)
    rest = logs.get_query_results(queryId=started, maxItems=3, nextToken=first["nextToken"])
    assert (len(first["results"]), len(rest["results"])) == (3, 2) and "nextToken" not in rest


def test_queries_that_are_none_say_where(logs, group):
    with pytest.raises(logs.exceptions.MalformedQueryException) as error:
        rows(logs, "fields @timestamp | count()", group)
    assert error.value.response["queryCompileError"]["location"] == {"startCharOffset": 20, "endCharOffset": 25}
    with refused("NotImplementedException", 501, "Hearth does not support the query command pattern."):
        rows(logs, "pattern @message", group)
    with refused("ResourceNotFoundException", 400):
        logs.get_query_results(queryId="missing")
    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        rows(logs, "fields a", group + "x")
    _, _, started = rows(logs, "fields a", group)
    with refused("InvalidParameterException", 400):
        logs.stop_query(queryId=started)


READER = """
import base64, gzip, json

def handler(event, context):
    data = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    for line in data["logEvents"]:
        print("read", data["logGroup"], data["subscriptionFilters"], line["message"])
"""


def read(logs, reader):
    """What a function was sent."""
    try:
        found = logs.filter_log_events(logGroupName=f"/aws/lambda/{reader}", filterPattern="read")["events"]
    except logs.exceptions.ResourceNotFoundException:
        found = []
    return [event["message"] for event in found]


def test_functions_are_sent_what_others_log(logs, client, make, call):
    writer, reader = make(python("print('said', event)")), make({"index.py": READER})
    call(writer, "before")
    group = f"/aws/lambda/{writer}"
    arn = client.get_function_configuration(FunctionName=reader)["FunctionArn"]
    eventually("the group", lambda: logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])
    with refused("InvalidParameterException", 400, re.compile("^Could not execute the lambda function.")):
        logs.put_subscription_filter(logGroupName=group, filterName="f", filterPattern="", destinationArn=arn + "x")
    logs.put_subscription_filter(logGroupName=group, filterName="f", filterPattern="said -no", destinationArn=arn)
    described = logs.describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
    assert [(one["filterName"], one["filterPattern"], one["destinationArn"]) for one in described] == [("f", "said -no", arn)]

    for event in ("no", "yes", "yes, too"):
        call(writer, event)
    expected = [f"read {group} ['f'] said {event}" for event in ("yes", "yes, too")]
    eventually("lines were sent on", lambda: sorted(read(logs, reader)) == expected)
    logs.delete_subscription_filter(logGroupName=group, filterName="f")
    with refused("ResourceNotFoundException", 400, "The specified subscription filter does not exist."):
        logs.delete_subscription_filter(logGroupName=group, filterName="f")


FAILING = READER + """
    import pathlib
    once = pathlib.Path("/tmp/once")
    if not once.exists():
        once.write_text("")
        raise RuntimeError("the first time")
"""


def test_what_is_sent_on_outlives_a_failing_function_and_a_killed_server(start):
    """A batch is an event of its function: on disk, and tried again as the function says."""
    server = start("--async-retry-base-delay", "2s")
    client, logs = make_client(server), make_client(server, "logs")
    reader = Functions(client).make({"index.py": FAILING})
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    arn = client.get_function_configuration(FunctionName=reader)["FunctionArn"]
    logs.put_subscription_filter(logGroupName="g", filterName="f", filterPattern="", destinationArn=arn)
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": now(), "message": "kept"}])

    def attempts():
        events = requests.get(f"{server.url}/_hearth/v1/events", timeout=30).json()["events"]
        assert len(events) <= 1 and all(event["functionArn"] == arn for event in events)
        return [attempt["outcome"] for event in events for attempt in event["attempts"]]

    eventually("it fails once", lambda: attempts() == ["failed"] and read(logs, reader))
    server.kill()
    server = start("--async-retry-base-delay", "2s")
    logs = make_client(server, "logs")
    # In a new environment it fails once more.
    eventually("the third attempt", lambda: read(logs, reader) == ["read g ['f'] kept"] * 3)


def test_what_is_gathered_is_sent_on_when_the_server_ends(start):
    server = start()
    client, logs = make_client(server), make_client(server, "logs")
    reader = Functions(client).make({"index.py": READER})
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    arn = client.get_function_configuration(FunctionName=reader)["FunctionArn"]
    logs.put_subscription_filter(logGroupName="g", filterName="f", filterPattern="", destinationArn=arn)
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": now(), "message": "last words"}])
    server.stop()
    logs = make_client(start(), "logs")
    eventually("it was read", lambda: read(logs, reader) == ["read g ['f'] last words"])


def test_the_command_line_searches(hearth, make, call):
    name = make(python("print('said', event)"))
    for i in range(3):
        call(name, i)

    def table():
        return hearth("logs", "query", "filter @message like /said/ | sort @timestamp asc | display @message", "--function", name).stdout

    found = eventually("three lines", lambda: (lines := table().split("\n")) and len(lines) >= 4 and lines)
    assert [line.strip() for line in found if line.strip()] == ["@message", "said 0", "said 1", "said 2"]
    document = json.loads(hearth("logs", "query", "stats count(*) as n by @type", "--function", name, "--json").stdout)
    assert {"@type": "REPORT", "n": "3"} in document["rows"]
    assert "unexpected symbol found" in hearth("logs", "query", "nonsense", "--function", name, status=1).stderr


def test_the_command_line_picks_lines(hearth, make, call):
    name = make(python("print('said', event); print('also', event)"))
    ids = [call(name, n).request_id for n in range(3)]
    lines = lambda *flags: [line.rstrip() for line in hearth("logs", name, *flags).stdout.splitlines()]
    assert lines("--grep", "said") == ["said 0", "said 1", "said 2"]
    assert lines("--request", ids[1], "--grep", "also") == ["also 1"]
    assert len(lines("--request", ids[1])) == 5, "START, two lines, END, REPORT"
    assert lines("--request", "nobody's") == [] and lines("--grep", "nothing of it") == []
    documents = [json.loads(line) for line in lines("--grep", "also", "--json")]
    assert [document["message"].rstrip() for document in documents] == ["also 0", "also 1", "also 2"]
    # From the second call on.
    times = {document["message"].rstrip(): document["time"] for document in documents}
    assert lines("--since", times["also 1"], "--grep", "also")[-2:] == ["also 1", "also 2"]
    assert lines("--since", "10m") == lines()
    assert "since" in hearth("logs", name, "--since", "yesterday", status=1).stderr


def test_a_query_that_runs_is_stopped(logs, group, put):
    """Many lines, a costly query: it is caught while it runs, sooner or later."""
    for _ in range(20):
        put(*[f"line {'x' * 200} {number}" for number in range(4000)])
    query = "parse @message /(?<a>x+x+)+y/ | stats count(*) by a, @message, @ptr | sort a"

    def stopped():
        started = logs.start_query(logGroupName=group, startTime=0, endTime=2**31, queryString=query)["queryId"]
        try:
            assert logs.stop_query(queryId=started)["success"]
        except logs.exceptions.InvalidParameterException:
            return None
        return started

    started = eventually("a query that still runs", stopped)
    answer = logs.get_query_results(queryId=started)
    assert answer["status"] == "Cancelled", answer["status"]


def test_what_was_put_outlives_being_killed(start):
    server = start()
    logs = make_client(server, "logs")
    logs.create_log_group(logGroupName="g", tags={"a": "b"})
    logs.put_retention_policy(logGroupName="g", retentionInDays=30)
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    for i in range(20):
        logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": now(), "message": str(i)}])
    server.kill()
    logs = make_client(start(), "logs")
    assert messages(logs.filter_log_events(logGroupName="g")) == list(map(str, range(20)))
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 30
    assert logs.list_tags_log_group(logGroupName="g")["tags"] == {"a": "b"}


def test_a_killed_server_loses_no_more_than_the_last_second(start):
    """What a function wrote a second before is there."""
    server = start()
    client, logs = make_client(server), make_client(server, "logs")
    functions = Functions(client)
    name = functions.make(python("print('said', event, flush=True)"))
    called = []
    begin = time.monotonic()
    while time.monotonic() - begin < 3:
        caller(client)(name, len(called))
        called.append(time.monotonic())
    ended = time.monotonic()
    server.kill()
    logs = make_client(start(), "logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}", filterPattern="said")
    found = {event["message"] for page in pages for event in page["events"]}
    missing = [i for i, at in enumerate(called) if at < ended - 1 and f"said {i}" not in found]
    assert not missing and len(found) > 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted as root")
def test_a_full_disk_loses_lines_and_says_so_and_functions_go_on(base, cache):
    data = base / f"data-{uuid.uuid4().hex[:8]}"
    (data / "logs").mkdir(parents=True)
    small = f'mount -t tmpfs -o size=24m,mode=0777 none {data}/logs; exec "$@"'
    server = Server(data, cache, before=["unshare", "--mount", "sh", "-c", small, "sh"]).start()
    try:
        client, logs = make_client(server), make_client(server, "logs")
        call = caller(client)
        name = Functions(client).make(python("print('said', event); print('x' * 100_000)"))
        filler = pathlib.Path(f"/proc/{server.process.pid}/root{data}/logs/filler")

        def dropped():
            text = requests.get(f"{server.url}/_hearth/metrics", timeout=30).text
            return [int(re.search(rf"^hearth_log_{what}_dropped_total (\d+)$", text, re.M)[1]) for what in ("events", "bytes")]

        def lost():
            # The function does not notice.
            assert call(name, "full").error is None
            return dropped()[0] > 0

        assert call(name, "before").error is None and dropped() == [0, 0]
        found = lambda: messages(logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="said"))
        eventually("it is written", found)
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        eventually("lines are lost", lost)
        filler.unlink()
        assert call(name, "after").error is None

        def told():
            found = messages(logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="?said ?logsDropped"))
            records = [json.loads(text)["record"] for text in found if "platform.logsDropped" in text]
            return "said before" in found and "said after" in found and sum(r["droppedRecords"] for r in records)

        # What is missing is told where it is missing, and counted alike.
        lines, size = eventually("what was lost is told", told), dropped()
        assert lines == size[0] and size[1] > 100_000
    finally:
        server.stop()


@pytest.fixture
def tail(server):
    """Starts a Live Tail session; answers its events, of which the first has been taken."""
    # The SDK would put `streaming-` before the host.
    client = make_client(server, "logs", inject_host_prefix=False)
    opened = []

    def tail(*groups, **settings):
        stream = client.start_live_tail(logGroupIdentifiers=list(groups), **settings)["responseStream"]
        opened.append(stream)
        events = iter(stream)
        start = next(events)["sessionStart"]
        assert start["logGroupIdentifiers"] == list(groups) and start["sessionId"] and start["requestId"]
        return events

    yield tail
    for stream in opened:
        stream.close()


def tailed(events, count):
    """The next results of a session, at least so many."""
    results = []
    while len(results) < count:
        update = next(events)["sessionUpdate"]
        assert update["sessionMetadata"] == {"sampled": False} and len(update["sessionResults"]) <= 500
        results += update["sessionResults"]
    return results


def test_live_tail_sees_events_as_they_come(tail, group, put):
    put("before")
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{group}"
    events = tail(arn)
    put("one", "two")
    first, second = tailed(events, 2)
    assert (first["message"], second["message"], first["logStreamName"]) == ("one", "two", "s")
    assert first["logGroupIdentifier"] == f"000000000000:{group}"
    assert abs(first["timestamp"] - now()) < 60_000 and abs(first["ingestionTime"] - now()) < 60_000
    # Silence is told, too.
    assert next(events)["sessionUpdate"]["sessionResults"] == []
    put(*map(str, range(1200)))
    assert [result["message"] for result in tailed(events, 1200)] == [str(i) for i in range(1200)]


def test_live_tail_sees_what_it_asked_for(tail, logs, group, put):
    by_pattern = tail(group, logEventFilterPattern="ERROR -noise")
    by_name = tail(group, logStreamNames=["a", "other"])
    by_prefix = tail(group, logStreamNamePrefixes=["b"])
    other = f"{group}/other"
    logs.create_log_group(logGroupName=other)
    both = tail(group, other)
    put("ERROR noise", "ERROR 1", stream="a")
    put("fine", stream="b/1")
    put("elsewhere", group=other)
    assert [result["message"] for result in tailed(by_pattern, 1)] == ["ERROR 1"]
    assert [result["message"] for result in tailed(by_name, 2)] == ["ERROR noise", "ERROR 1"]
    assert [result["message"] for result in tailed(by_prefix, 1)] == ["fine"]
    assert {result["message"] for result in tailed(both, 4)} == {"ERROR noise", "ERROR 1", "fine", "elsewhere"}
    logs.delete_log_group(logGroupName=other)


def test_live_tail_follows_a_function(tail, make, call, logs):
    name = make(python("print('seen live', event)"))
    call(name, 1)
    group = f"/aws/lambda/{name}"
    eventually("the group", lambda: logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])
    events = tail(group, logEventFilterPattern="live")
    call(name, 2)
    assert [result["message"] for result in tailed(events, 1)] == ["seen live 2"]


def test_live_tail_refuses_what_it_cannot_follow(tail, group):
    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        tail("/no/such/group")
    with refused("InvalidParameterException", 400):
        tail(group, logEventFilterPattern="{ $.a = ")
    with refused("InvalidParameterException", 400):
        tail(group, logStreamNames=["a"], logStreamNamePrefixes=["b"])
    with refused("InvalidParameterException", 400):
        tail(group, f"{group}/other", logStreamNames=["a"])
    with refused("InvalidParameterException", 400):
        tail(*[group] * 11)


def test_live_tail_ends_with_the_server(start):
    server = start()
    client = make_client(server, "logs", inject_host_prefix=False)
    client.create_log_group(logGroupName="/g")
    events = iter(client.start_live_tail(logGroupIdentifiers=["/g"])["responseStream"])
    assert "sessionStart" in next(events)
    server.stop()
    with pytest.raises(Exception):
        while True:
            assert next(events)["sessionUpdate"]["sessionResults"] == []
