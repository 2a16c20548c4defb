"""Provisioned concurrency: texts, accounting, and environments that are there before calls."""

import re
import threading

from conftest import Functions, caller, make_client
from expect import refused
from hearth import eventually
from packages import HEALTHY, python

WHO = python(
    "return [os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'], context.log_stream_name]", before="import os"
)
UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
NOT_PUBLISHED = "The function resource provided must be an alias or a published version."
NONE = "No Provisioned Concurrency Config found for this function"
WEIGHTS = "Alias with weights can not be used with Provisioned Concurrency"
TAKEN = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"


class Provisioned:
    def __init__(self, own):
        self.client = own.client

    def put(self, name, qualifier, count):
        return self.client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
        )

    def get(self, name, qualifier):
        return self.client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)

    def delete(self, name, qualifier):
        return self.client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)

    def settled(self, name, qualifier):
        answers = []

        def settled():
            answers.append(self.get(name, qualifier))
            return answers[-1]["Status"] != "IN_PROGRESS"

        eventually("an end of the allocation", settled)
        return answers[-1]


def numbers(answer):
    keys = ("Requested", "Allocated", "Available")
    return [answer[f"{key}ProvisionedConcurrentExecutions"] for key in keys]


def test_environments_are_there_before_the_first_call(own):
    provisioned, name = Provisioned(own), own.make(WHO)
    own.publish(name)
    answer = provisioned.put(name, "1", 2)
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Status"]) == (202, "IN_PROGRESS")
    assert numbers(answer) == [2, 0, 0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", answer["LastModified"])
    ready = provisioned.settled(name, "1")
    assert (ready["Status"], numbers(ready)) == ("READY", [2, 2, 2])
    assert ready["LastModified"] == answer["LastModified"] and "StatusReason" not in ready
    call = caller(own.client)
    first = call(name, Qualifier="1", LogType="Tail")
    assert first.payload[0] == "provisioned-concurrency"
    # Its init was before the call and is paid for by the hour.
    found = re.search(r"\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms\t.*Init Duration: [\d.]+ ms\t", first.tail)
    assert found and 0 <= int(found[2]) - float(found[1]) < 1, first.tail
    assert call(name).payload[0] == "on-demand"


def test_more_calls_than_are_provisioned_are_served_on_demand(own, server):
    provisioned = Provisioned(own)
    name = own.make(python("time.sleep(event)\nreturn os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']", "import os, time"))
    own.publish(name)
    provisioned.put(name, "1", 1)
    provisioned.settled(name, "1")
    answers = []

    def run():
        call = caller(make_client(server, account=own.account))
        answers.append(call(name, 1, Qualifier="1").payload)

    threads = [threading.Thread(target=run) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(answers) == ["on-demand", "provisioned-concurrency"]


def test_all_that_is_reserved_may_be_provisioned_and_the_rest_is_throttled(own):
    provisioned, name, call = Provisioned(own), own.make(WHO), caller(own.client)
    own.publish(name)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with refused(
        "InvalidParameterValueException",
        400,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
    ):
        provisioned.put(name, "1", 2)
    provisioned.put(name, "1", 1)
    provisioned.settled(name, "1")
    assert call(name, Qualifier="1").payload[0] == "provisioned-concurrency"
    with refused("TooManyRequestsException", 429):
        call(name)
    with refused(
        "InvalidParameterValueException",
        400,
        " ReservedConcurrentExecutions  0 should not be lower than function's total provisioned concurrency [1].",
    ):
        own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)


def test_the_account_keeps_a_hundred(own):
    provisioned, name = Provisioned(own), own.make(python("import no_such_module"))
    own.publish(name)
    with refused(
        "InvalidParameterValueException",
        400,
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].",
    ):
        provisioned.put(name, "1", 1001)
    with refused(
        "InvalidParameterValueException",
        400,
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum "
        "value of [100].",
    ):
        provisioned.put(name, "1", 901)
    with refused("ValidationException", 400):
        provisioned.put(name, "1", 0)
    provisioned.put(name, "1", 3)
    assert own.client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 997
    provisioned.delete(name, "1")
    assert own.client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000


def test_a_function_that_does_not_initialise_has_failed(own):
    provisioned, name = Provisioned(own), own.make({"index.py": "raise SystemError('never')"})
    own.publish(name)
    provisioned.put(name, "1", 1)
    failed = provisioned.settled(name, "1")
    assert (failed["Status"], failed["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    assert numbers(failed) == [1, 0, 0]


def test_names_that_mean_nothing_that_can_be_provisioned(own):
    provisioned, name = Provisioned(own), own.make(HEALTHY)
    own.publish(name)
    with refused("InvalidParameterValueException", 400, UNPUBLISHED):
        provisioned.put(name, "$LATEST", 1)
    for operation in (provisioned.get, provisioned.delete):
        with refused("InvalidParameterValueException", 400, NOT_PUBLISHED):
            operation(name, "$LATEST")
    for operation in (provisioned.get, provisioned.delete, lambda *of: provisioned.put(*of, 1)):
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{name}:7"):
            operation(name, "7")
        with refused("ResourceNotFoundException", 404, f"Cannot find alias arn: {own.arn}{name}:live"):
            operation(name, "live")
        with refused("ResourceNotFoundException", 404):
            operation("missing", "1")
    with refused("ProvisionedConcurrencyConfigNotFoundException", 404, NONE):
        provisioned.get(name, "1")
    for _ in range(2):
        assert provisioned.delete(name, "1")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_version_has_one_who_provisions_it(own):
    provisioned, name = Provisioned(own), own.make(WHO)
    own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    provisioned.put(name, "1", 1)
    with refused("ResourceConflictException", 409, TAKEN):
        provisioned.put(name, "live", 1)
    provisioned.delete(name, "1")
    provisioned.put(name, "live", 1)
    with refused("ResourceConflictException", 409, "Version is pointed by a Provisioned Concurrency alias"):
        provisioned.put(name, "1", 1)


def test_an_alias_takes_its_environments_along(own):
    provisioned, name, call = Provisioned(own), own.make(WHO), caller(own.client)
    own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    provisioned.put(name, "live", 1)
    provisioned.settled(name, "live")
    second = own.publish(name, python("import os\nreturn [os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'], 'second']"))
    with refused("InvalidParameterValueException", 400, WEIGHTS):
        weights = {"AdditionalVersionWeights": {second: 0.5}}
        own.client.update_alias(FunctionName=name, Name="live", RoutingConfig=weights)
    own.client.update_alias(FunctionName=name, Name="live", FunctionVersion=second)
    eventually("the new version's", lambda: provisioned.get(name, "live")["Status"] == "READY")
    assert call(name, Qualifier="live").payload == ["provisioned-concurrency", "second"]
    listed = own.client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert [(one["FunctionArn"], numbers(one)) for one in listed] == [(f"{own.arn}{name}:live", [1, 1, 1])]
    own.client.delete_alias(FunctionName=name, Name="live")
    assert own.client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []


def test_weights_and_provisioned_concurrency_exclude_each_other(own):
    provisioned, name = Provisioned(own), own.make(HEALTHY)
    own.publish(name)
    second = own.publish(name, WHO)
    weights = {"AdditionalVersionWeights": {second: 0.5}}
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    with refused("InvalidParameterValueException", 400, WEIGHTS):
        provisioned.put(name, "live", 1)
    own.client.create_alias(FunctionName=name, Name="next", FunctionVersion="$LATEST")
    with refused("InvalidParameterValueException", 400, UNPUBLISHED):
        provisioned.put(name, "next", 1)


def test_what_is_provisioned_is_again_after_a_restart(start):
    server = start()
    functions = Functions(make_client(server))
    name = functions.make(WHO)
    functions.publish(name)
    Provisioned(functions).put(name, "1", 2)
    ready = Provisioned(functions).settled(name, "1")
    server.stop()
    server.start()
    functions = Functions(make_client(server))
    again = Provisioned(functions).settled(name, "1")
    assert (again["Status"], numbers(again), again["LastModified"]) == ("READY", [2, 2, 2], ready["LastModified"])
    assert caller(functions.client)(name, Qualifier="1").payload[0] == "provisioned-concurrency"
