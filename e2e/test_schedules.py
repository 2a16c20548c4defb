"""EventBridge Scheduler: operations, firing at functions and queues, retries and dead letters, and a server that was away,
through boto3 and the AWS CLI."""

import datetime
import json
import re
import subprocess
import sys
import time
import uuid

import pytest

import expect
from conftest import ROLE, Functions, make_client
from hearth import BINARY, environment, eventually
from packages import python

OFF = {"Mode": "OFF"}
LATER = "at(2099-01-01T00:00:00)"


def invalid(message):
    return expect.refused("ValidationException", 400, message)


def at(seconds, zone=datetime.UTC):
    """An expression of a moment from now."""
    moment = datetime.datetime.now(zone) + datetime.timedelta(seconds=seconds)
    return f"at({moment:%Y-%m-%dT%H:%M:%S})"


class Account:
    """An account of its own, with what schedules need of it."""

    def __init__(self, server, number, functions):
        self.number, self.functions = number, functions
        self.scheduler = make_client(server, "scheduler", account=number, parameter_validation=False)
        self.sqs = make_client(server, "sqs", account=number)
        self.role = f"arn:aws:iam::{number}:role/scheduler"

    def queue(self, suffix="", **attributes):
        name = f"q-{uuid.uuid4().hex[:12]}{suffix}"
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return f"arn:aws:sqs:us-east-1:{self.number}:{name}", url

    def make(self, arn, expression=LATER, name=None, target=None, **more):
        name = name or f"s-{uuid.uuid4().hex[:12]}"
        target = {"Arn": arn, "RoleArn": self.role} | (target or {})
        asked = {"Name": name, "ScheduleExpression": expression, "Target": target, "FlexibleTimeWindow": OFF} | more
        self.scheduler.create_schedule(**asked)
        return name

    def received(self, url, count=1, patience=None):
        """What comes to a queue, once there is so much of it."""
        found = []

        def enough():
            asked = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}
            names = {"MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]}
            found.extend(self.sqs.receive_message(**asked, **names).get("Messages", []))
            return len(found) >= count

        eventually(f"{count} messages", enough, patience)
        assert len(found) == count, found
        return found

    def is_empty(self, url):
        return "Messages" not in self.sqs.receive_message(QueueUrl=url)

    def hearing(self, body="return event", **settings):
        """A function, and a queue that hears of what it was run with."""
        arn, url = self.queue()
        name = self.functions.make(python(body), **settings)
        destination = {"OnSuccess": {"Destination": arn}}
        self.functions.client.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destination)
        return f"arn:aws:lambda:us-east-1:{self.number}:function:{name}", url


@pytest.fixture
def own_account(server, own):
    return Account(server, own.account, own)


def heard(message):
    return json.loads(message["Body"])["requestPayload"]


def is_gone(scheduler, name, **group):
    try:
        return not scheduler.get_schedule(Name=name, **group)
    except scheduler.exceptions.ResourceNotFoundException as error:
        assert error.response["Error"]["Message"] == f"Schedule {name} does not exist."
        return True


def test_a_schedule_is_made_shown_updated_and_deleted(own_account):
    scheduler, number = own_account.scheduler, own_account.number
    queue, _ = own_account.queue()
    target = {"Arn": queue, "RoleArn": own_account.role}
    made = scheduler.create_schedule(
        Name="one", ScheduleExpression="cron(0 10 * * ? *)", Target=target, FlexibleTimeWindow=OFF
    )
    arn = f"arn:aws:scheduler:us-east-1:{number}:schedule/default/one"
    assert made["ScheduleArn"] == arn
    found = scheduler.get_schedule(Name="one")
    assert found.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    assert abs(found.pop("CreationDate").timestamp() - time.time()) < 60
    assert abs(found.pop("LastModificationDate").timestamp() - time.time()) < 60
    assert found == {
        "Arn": arn,
        "GroupName": "default",
        "Name": "one",
        "ScheduleExpression": "cron(0 10 * * ? *)",
        "ScheduleExpressionTimezone": "UTC",
        "State": "ENABLED",
        "ActionAfterCompletion": "NONE",
        "FlexibleTimeWindow": OFF,
        "Target": target | {"RetryPolicy": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}},
    }
    start, end = (datetime.datetime(2098, month, 1, tzinfo=datetime.UTC) for month in (1, 2))
    dead, _ = own_account.queue()
    whole = {
        "Description": "all of it",
        "ScheduleExpression": "rate(5 minutes)",
        "ScheduleExpressionTimezone": "Europe/Berlin",
        "StartDate": start,
        "EndDate": end,
        "State": "DISABLED",
        "KmsKeyArn": f"arn:aws:kms:us-east-1:{number}:key/k",
        "ActionAfterCompletion": "DELETE",
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
        "Target": target
        | {
            "Input": "any text",
            "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0},
            "DeadLetterConfig": {"Arn": dead},
        },
    }
    assert scheduler.update_schedule(Name="one", **whole)["ScheduleArn"] == arn
    found = scheduler.get_schedule(Name="one")
    assert {name: found[name] for name in whole} == whole
    # What an update does not say is as for one that is made.
    scheduler.update_schedule(Name="one", ScheduleExpression=LATER, Target=target, FlexibleTimeWindow=OFF)
    found = scheduler.get_schedule(Name="one")
    assert found["State"] == "ENABLED" and "Description" not in found and "Input" not in found["Target"]
    scheduler.delete_schedule(Name="one")
    assert is_gone(scheduler, "one")
    with expect.refused("ResourceNotFoundException", 404, "Schedule one does not exist."):
        scheduler.delete_schedule(Name="one")
    with expect.refused("ResourceNotFoundException", 404, "Schedule one does not exist."):
        scheduler.update_schedule(Name="one", **whole)


def test_a_request_that_is_made_again_is_known_by_its_token(own_account):
    scheduler = own_account.scheduler
    queue, _ = own_account.queue()
    own_account.make(queue, name="one", ClientToken="a")
    own_account.make(queue, name="one", ClientToken="a")
    with expect.refused("ConflictException", 409, "Schedule one already exists."):
        own_account.make(queue, name="one", ClientToken="b")
    with expect.refused("ConflictException", 409, "Schedule one already exists."):
        own_account.make(queue, expression="rate(9 days)", name="one", ClientToken="a")
    scheduler.delete_schedule(Name="one", ClientToken="c")
    scheduler.delete_schedule(Name="one", ClientToken="c")
    with expect.refused("ResourceNotFoundException", 404):
        scheduler.delete_schedule(Name="one", ClientToken="d")


def test_a_late_retry_of_a_creation_does_not_fire_again(own_account):
    queue, url = own_account.queue()
    asked = {"expression": "at(2020-01-01T00:00:00)", "name": "once", "ActionAfterCompletion": "DELETE"}
    own_account.make(queue, ClientToken="a", **asked)
    own_account.received(url)
    eventually("the end of the schedule", lambda: is_gone(own_account.scheduler, "once"))
    own_account.make(queue, ClientToken="a", **asked)
    assert is_gone(own_account.scheduler, "once")
    # What comes is of the other request alone.
    own_account.make(queue, ClientToken="b", **asked)
    own_account.received(url)
    eventually("the end of the schedule", lambda: is_gone(own_account.scheduler, "once"))
    assert own_account.is_empty(url)


def test_what_never_occurs_goes_when_its_end_is_over(own_account):
    queue, _ = own_account.queue()
    end = {"EndDate": datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)}
    never = "cron(0 0 1 1 ? 2190)"
    goes = own_account.make(queue, never, ActionAfterCompletion="DELETE", **end)
    stays = own_account.make(queue, never, **end)
    eventually("the end of the schedule", lambda: is_gone(own_account.scheduler, goes))
    assert own_account.scheduler.get_schedule(Name=stays)["Name"] == stays


def test_what_cannot_be_is_refused_in_words(own_account):
    queue, _ = own_account.queue()
    function = f"arn:aws:lambda:us-east-1:{own_account.number}:function:f"
    for expression in ("rate(30 seconds)", "cron(*/30 * * * * ? *)", "at(2026-09-08T03:54:26.439)", "cron(0 3 * * *)", "x"):
        with invalid(f"Invalid Schedule Expression {expression}."):
            own_account.make(queue, expression)
    with invalid("Invalid Schedule Expression Timezone Mars/Olympus."):
        own_account.make(queue, ScheduleExpressionTimezone="Mars/Olympus")
    now = datetime.datetime.now(datetime.UTC)
    minutes = datetime.timedelta(minutes=1)
    own_account.make(queue, "rate(9 days)", StartDate=now - 4 * minutes)
    with invalid("The StartDate you specify cannot be earlier than 5 minutes ago."):
        own_account.make(queue, "rate(9 days)", StartDate=now - 6 * minutes)
    with invalid(re.compile("EndDate")):
        own_account.make(queue, "rate(9 days)", EndDate=now - minutes)
    with invalid(re.compile("StartDate.*EndDate")):
        own_account.make(queue, "rate(9 days)", StartDate=now + 2 * minutes, EndDate=now + minutes)
    for window in ({"Mode": "FLEXIBLE"}, {"Mode": "OFF", "MaximumWindowInMinutes": 5}):
        with invalid(re.compile("MaximumWindowInMinutes")):
            own_account.make(queue, FlexibleTimeWindow=window)
    with invalid(
        "1 validation error detected: Value '1441' at 'flexibleTimeWindow.maximumWindowInMinutes' failed to satisfy "
        "constraint: Member must have value less than or equal to 1440"
    ):
        own_account.make(queue, FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 1441})
    for policy in ({"MaximumEventAgeInSeconds": 59}, {"MaximumEventAgeInSeconds": 86401}, {"MaximumRetryAttempts": 186}):
        with invalid(re.compile("target.retryPolicy.maximum")):
            own_account.make(queue, target={"RetryPolicy": policy})
    with invalid(re.compile("MessageGroupId is required")):
        own_account.make(queue + ".fifo")
    with invalid(re.compile("MessageGroupId")):
        own_account.make(queue, target={"SqsParameters": {"MessageGroupId": "g"}})
    with invalid(re.compile("well-formed JSON")):
        own_account.make(function, target={"Input": "{"})
    own_account.make(queue, target={"Input": "x" * 262144})
    with invalid(re.compile("262144 bytes")):
        own_account.make(queue, target={"Input": "x" * 262145})
    with expect.refused("AccessDeniedException", 403, "Cross-account pass role is not allowed."):
        own_account.make(queue, target={"RoleArn": ROLE})
    with invalid("Provided Arn is not in correct format: f"):
        own_account.make("f")
    with invalid(re.compile("at 'target.deadLetterConfig.arn'")):
        own_account.make(queue, target={"DeadLetterConfig": {"Arn": queue + ".fifo"}})
    with invalid(re.compile("Value 'a/b' at 'name'")):
        own_account.make(queue, name="a/b")
    with expect.refused("ResourceNotFoundException", 404, "Schedule group none does not exist."):
        own_account.make(queue, GroupName="none")
    for other in ("arn:aws:scheduler:::aws-sdk:sns:publish", "arn:aws:sns:us-east-1:000000000000:t"):
        with expect.refused("NotImplementedException", 501, f"Hearth does not support scheduler:CreateSchedule with the target {other}."):
            own_account.make(other)
    with expect.refused("NotImplementedException", 501, re.compile("KinesisParameters")):
        own_account.make(queue, target={"KinesisParameters": {"PartitionKey": "k"}})


def test_schedules_are_listed_in_pages_by_group_prefix_and_state(own_account):
    scheduler = own_account.scheduler
    queue, _ = own_account.queue()
    scheduler.create_schedule_group(Name="other")
    names = [f"a-{n}" for n in range(3)] + [f"b-{n}" for n in range(4)]
    for name in names:
        own_account.make(queue, name=name, State="DISABLED" if name.endswith("1") else "ENABLED")
    own_account.make(queue, name="a-9", GroupName="other")

    def listed(**asked):
        pages = scheduler.get_paginator("list_schedules").paginate(**asked, PaginationConfig={"PageSize": 3})
        return [[(found["GroupName"], found["Name"]) for found in page["Schedules"]] for page in pages]

    pages = listed()
    assert [len(page) for page in pages] == [3, 3, 2]
    assert sum(pages, []) == [("default", name) for name in names] + [("other", "a-9")]
    assert listed(GroupName="other") == [[("other", "a-9")]]
    assert [name for page in listed(GroupName="default", NamePrefix="b-") for _, name in page] == names[3:]
    assert [name for page in listed(State="DISABLED") for _, name in page] == ["a-1", "b-1"]
    (found,) = scheduler.list_schedules(GroupName="other")["Schedules"]
    assert found["Target"] == {"Arn": queue} and found["State"] == "ENABLED"
    assert found["Arn"] == f"arn:aws:scheduler:us-east-1:{own_account.number}:schedule/other/a-9"
    with invalid("Invalid NextToken."):
        scheduler.list_schedules(NextToken="?")
    with expect.refused("ResourceNotFoundException", 404, "Schedule group none does not exist."):
        scheduler.list_schedules(GroupName="none")


def test_groups_are_made_tagged_listed_and_go_with_their_schedules(own_account):
    scheduler, number = own_account.scheduler, own_account.number
    queue, _ = own_account.queue()
    assert scheduler.get_schedule_group(Name="default")["State"] == "ACTIVE"
    tags = [{"Key": "a", "Value": "1"}]
    arn = f"arn:aws:scheduler:us-east-1:{number}:schedule-group/g"
    made = scheduler.create_schedule_group(Name="g", Tags=tags, ClientToken="t")
    assert made["ScheduleGroupArn"] == arn
    assert scheduler.create_schedule_group(Name="g", Tags=tags, ClientToken="t")["ScheduleGroupArn"] == arn
    for name in ("g", "default"):
        with expect.refused("ConflictException", 409, f"Schedule group {name} already exists."):
            scheduler.create_schedule_group(Name=name)
    found = scheduler.get_schedule_group(Name="g")
    assert (found["Arn"], found["Name"], found["State"]) == (arn, "g", "ACTIVE")
    assert scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] == tags
    scheduler.tag_resource(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "3"}])
    scheduler.untag_resource(ResourceArn=arn, TagKeys=["a", "c"])
    assert scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    many = [{"Key": str(n), "Value": ""} for n in range(50)]
    with invalid(re.compile("1 validation error|50 validation errors")):
        scheduler.tag_resource(ResourceArn=arn, Tags=many)
    with invalid("A schedule group has at most 50 tags."):
        scheduler.tag_resource(ResourceArn=arn, Tags=[tag | {"Value": "v"} for tag in many])
    with expect.refused("ResourceNotFoundException", 404):
        scheduler.list_tags_for_resource(ResourceArn=arn + "x")
    pages = scheduler.get_paginator("list_schedule_groups").paginate(PaginationConfig={"PageSize": 1})
    assert [group["Name"] for page in pages for group in page["ScheduleGroups"]] == ["default", "g"]
    assert [g["Name"] for g in scheduler.list_schedule_groups(NamePrefix="g")["ScheduleGroups"]] == ["g"]
    for n in range(120):
        own_account.make(queue, name=f"s{n}", GroupName="g")
    own_account.make(queue, name="s0")
    scheduler.delete_schedule_group(Name="g")
    with expect.refused("ResourceNotFoundException", 404, "Schedule group g does not exist."):
        scheduler.get_schedule_group(Name="g")
    assert [found["Name"] for found in scheduler.list_schedules()["Schedules"]] == ["s0"]
    assert is_gone(scheduler, "s1", GroupName="g")
    with invalid("The default schedule group cannot be deleted."):
        scheduler.delete_schedule_group(Name="default")


def test_a_one_time_schedule_runs_a_function_once_with_its_context_and_goes(own_account):
    function, url = own_account.hearing()
    context = {
        "arn": "<aws.scheduler.schedule-arn>",
        "time": "<aws.scheduler.scheduled-time>",
        "id": "<aws.scheduler.execution-id>",
        "attempt": "<aws.scheduler.attempt-number>",
    }
    expression = at(2)
    more = {"target": {"Input": json.dumps(context)}, "ActionAfterCompletion": "DELETE"}
    name = own_account.make(function, expression, **more)
    kept = own_account.make(function, expression, target={"Input": '{"kept": 1}'})
    found = {json.dumps(heard(message)): heard(message) for message in own_account.received(url, 2)}
    assert found.pop('{"kept": 1}')
    (told,) = found.values()
    assert re.fullmatch("[0-9a-f]{16}", told.pop("id"))
    assert told == {
        "arn": f"arn:aws:scheduler:us-east-1:{own_account.number}:schedule/default/{name}",
        "time": expression[3:-1] + "Z",
        "attempt": "1",
    }
    # What fires is on its way before that is noted.
    eventually("the end of the schedule", lambda: is_gone(own_account.scheduler, name))
    assert own_account.scheduler.get_schedule(Name=kept)["State"] == "ENABLED"
    assert own_account.is_empty(url)


def test_without_an_input_a_notification_is_sent_and_rates_begin_at_once(own_account):
    function, heard_by = own_account.hearing()
    queue, url = own_account.queue()
    for arn in (function, queue):
        name = own_account.make(arn, "rate(1 day)")
        (message,) = own_account.received(heard_by if arn == function else url)
        told = heard(message) if arn == function else json.loads(message["Body"])
        assert told.pop("id") and abs(datetime.datetime.fromisoformat(told.pop("time")).timestamp() - time.time()) < 60
        assert told == {
            "version": "0",
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": own_account.number,
            "region": "us-east-1",
            "resources": [f"arn:aws:scheduler:us-east-1:{own_account.number}:schedule/default/{name}"],
            "detail": "{}",
        }


def test_a_moment_is_read_in_the_time_zone_of_the_schedule(own_account):
    queue, url = own_account.queue()
    zones = {"UTC": 0, "Asia/Kolkata": 330, "Etc/GMT+5": -300}
    for zone, minutes in zones.items():
        moment = at(2, datetime.timezone(datetime.timedelta(minutes=minutes)))
        own_account.make(queue, moment, ScheduleExpressionTimezone=zone, target={"Input": zone})
    # By the clock of another zone it is hours away.
    own_account.make(queue, at(2), ScheduleExpressionTimezone="Etc/GMT+5", target={"Input": "later"})
    assert {message["Body"] for message in own_account.received(url, 3)} == set(zones)


def test_a_moment_that_is_over_fires_at_once_and_one_that_is_disabled_never(own_account):
    queue, url = own_account.queue()
    off = own_account.make(queue, at(-3600), State="DISABLED", target={"Input": "off"})
    own_account.make(queue, at(-3600), target={"Input": "on"})
    assert [message["Body"] for message in own_account.received(url)] == ["on"]
    target = {"Arn": queue, "RoleArn": own_account.role, "Input": "now"}
    own_account.scheduler.update_schedule(
        Name=off, ScheduleExpression=at(-3600), Target=target, FlexibleTimeWindow=OFF, State="ENABLED"
    )
    assert [message["Body"] for message in own_account.received(url)] == ["now"]


def test_a_fifo_queue_is_sent_to_in_a_group(own_account):
    queue, url = own_account.queue(".fifo", FifoQueue="true", ContentBasedDeduplication="true")
    own_account.make(queue, at(1), target={"Input": "hello", "SqsParameters": {"MessageGroupId": "g"}})
    (message,) = own_account.received(url)
    assert message["Body"] == "hello" and message["Attributes"]["MessageGroupId"] == "g"


def test_universal_targets_are_requests_of_their_services(own_account):
    scheme = "arn:aws:scheduler:::aws-sdk:"
    function, heard_by = own_account.hearing()
    _, url = own_account.queue()
    request = {"QueueUrl": url, "MessageBody": "at <aws.scheduler.scheduled-time>"}
    moment = at(0)
    own_account.make(scheme + "sqs:sendMessage", moment, target={"Input": json.dumps(request)})
    assert [message["Body"] for message in own_account.received(url)] == [f"at {moment[3:-1]}Z"]
    request = {"FunctionName": function, "InvocationType": "Event", "Payload": '{"a": 1}'}
    own_account.make(scheme + "lambda:invoke", at(0), target={"Input": json.dumps(request)})
    (message,) = own_account.received(heard_by)
    assert heard(message) == {"a": 1}
    # As the User Guide shows it: the dead letter is the request.
    dead, letters = own_account.queue()
    request = json.dumps({"MessageBody": "Hello, world!", "QueueUrl": f"{url}-none"})
    more = {"RetryPolicy": {"MaximumRetryAttempts": 0}, "DeadLetterConfig": {"Arn": dead}}
    own_account.make(scheme + "sqs:sendMessage", at(0), target={"Input": request} | more)
    (message,) = own_account.received(letters)
    assert message["Body"] == request
    assert message["MessageAttributes"]["TARGET_ARN"]["StringValue"] == scheme + "sqs:sendMessage"
    with invalid(re.compile("MessageBody")):
        own_account.make(scheme + "sqs:sendMessage", target={"Input": json.dumps({"QueueUrl": url})})
    with expect.refused("NotImplementedException", 501, re.compile("InvocationType than Event")):
        own_account.make(scheme + "lambda:invoke", target={"Input": json.dumps({"FunctionName": function})})


def test_what_does_not_reach_its_target_is_tried_again_and_then_a_dead_letter(own_account):
    dead, url = own_account.queue()
    function = f"arn:aws:lambda:us-east-1:{own_account.number}:function:none"
    queue = f"arn:aws:sqs:us-east-1:{own_account.number}:none"
    expression = at(0)
    for arn, retries in ((function, 2), (queue, 0)):
        target = {
            "Input": '{"n": "<aws.scheduler.attempt-number>"}',
            "RetryPolicy": {"MaximumRetryAttempts": retries},
            "DeadLetterConfig": {"Arn": dead},
        }
        name = own_account.make(arn, expression, target=target)
        (message,) = own_account.received(url)
        attributes = {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}
        assert {value["DataType"] for value in message["MessageAttributes"].values()} == {"String"}
        assert re.fullmatch("[0-9a-f]{16}", attributes.pop("EXECUTION_ID"))
        code, text = attributes.pop("ERROR_CODE"), attributes.pop("ERROR_MESSAGE")
        if arn == function:
            assert (code, text) == ("ResourceNotFoundException", f"Function not found: {function}:$LATEST")
        else:
            assert code == "AWS.SimpleQueueService.NonExistentQueue" and "does not exist" in text
        assert attributes == {
            "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": str(retries),
            "SCHEDULED_TIME": expression[3:-1] + "Z",
            "SCHEDULE_ARN": f"arn:aws:scheduler:us-east-1:{own_account.number}:schedule/default/{name}",
            "TARGET_ARN": arn,
        }
        assert json.loads(message["Body"]) == {"n": str(retries + 1)}


def test_a_target_that_comes_later_is_reached(own_account):
    name = f"f-{uuid.uuid4().hex[:12]}"
    own_account.make(f"arn:aws:lambda:us-east-1:{own_account.number}:function:{name}", at(0), target={"Input": "7"})
    arn, url = own_account.queue()
    own_account.functions.make(python("return event"), FunctionName=name)
    destination = {"OnSuccess": {"Destination": arn}}
    own_account.functions.client.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destination)
    (message,) = own_account.received(url)
    assert heard(message) == 7


def event_of(server, arn):
    """The one event that comes from a schedule, and what the command line says of it."""
    answer = json.loads(server.lambda_request("GET", "/_hearth/v1/events?limit=100")[2])
    (found,) = [event for event in answer["events"] if event.get("origin", "").startswith(arn + ",")]
    command = [BINARY, "--endpoint", server.url, "events", "show", found["id"]]
    return found, subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment()).stdout


def test_what_was_missed_fires_once_and_says_so(start):
    server = start()
    account = Account(server, "000000000000", Functions(make_client(server)))
    function, url = account.hearing()
    queue, plain = account.queue()
    # Late enough for a slow machine to stop before.
    moment, soon = at(5), time.time() + 5
    name = account.make(function, moment, target={"Input": "1"}, ActionAfterCompletion="DELETE")
    account.make(queue, moment, target={"Input": "2"})
    server.stop()
    eventually("the moment", lambda: time.time() > soon)
    server = start()
    account = Account(server, "000000000000", Functions(make_client(server)))
    path = [f"/000000000000/{each.rsplit('/', 1)[1]}" for each in (url, plain)]
    (message,) = account.received(server.url + path[0])
    assert heard(message) == 1
    assert [message["Body"] for message in account.received(server.url + path[1])] == ["2"]
    arn = f"arn:aws:scheduler:us-east-1:000000000000:schedule/default/{name}"
    event, shown = event_of(server, arn)
    origin = event["origin"]
    assert f"of {origin.split(', of ')[1]}" in shown
    assert re.fullmatch(re.escape(arn) + r", of \S+Z, \d+ s late: the server was down", origin), origin
    eventually("the end of the schedule", lambda: is_gone(account.scheduler, name))
    eventually("both notes", lambda: server.said().count("a schedule was missed, and fires now") == 2)
    metrics = server.request("GET", "/_hearth/metrics")[2].decode()
    assert 'hearth_schedules_late_total{account="000000000000",region="us-east-1",schedule_group="default"} 2' in metrics
    # Once is once, also when it is started again.
    server.stop()
    server = start()
    account = Account(server, "000000000000", Functions(make_client(server)))
    assert account.is_empty(server.url + path[0]) and account.is_empty(server.url + path[1])


def test_no_schedule_is_lost_or_doubled_beyond_the_rule_when_the_server_is_killed(start):
    server = start()
    account = Account(server, "000000000000", Functions(make_client(server)))
    function, _ = account.hearing()
    queue, url = account.queue()
    path = f"/000000000000/{url.rsplit('/', 1)[1]}"
    count, kills = 60, 5
    for n in range(count):
        arn = function if n % 2 else queue
        account.make(arn, at(1 + n % 5), target={"Input": str(n)}, name=f"s{n}", ActionAfterCompletion="DELETE")
    for _ in range(kills):
        time.sleep(0.7)
        server.kill()
        server = start()
    account = Account(server, "000000000000", Functions(make_client(server)))
    eventually("the end of every schedule", lambda: not account.scheduler.list_schedules()["Schedules"])

    def audit():
        return json.loads(server.lambda_request("GET", "/_hearth/v1/events/audit")[2])

    eventually("the end of every event", lambda: (found := audit())["queued"] + found["running"] == 0 and found)
    # An event is accepted once, whatever was killed.
    events = json.loads(server.lambda_request("GET", "/_hearth/v1/events?limit=1000")[2])["events"]
    names = [event["origin"].split(",")[0].rsplit("/", 1)[1] for event in events if "origin" in event]
    assert sorted(names) == sorted(f"s{n}" for n in range(1, count, 2))
    received = []

    def drained():
        asked = {"QueueUrl": server.url + path, "MaxNumberOfMessages": 10}
        messages = account.sqs.receive_message(**asked).get("Messages", [])
        received.extend(int(message["Body"]) for message in messages)
        return set(received) >= set(range(0, count, 2)) and not messages

    eventually("every message", drained)
    # A queue may be sent to again by a death that came between.
    assert set(received) == set(range(0, count, 2)) and len(received) <= count / 2 + kills * 16


def test_roles_are_checked_where_that_is_asked_for(start):
    server = start("--iam-check-roles", "true")
    account = Account(server, "000000000000", Functions(make_client(server)))
    queue, _ = account.queue()
    with invalid("The execution role you provide must allow AWS EventBridge Scheduler to assume the role."):
        account.make(queue)
    iam = make_client(server, "iam")

    def trust(group):
        # As the User Guide shows it.
        arn = f"arn:aws:scheduler:us-east-1:000000000000:schedule-group/{group}"
        source = {"aws:SourceAccount": "000000000000", "aws:SourceArn": arn}
        statement = {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}
        statement["Condition"] = {"StringEquals": source}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    iam.create_role(RoleName="scheduler", AssumeRolePolicyDocument=trust("default"))
    account.make(queue)
    iam.update_assume_role_policy(RoleName="scheduler", PolicyDocument=trust("other"))
    with invalid("The execution role you provide must allow AWS EventBridge Scheduler to assume the role."):
        account.make(queue)


def test_the_aws_cli_makes_a_schedule_that_fires(server, own_account):
    queue, url = own_account.queue()
    variables = {"AWS_ACCESS_KEY_ID": own_account.number, "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    variables |= {"AWS_ENDPOINT_URL": server.url, "AWS_EC2_METADATA_DISABLED": "true"}

    def aws(*arguments):
        command = [sys.executable, "-m", "awscli", "scheduler", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment(**variables))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    target = json.dumps({"Arn": queue, "RoleArn": own_account.role, "Input": "from the cli"})
    when = ("--schedule-expression", at(0), "--flexible-time-window", "Mode=OFF")
    made = aws("create-schedule", "--name", "cli", *when, "--target", target)
    assert aws("get-schedule", "--name", "cli")["Arn"] == made["ScheduleArn"]
    assert [message["Body"] for message in own_account.received(url)] == ["from the cli"]
    aws("delete-schedule", "--name", "cli")
    assert aws("list-schedules")["Schedules"] == []
