"""Functions that serve tenants apart: an environment is only ever one tenant's."""

import concurrent.futures
import json
import subprocess
import sys

import pytest

from conftest import make_client
from expect import refused
from hearth import environment, eventually
from packages import HEALTHY, python

APART = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
JSON = {"LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "DEBUG"}}
MISSING = (
    "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."
)
# All that an environment has seen, in memory and on its disk.
SEEN = python(
    """
    seen.append(context.tenant_id)
    with open("/tmp/seen", "a") as file:
        file.write(f"{context.tenant_id}\\n")
    time.sleep(event or 0)
    return [seen, open("/tmp/seen").read().split(), os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]]
    """,
    "import os, time\nseen = []",
)


def test_an_environment_serves_one_tenant(make, call):
    name = make(SEEN, **APART)
    first, _, stream = call(name, TenantId="blue").payload
    assert first == ["blue"]
    assert call(name, TenantId="green").payload[0] == ["green"]
    again, kept, same = call(name, TenantId="blue").payload
    assert again == kept == ["blue", "blue"] and same == stream


def test_many_tenants_at_once_never_meet(make, call):
    name = make(SEEN, **APART, MemorySize=128)
    tenants = [f"tenant-{number % 7}" for number in range(84)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda tenant: call(name, 0.02, TenantId=tenant).payload, tenants))
    for tenant, (seen, kept, _) in zip(tenants, answers, strict=True):
        assert set(seen) == set(kept) == {tenant}
    streams = {tenant: {stream for of, (*_, stream) in zip(tenants, answers) if of == tenant} for tenant in tenants}
    assert sum(map(len, streams.values())) == len(set().union(*streams.values()))


def test_versions_and_streams_of_a_tenant(make, call, client, functions):
    name = make(SEEN, **APART)
    functions.publish(name)
    assert call(name, TenantId="blue", Qualifier="1").payload[0] == ["blue"]
    assert call(name, TenantId="blue").payload[0] == ["blue"]
    answer = client.invoke_with_response_stream(FunctionName=name, Payload=b"0", TenantId="blue")
    pieces = [event["PayloadChunk"]["Payload"] for event in answer["EventStream"] if "PayloadChunk" in event]
    assert json.loads(b"".join(pieces))[0] == ["blue", "blue"]


def test_a_function_of_node_is_told_its_tenant(make, call):
    code = "exports.handler = async (event, context) => { console.log('here'); return context.tenantId; };"
    name = make({"index.js": code}, Runtime="nodejs20.x", **APART)
    assert call(name, TenantId="a.b_c:d/e=f+g-h@i j").payload == "a.b_c:d/e=f+g-h@i j"


def records(server, name, least):
    def found():
        logs = make_client(server, "logs")
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        lines = [json.loads(event["message"]) for event in events]
        return lines if len(lines) >= least else None

    return eventually("the records", found)


def test_records_name_the_tenant(server, make, call):
    name = make(python("logging.getLogger().warning('here')", "import logging"), **APART, **JSON)
    call(name, TenantId="blue")
    found = {}
    for line in records(server, name, 5):
        found[line.get("type") or line["message"]] = line.get("record", line)
    for said in ("platform.start", "platform.runtimeDone", "platform.report", "here"):
        assert found[said]["tenantId"] == "blue", said
    assert "tenantId" not in found["platform.initStart"]


def test_an_event_waits_for_its_tenant(server, make, client):
    name = make(python("print(json.dumps(context.tenant_id))", "import json"), **APART)
    for tenant in ("blue", "green"):
        answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=b"1", TenantId=tenant)
        assert answer["StatusCode"] == 202

    def said():
        events = make_client(server, "logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        return {event["message"].strip() for event in events if event["message"].startswith('"')} == {'"blue"', '"green"'}

    eventually("both", said)


def test_who_names_no_tenant_is_refused(make, client):
    name = make(HEALTHY, **APART)
    for more in ({}, {"InvocationType": "Event"}, {"InvocationType": "DryRun"}):
        with refused("InvalidParameterValueException", 400, MISSING):
            client.invoke(FunctionName=name, Payload=b"1", **more)
    with refused("InvalidParameterValueException", 400, MISSING):
        client.invoke_with_response_stream(FunctionName=name, Payload=b"1")
    with refused("InvalidParameterValueException", 400, MISSING):
        client.invoke_async(FunctionName=name, InvokeArgs=b"1")


def test_who_names_one_for_nothing_is_refused(make, client):
    name = make(HEALTHY)
    for more in ({}, {"InvocationType": "Event"}):
        with refused("InvalidParameterValueException", 400):
            client.invoke(FunctionName=name, Payload=b"1", TenantId="blue", **more)


@pytest.mark.parametrize("tenant", ["", "a" * 257, "a,b", "ü", "a\tb"])
def test_no_tenant_at_all(own, server, tenant):
    name = own.make(HEALTHY, **APART)
    status, headers, _ = server.lambda_request(
        "POST", f"/2015-03-31/functions/{own.arn}{name}/invocations", b"1", headers={"X-Amz-Tenant-Id": tenant.encode()}
    )
    assert status == 400 and headers["x-amzn-errortype"] in ("ValidationException", "SerializationException")


def test_what_tenants_cannot_share_is_refused(server, own):
    name = own.make(HEALTHY, **APART)
    version, client = own.publish(name), own.client
    with refused("InvalidParameterValueException", 400):
        client.create_function_url_config(FunctionName=name, AuthType="NONE")
    with refused("InvalidParameterValueException", 400):
        client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1
        )
    queues = make_client(server, "sqs", account=own.account)
    url = queues.create_queue(QueueName=f"q-{name}", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    with refused("InvalidParameterValueException", 400):
        client.create_event_source_mapping(FunctionName=name, EventSourceArn=arn)
    with refused("InvalidParameterValueException", 400):
        own.make(HEALTHY, **APART, Runtime="python3.12", SnapStart={"ApplyOn": "PublishedVersions"})
    configuration = client.update_function_configuration(FunctionName=name, MemorySize=256)
    assert configuration["TenancyConfig"] == APART["TenancyConfig"]


def test_the_command_line_names_a_tenant(server, make, tmp_path):
    name, out = make(python("return context.tenant_id"), **APART), tmp_path / "out.json"
    command = [sys.executable, "-m", "awscli", "--region", "us-east-1", "--endpoint-url", server.url, "lambda", "invoke"]
    subprocess.run(
        [*command, "--function-name", name, "--tenant-id", "blue", str(out)],
        check=True,
        capture_output=True,
        env=environment(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test"),
    )
    assert json.loads(out.read_text()) == "blue"
