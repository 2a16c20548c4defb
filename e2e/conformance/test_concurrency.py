"""Reserved concurrency and the account's numbers."""

import threading

from conftest import Functions, caller, make_client
from expect import refused
from hearth import eventually
from packages import HEALTHY, python, zipped

FUNCTIONS_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please "
    "specify either a function name or an unqualified function ARN."
)
BELOW = (
    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
    "minimum value of [100]."
)


def test_a_reservation_is_shown_where_aws_shows_it(own):
    name = own.make(HEALTHY)
    assert "ReservedConcurrentExecutions" not in own.client.get_function_concurrency(FunctionName=name)
    assert "Concurrency" not in own.client.get_function(FunctionName=name)
    answer = own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=7)
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["ReservedConcurrentExecutions"]) == (200, 7)
    assert own.client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 7
    found = own.client.get_function(FunctionName=name)
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    assert "Concurrency" not in own.client.get_function_configuration(FunctionName=name)
    limits = own.client.get_account_settings()["AccountLimit"]
    assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (1000, 993)
    for _ in range(2):
        answer = own.client.delete_function_concurrency(FunctionName=name)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "ReservedConcurrentExecutions" not in own.client.get_function_concurrency(FunctionName=name)
    assert own.client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000


def test_a_hundred_are_left(own):
    first, second = own.make(HEALTHY), own.make(HEALTHY)
    with refused("InvalidParameterValueException", 400, BELOW):
        own.client.put_function_concurrency(FunctionName=first, ReservedConcurrentExecutions=901)
    own.client.put_function_concurrency(FunctionName=first, ReservedConcurrentExecutions=900)
    with refused("InvalidParameterValueException", 400, BELOW):
        own.client.put_function_concurrency(FunctionName=second, ReservedConcurrentExecutions=1)
    own.client.put_function_concurrency(FunctionName=second, ReservedConcurrentExecutions=0)
    own.client.put_function_concurrency(FunctionName=first, ReservedConcurrentExecutions=899)
    own.client.put_function_concurrency(FunctionName=second, ReservedConcurrentExecutions=1)
    own.client.delete_function(FunctionName=first)
    assert own.client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 999


def test_names_that_are_no_functions(own):
    name = own.make(HEALTHY)
    own.publish(name)
    operations = [
        lambda name: own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1),
        lambda name: own.client.get_function_concurrency(FunctionName=name),
        lambda name: own.client.delete_function_concurrency(FunctionName=name),
    ]
    for operation in operations:
        for qualified in (f"{name}:1", own.arn + name + ":1", f"{name}:live", f"{name}:$LATEST"):
            with refused("InvalidParameterValueException", 400, FUNCTIONS_ONLY):
                operation(qualified)
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing:$LATEST"):
            operation("missing")


def test_a_reservation_caps_the_function_with_all_its_versions(own, server):
    held = own.make(python("import time\ntime.sleep(event)\nreturn 'slept'"))
    own.publish(held)
    own.client.put_function_concurrency(FunctionName=held, ReservedConcurrentExecutions=1)
    call = caller(own.client)
    call(held, 0)

    def run_long():
        # The look for a throttle may have the one place at first.
        again = make_client(server, account=own.account)
        while True:
            try:
                return caller(again)(held, 5)
            except again.exceptions.TooManyRequestsException:
                pass

    running = threading.Thread(target=run_long)
    running.start()

    def throttled():
        try:
            own.client.invoke(FunctionName=held, Qualifier="1", Payload=b"0")
            return None
        except own.client.exceptions.TooManyRequestsException as error:
            return error

    error = eventually("a throttle", throttled).response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert error["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert error["Error"]["Message"] == "Rate Exceeded."
    running.join()
    assert call(held, 0).payload == "slept"


def test_a_reservation_of_none_stops_the_function(own):
    name = own.make(HEALTHY)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with refused("TooManyRequestsException", 429, "Rate Exceeded."):
        own.client.invoke(FunctionName=name)
    own.client.delete_function_concurrency(FunctionName=name)
    assert own.client.invoke(FunctionName=name)["StatusCode"] == 200


def test_a_reservation_is_kept_free_from_others(start):
    server = start("--account-concurrent-executions", "101")
    client = make_client(server)
    functions = Functions(client)
    reserved, other = functions.make(HEALTHY), functions.make(HEALTHY)
    client.put_function_concurrency(FunctionName=reserved, ReservedConcurrentExecutions=1)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    client.put_function_concurrency(FunctionName=reserved, ReservedConcurrentExecutions=0)
    assert caller(client)(other).status == 200
    with refused("InvalidParameterValueException", 400, BELOW):
        client.put_function_concurrency(FunctionName=other, ReservedConcurrentExecutions=2)
    functions.delete()


def test_usage_counts_every_version_and_layer(own):
    name = own.make(HEALTHY)
    size = own.client.get_function_configuration(FunctionName=name)["CodeSize"]

    def usage():
        return own.client.get_account_settings()["AccountUsage"]

    assert usage() == {"TotalCodeSize": size, "FunctionCount": 1}
    own.publish(name)
    assert usage() == {"TotalCodeSize": 2 * size, "FunctionCount": 1}
    package = zipped({"f": "x"})
    own.client.publish_layer_version(LayerName="one", Content={"ZipFile": package})
    assert usage()["TotalCodeSize"] == 2 * size + len(package)
    own.client.update_function_configuration(FunctionName=name, Description="other")
    assert usage()["TotalCodeSize"] == 2 * size + len(package)
    own.client.delete_layer_version(LayerName="one", VersionNumber=1)
    own.client.delete_function(FunctionName=name)
    assert usage() == {"TotalCodeSize": 0, "FunctionCount": 0}


def test_the_code_storage_has_its_limit(start):
    package = zipped(HEALTHY)
    server = start("--account-code-storage", str(2 * len(package) + 1))
    client = make_client(server)
    functions = Functions(client)
    name = functions.make(package)
    client.publish_version(FunctionName=name)
    with refused("CodeStorageExceededException", 400):
        client.create_function(
            FunctionName="more",
            Runtime="python3.11",
            Handler="index.handler",
            Role="arn:aws:iam::000000000000:role/r",
            Code={"ZipFile": package},
        )
    with refused("CodeStorageExceededException", 400):
        client.publish_layer_version(LayerName="one", Content={"ZipFile": package})
    functions.delete()
