"""Fixtures. One server serves every test that does not say otherwise; a test makes its own functions."""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import uuid

import boto3
import botocore.config
import pytest

from hearth import BINARY, Server, environment, eventually, held
from packages import zipped
from runtimes import TABLE

pytest_plugins = ["counted", "unsteady"]
ROLE = "arn:aws:iam::000000000000:role/hearth"
accounts = itertools.count(100000000001)


def pytest_configure(config):
    config.addinivalue_line("markers", "cell(row): a test whose success is a cell of the table of runtimes")
    # Nothing of the caller's settings reaches an SDK.
    for name in list(os.environ):
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    cell = item.get_closest_marker("cell")
    if cell and report.when == "call" and report.passed:
        TABLE.seen.add((cell.args[0], item.callspec.params["column"].name))
    return report


@pytest.fixture(scope="session")
def base():
    """A folder that every user may pass through, as functions run as others than the one who tests."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="hearth-e2e-"))
    base.chmod(0o755)
    yield base
    eventually("no mount and no loop device of any server", lambda: not held([str(base)]))
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def cache(base):
    return base / "cache"


@pytest.fixture
def data(base):
    """A data folder that is not there yet."""
    return base / f"data-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def start(data, cache):
    """Starts servers of this test; what still runs at its end is ended well."""
    with contextlib.ExitStack() as ends:

        def start(*flags, data=data, **variables):
            server = Server(data, cache, *flags, **variables).start()
            ends.callback(lambda: server.alive() and server.stop())
            return server

        yield start


@pytest.fixture(scope="session")
def server(base, cache):
    server = Server(base / "data", cache).start()
    yield server
    server.stop()


def make_client(server, service="lambda", account="test", region="us-east-1", **config):
    settings = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 64, "read_timeout": 90, "proxies": {}}
    return boto3.client(
        service,
        endpoint_url=server.url,
        verify=server.authorities,
        region_name=region,
        aws_access_key_id=account,
        aws_secret_access_key="test",
        config=botocore.config.Config(**(settings | config)),
    )


@pytest.fixture
def client(server):
    return make_client(server)


@pytest.fixture
def account(server):
    """A client with an account of its own."""
    return make_client(server, account=str(next(accounts)))


class Functions:
    """Makes functions with names of their own."""

    def __init__(self, client):
        self.client = client
        self.made = []

    def make(self, files, wait=True, **settings):
        package = files if isinstance(files, bytes) else zipped(files)
        settings = {
            "FunctionName": f"f-{uuid.uuid4().hex[:12]}",
            "Runtime": "python3.11",
            "Handler": "index.handler",
            "Role": ROLE,
            "Code": {"ZipFile": package},
            "Timeout": 20,
        } | settings
        self.client.create_function(**settings)
        name = settings["FunctionName"]
        self.made.append(name)
        if wait:
            wait_active(self.client, name)
        return name

    def change(self, name, files):
        """Other code, in place."""
        self.client.update_function_code(FunctionName=name, ZipFile=zipped(files))
        wait_updated(self.client, name)

    def publish(self, name, files=None, **settings):
        """The number of a new version, of other code where `files` are given."""
        if files is not None:
            self.change(name, files)
        return self.client.publish_version(FunctionName=name, **settings)["Version"]

    def delete(self):
        for name in self.made:
            with contextlib.suppress(self.client.exceptions.ResourceNotFoundException):
                self.client.delete_function(FunctionName=name)


def wait_active(client, name, waiter="function_active_v2"):
    # The SDK's own waiter, looking more often than once a second.
    client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 1500})


def wait_updated(client, name):
    wait_active(client, name, "function_updated_v2")


@pytest.fixture
def functions(client):
    functions = Functions(client)
    yield functions
    functions.delete()


@pytest.fixture
def make(functions):
    return functions.make


@pytest.fixture
def own(server):
    """Functions of an account of its own, with its client in `own.client` and its number in `own.account`."""
    number = str(next(accounts))
    # What the SDK would find wrong by itself is the server's to say.
    functions = Functions(make_client(server, account=number, parameter_validation=False))
    functions.account = number
    functions.arn = f"arn:aws:lambda:us-east-1:{number}:function:"
    yield functions
    functions.delete()


@pytest.fixture
def call(client):
    return caller(client)


def caller(client):
    """Calls a function with bytes as they are or anything else as JSON; answers an `Answer`."""

    def call(name, payload=None, **settings):
        body = payload if isinstance(payload, bytes) else json.dumps(payload)
        return Answer(client.invoke(FunctionName=name, Payload=body, **settings))

    return call


class Answer:
    def __init__(self, answer):
        self.status = answer["StatusCode"]
        self.error = answer.get("FunctionError")
        self.version = answer.get("ExecutedVersion")
        self.request_id = answer["ResponseMetadata"]["RequestId"]
        self.headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self.bytes = answer["Payload"].read()
        self.tail = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")

    @property
    def payload(self):
        return json.loads(self.bytes)


@pytest.fixture
def hearth(server, base):
    """Runs the command line against the server."""
    return command_line(server.url, base)


def command_line(url, cwd):
    def run(*arguments, input=None, status=0, patience=60, **variables):
        done = subprocess.run(
            [BINARY, *map(str, arguments)],
            input=input,
            capture_output=True,
            text=True,
            timeout=patience,
            cwd=cwd,
            env=environment(AWS_ENDPOINT_URL=url, **variables),
        )
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
