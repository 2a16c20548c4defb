"""The AWS CLI and the JavaScript SDK, unmodified."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest

from hearth import environment
from packages import python, zipped

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def aws(server, base):
    folder = base / f"cli-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    variables = CREDENTIALS | {"AWS_ENDPOINT_URL": server.url, "AWS_EC2_METADATA_DISABLED": "true"}
    variables |= {"AWS_CONFIG_FILE": str(folder / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none")}

    def aws(*arguments, status=(0,), **others):
        done = subprocess.run(
            [sys.executable, "-m", "awscli", *arguments],
            capture_output=True,
            text=True,
            timeout=90,
            cwd=folder,
            env=environment(**(variables | others)),
        )
        assert done.returncode in status, done.stderr
        return done

    aws.folder = folder
    return aws


def test_the_aws_cli_creates_invokes_and_deletes_from_a_zip_made_by_hand(aws):
    (aws.folder / "package.zip").write_bytes(zipped(python("print('from the cli')\nreturn {'got': event}")))
    name = f"cli-{uuid.uuid4().hex[:8]}"
    role = "arn:aws:iam::000000000000:role/hearth"
    create = "lambda create-function --runtime python3.11 --handler index.handler --zip-file fileb://package.zip"
    created = json.loads(aws(*create.split(), "--role", role, "--function-name", name).stdout)
    assert created["State"] == "Pending"
    aws("lambda", "wait", "function-active-v2", "--function-name", name)
    invoke = ["lambda", "invoke", "--function-name", name, "--log-type", "Tail", "--payload", '{"a": 1}', "answer.json"]
    answered = json.loads(aws(*invoke).stdout)
    assert (answered["StatusCode"], answered["ExecutedVersion"]) == (200, "$LATEST") and answered["LogResult"]
    assert json.loads((aws.folder / "answer.json").read_text()) == {"got": {"a": 1}}
    aws("lambda", "update-function-configuration", "--function-name", name, "--memory-size", "256")
    aws("lambda", "wait", "function-updated-v2", "--function-name", name)
    listed = json.loads(aws("lambda", "list-functions").stdout)["Functions"]
    assert [f["MemorySize"] for f in listed if f["FunctionName"] == name] == [256]
    aws("lambda", "delete-function", "--function-name", name)
    # 255 of version 1 of the client, 254 of version 2.
    gone = aws("lambda", "get-function", "--function-name", name, status=(254, 255))
    assert "ResourceNotFoundException" in gone.stderr
    assert json.loads(aws("sts", "get-caller-identity").stdout)["Account"] == "000000000000"


def test_the_aws_cli_queues_an_event_and_says_how_it_is_tried(aws):
    (aws.folder / "package.zip").write_bytes(zipped(python("return event")))
    name = f"cli-{uuid.uuid4().hex[:8]}"
    create = "lambda create-function --runtime python3.11 --handler index.handler --zip-file fileb://package.zip"
    aws(*create.split(), "--role", "arn:aws:iam::000000000000:role/hearth", "--function-name", name)
    aws("lambda", "wait", "function-active-v2", "--function-name", name)
    put = ["lambda", "put-function-event-invoke-config", "--function-name", name, "--maximum-retry-attempts", "0"]
    config = json.loads(aws(*put).stdout)
    assert config["FunctionArn"].endswith(f":{name}:$LATEST") and config["MaximumRetryAttempts"] == 0
    assert config["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    listed = json.loads(aws("lambda", "list-function-event-invoke-configs", "--function-name", name).stdout)
    assert [item["MaximumRetryAttempts"] for item in listed["FunctionEventInvokeConfigs"]] == [0]
    invoke = ["lambda", "invoke", "--function-name", name, "--invocation-type", "Event", "--payload", "{}", "out.json"]
    assert json.loads(aws(*invoke).stdout) == {"StatusCode": 202}
    assert (aws.folder / "out.json").read_bytes() == b""
    aws("lambda", "delete-function-event-invoke-config", "--function-name", name)
    get = ["lambda", "get-function-event-invoke-config", "--function-name", name]
    assert "doesn't have an EventInvokeConfig" in aws(*get, status=(254, 255)).stderr
    aws("lambda", "delete-function", "--function-name", name)


@pytest.mark.timeout(300)
def test_the_aws_cli_makes_a_role_and_takes_it_on(aws):
    statement = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}
    (aws.folder / "trust.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    name, basic = f"cli-{uuid.uuid4().hex[:8]}", "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    created = aws("iam", "create-role", "--role-name", name, "--assume-role-policy-document", "file://trust.json")
    role = json.loads(created.stdout)["Role"]
    aws("iam", "wait", "role-exists", "--role-name", name)
    got = json.loads(aws("iam", "get-role", "--role-name", name).stdout)["Role"]
    assert got["AssumeRolePolicyDocument"]["Statement"] == [statement] and got["Arn"] == role["Arn"]
    aws("iam", "attach-role-policy", "--role-name", name, "--policy-arn", basic)
    attached = aws("iam", "list-attached-role-policies", "--role-name", name, "--query", "AttachedPolicies[].PolicyArn")
    assert json.loads(attached.stdout) == [basic]
    taken = aws("sts", "assume-role", "--role-arn", role["Arn"], "--role-session-name", "cli")
    assumed = f"arn:aws:sts::000000000000:assumed-role/{name}/cli"
    assert json.loads(taken.stdout)["AssumedRoleUser"]["Arn"] == assumed
    credentials = json.loads(taken.stdout)["Credentials"]
    names = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY", "SessionToken": "AWS_SESSION_TOKEN"}
    variables = {names[key]: credentials[key] for key in names}
    assert json.loads(aws("sts", "get-caller-identity", **variables).stdout)["Arn"] == assumed
    in_use = aws("iam", "delete-role", "--role-name", name, status=(254, 255))
    assert "DeleteConflict" in in_use.stderr


JAVASCRIPT = pathlib.Path(__file__).parent / "javascript"
SUITES = sorted(str(path.relative_to(JAVASCRIPT)) for path in JAVASCRIPT.rglob("*.test.mjs"))
CONFORMANCE = {suite for suite in SUITES if suite.startswith("conformance")}
# Assertions that the suites of `conformance` hold together, and how many each held.
HELD_LEAST = 400
held = {}


@pytest.mark.parametrize("suite", SUITES)
def test_the_javascript_sdk(server, base, suite):
    """The suites in `javascript/`, beside the modules that were installed for them. `conformance` is as the API is."""
    modules = pathlib.Path(os.environ["HEARTH_E2E_NODE"]) / "node_modules"
    folder = base / f"javascript-{uuid.uuid4().hex[:8]}"
    shutil.copytree(JAVASCRIPT, folder)
    shutil.copytree(JAVASCRIPT.parent / "conformance" / "cases", folder / "cases")
    (folder / "node_modules").symlink_to(modules)
    (folder / "package.zip").write_bytes(zipped({"index.mjs": "export const handler = async (event) => ({ got: event });"}))
    (folder / "other.zip").write_bytes(zipped({"index.mjs": "export const handler = async () => { throw new RangeError('far'); };"}))
    stream = """export const handler = awslambda.streamifyResponse(async ({ n, fail }, stream) => {
        for (let i = 0; i < n; i++) stream.write(`${i};`);
        if (fail) throw new RangeError('far');
        stream.end();
    });"""
    (folder / "stream.zip").write_bytes(zipped({"index.mjs": stream}))
    done = subprocess.run(
        ["node", "--test", suite],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env=environment(
            AWS_ENDPOINT_URL=server.url, AWS_REGION="us-east-1", HEARTH_E2E_HELD=str(folder / "held"), **CREDENTIALS
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if suite in CONFORMANCE:
        held[suite] = sum(map(int, (folder / "held").read_text().split()))
        print(f"{suite}: {held[suite]} assertions held, {sum(held.values())} so far")
    if CONFORMANCE <= held.keys():
        assert sum(held.values()) >= HELD_LEAST, held
