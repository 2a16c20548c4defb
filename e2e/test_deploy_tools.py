"""Deploy tools, unmodified: cargo lambda, Chalice, and the AWS CLI from its own skeleton of a request."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest

from conftest import ROLE, caller
from hearth import environment
from packages import python, zipped

BIN = pathlib.Path(sys.executable).parent


@pytest.fixture
def tool(server, tmp_path):
    """Runs a program of the environment of these tests as its user would, pointed at the server by variables alone."""
    variables = {"AWS_ENDPOINT_URL": server.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    variables |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    variables |= {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    variables |= {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def tool(program, *arguments, folder=tmp_path):
        command = [BIN / program, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment(**variables)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    tool.folder = tmp_path
    return tool


def test_cargo_lambda_deploys_updates_and_invokes(tool, server, client):
    name = f"cargo-{uuid.uuid4().hex[:8]}"
    built = tool.folder / f"target/lambda/{name}"
    built.mkdir(parents=True)
    shutil.copy(os.environ["HEARTH_E2E_RUST"], built / "bootstrap")
    (tool.folder / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n')
    (tool.folder / "src").mkdir()
    (tool.folder / "src/main.rs").write_text("fn main() {}\n")
    deploy = ["lambda", "deploy", name, "--iam-role", ROLE, "--endpoint-url", server.url]
    assert f":function:{name}" in tool("cargo-lambda", *deploy, "--output-format", "json")
    tool("cargo-lambda", *deploy, "--memory", "256", "--timeout", "10", "--env-var", "STAGE=dev", "--tags", "team=a")
    made = client.get_function(FunctionName=name)
    assert made["Configuration"]["MemorySize"] == 256
    assert made["Configuration"]["Timeout"] == 10
    assert made["Configuration"]["Environment"] == {"Variables": {"STAGE": "dev"}}
    assert made["Tags"] == {"team": "a"}
    invoke = ["lambda", "invoke", name, "--remote", "--endpoint-url", server.url, "--data-ascii", '{"a": 1}']
    assert json.loads(tool("cargo-lambda", *invoke))["event"] == {"a": 1}
    client.delete_function(FunctionName=name)


def test_chalice_deploys_updates_invokes_and_deletes_functions(tool, client):
    name = f"chalice{uuid.uuid4().hex[:8]}"
    project = tool.folder / name
    (project / ".chalice").mkdir(parents=True)
    (project / "requirements.txt").write_text("")
    stage = {"manage_iam_role": False, "iam_role_arn": ROLE}
    (project / ".chalice/config.json").write_text(
        json.dumps({"version": "2.0", "app_name": name, "stages": {"dev": stage}})
    )
    app = f"from chalice import Chalice\napp = Chalice(app_name='{name}')\n\n"
    app += "@app.lambda_function(name='first')\ndef first(event, context):\n    return {'first': event}\n\n"
    (project / "app.py").write_text(app)
    tool("chalice", "deploy", folder=project)
    function = f"{name}-dev-first"
    assert caller(client)(function, 1).payload == {"first": 1}
    (project / "app.py").write_text(app.replace("'first': event", "'changed': event"))
    tool("chalice", "deploy", folder=project)
    assert caller(client)(function, 1).payload == {"changed": 1}
    assert json.loads(tool("chalice", "invoke", "-n", "first", folder=project)) == {"changed": {}}
    tool("chalice", "delete", folder=project)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=function)


def test_the_aws_clis_skeleton_filled_in_makes_a_function(tool, client):
    name = f"skeleton-{uuid.uuid4().hex[:8]}"
    skeleton = json.loads(tool("python", "-m", "awscli", "lambda", "create-function", "--generate-cli-skeleton"))
    filled = {"FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "index.handler", "Timeout": 5}
    filled |= {"MemorySize": 256}
    filled |= {"Publish": True, "PackageType": "Zip", "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512}}
    filled |= {"Environment": {"Variables": {"KeyName": "value"}}, "Tags": {"KeyName": "value"}}
    filled |= {"TracingConfig": skeleton["TracingConfig"], "Description": skeleton["Description"]}
    assert filled.keys() <= skeleton.keys()
    (tool.folder / "input.json").write_text(json.dumps(filled))
    (tool.folder / "package.zip").write_bytes(zipped(python("return 1")))
    create = ["-m", "awscli", "lambda", "create-function", "--cli-input-json", "file://input.json"]
    create += ["--zip-file", "fileb://package.zip"]
    said = tool("python", *create, "--query", "[FunctionName, MemorySize, Version]", "--output", "text")
    assert said.split() == [name, "256", "1"]
    waiter = client.get_waiter("published_version_active")
    waiter.wait(FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert caller(client)(name, Qualifier="1").payload == 1
    client.delete_function(FunctionName=name)
