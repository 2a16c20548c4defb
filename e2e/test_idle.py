"""Functions that nobody calls: those of a VPC or an image become inactive, and the call that finds them so wakes them."""

import contextlib
import re
import shutil

import pytest
from botocore.exceptions import ClientError

from conftest import Functions, caller, make_client
from expect import refused
from hearth import eventually
from packages import HEALTHY, python
from test_images import base_layers, create, function_image, layout  # noqa: F401

VPC = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
# Long enough that a loaded machine calls twice within it, short enough to wait for.
IDLE = "3s"
WAKING = "Lambda is initializing your function. It will be ready to invoke shortly."


@pytest.fixture
def server(start):
    return start("--functions-idle-timeout", IDLE, "--async-retry-base-delay", "500ms")


@pytest.fixture
def functions(server):
    return Functions(make_client(server))


def state(client, name, **settings):
    found = client.get_function_configuration(FunctionName=name, **settings)
    return {member: found[member] for member in ("State", "StateReason", "StateReasonCode", "LastUpdateStatus") if member in found}


INACTIVE = {
    "State": "Inactive",
    "StateReason": "The function is currently idle.",
    "StateReasonCode": "Idle",
    "LastUpdateStatus": "Successful",
}


def idle(client, name, **settings):
    eventually("nobody calls it", lambda: state(client, name, **settings) == INACTIVE)


def wakes(client, name, code, **settings):
    """Calls until it is answered; what it hears until then."""
    heard = []

    def answered():
        try:
            return caller(client)(name, 1, **settings).payload
        except ClientError as error:
            heard.append((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]))
            return None

    answer = eventually("it is awake", answered)
    assert heard[0] == code, heard
    return answer


def test_a_function_of_a_vpc_sleeps_and_wakes(server, functions):
    client, call = functions.client, caller(functions.client)
    plain = functions.make(HEALTHY)
    name = functions.make(python("return event"), VpcConfig=VPC)
    assert call(name, 1).payload == 1
    idle(client, name)
    revision = client.get_function_configuration(FunctionName=name)["RevisionId"]
    # Nothing that only asks wakes it.
    assert client.invoke(FunctionName=plain, InvocationType="DryRun")["StatusCode"] == 204
    with refused("ResourceNotReadyException", 502):
        client.invoke(FunctionName=name, InvocationType="DryRun")
    assert state(client, name) == INACTIVE
    assert wakes(client, name, ("ResourceNotReadyException", 502)) == 1
    found = client.get_function_configuration(FunctionName=name)
    assert (found["State"], found["RevisionId"] != revision) == ("Active", True) and "StateReason" not in found
    # What has neither VPC nor image is ready whenever it is called.
    idle(client, name)
    assert state(client, plain) == {"State": "Active", "LastUpdateStatus": "Successful"}
    assert call(plain, 1).error is None


def test_who_is_called_stays_active_and_versions_are_idle_each_for_itself(server, functions):
    client, call = functions.client, caller(functions.client)
    name = functions.make(python("return context.function_version"), VpcConfig=VPC)
    functions.publish(name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")

    def version_sleeps():
        assert call(name).payload == "$LATEST"
        return state(client, name, Qualifier="1") == INACTIVE

    eventually("nobody calls the version", version_sleeps)
    assert state(client, name)["State"] == "Active"
    assert wakes(client, name, ("ResourceNotReadyException", 502), Qualifier="live") == "1"
    assert state(client, name, Qualifier="1")["State"] == "Active"


def test_an_event_wakes_and_is_run(server, functions):
    client = functions.client
    name = functions.make(python("print('ran', event['id'])"), VpcConfig=VPC)
    idle(client, name)
    client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"id": "x17"}')
    path = f"/_hearth/v1/functions/{name}/logs?grep=x17"
    eventually("the event has run", lambda: server.request("GET", path)[2].count(b"ran x17") == 1)


def test_what_sleeps_can_be_changed_and_is_awake_then(server, functions):
    client, call = functions.client, caller(functions.client)
    name = functions.make(python("return 1"), VpcConfig=VPC)
    idle(client, name)
    functions.change(name, python("return 2"))
    assert call(name).payload == 2


def test_an_image_sleeps_over_a_restart_and_is_fetched_when_it_is_called(server, start, functions, base_layers, layout):  # noqa: F811
    client = functions.client
    image = layout(function_image(base_layers, {"app.py": "def handler(event, context):\n    return event\n"}))
    name = create(client, image)["FunctionName"]
    assert caller(client)(name, 1).payload == 1
    idle(client, name)
    server.stop()
    client = make_client(start("--functions-idle-timeout", IDLE))
    assert state(client, name) == INACTIVE
    with refused("CodeArtifactUserPendingException", 409, WAKING):
        client.invoke(FunctionName=name)
    eventually("it is awake", lambda: state(client, name)["State"] == "Active" or None)


def test_what_cannot_be_woken_says_why(server, start, functions, base_layers, layout, base):  # noqa: F811
    """Its image is neither in the cache nor where it came from."""
    client = functions.client
    image = layout(function_image(base_layers, {"app.py": "def handler(event, context):\n    return event\n", "x": "gone"}))
    name = create(client, image)["FunctionName"]
    idle(client, name)
    server.stop()
    shutil.rmtree(re.search("/.*(?=:)", image)[0])
    client = make_client(start("--functions-idle-timeout", IDLE, "--cache-dir", base / "cache-idle", "--runtimes-fetch", "false"))
    with refused("CodeArtifactUserPendingException", 409, WAKING):
        client.invoke(FunctionName=name)

    def back():
        found = state(client, name)
        return found["State"] == "Inactive" and found["StateReasonCode"] != "Idle" and found

    assert eventually("it is inactive again", back)["StateReasonCode"] in ("ImageDeleted", "InternalError")


def test_an_alias_goes_on_with_the_version_that_is_called(server, functions):
    client, call = functions.client, caller(functions.client)
    name = functions.make(python("return context.function_version"), VpcConfig=VPC)
    for number in range(2):
        functions.publish(name, python(f"return context.function_version  # {number}"))
    client.create_alias(
        FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.02}}
    )

    def seen():
        """A call of the alias that was answered while the other version slept. One of fifty wakes that."""
        assert call(name, Qualifier="1").payload == "1"
        if state(client, name, Qualifier="2") != INACTIVE:
            return False
        with contextlib.suppress(ClientError):
            return call(name, Qualifier="live").payload == "1" and state(client, name, Qualifier="2") == INACTIVE

    eventually("an answer of the version that is awake", seen)
    client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}})
    assert wakes(client, name, ("ResourceNotReadyException", 502), Qualifier="live") == "2"


def test_a_call_that_takes_longer_than_the_timeout_keeps_its_function(server, functions):
    client, call = functions.client, caller(functions.client)
    name = functions.make(python("import time\ntime.sleep(12)\nreturn 1"), VpcConfig=VPC, Timeout=30)
    assert call(name).payload == 1
    # Had it become inactive, the next call would be refused.
    client.invoke(FunctionName=name, InvocationType="DryRun")


def test_a_provisioned_alias_moves_to_a_version_that_sleeps(server, functions):
    client = functions.client
    name = functions.make(python("return context.function_version"), VpcConfig=VPC)
    for number in range(2):
        functions.publish(name, python(f"return context.function_version  # {number}"))
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1)

    def ready():
        return client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="live")["Status"] == "READY"

    eventually("an environment", ready)
    idle(client, name, Qualifier="2")
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    # Nobody calls it: the alias wakes it.
    eventually("it is awake", lambda: state(client, name, Qualifier="2")["State"] == "Active")
    eventually("another environment", ready)
    assert caller(client)(name, Qualifier="live").payload == "2"
