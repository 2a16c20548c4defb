"""What `hearth coverage` says is what routing does."""

import json
import re

import pytest
from botocore import xform_name

from conftest import ROLE, make_client
from expect import refused
from hearth import scope
from packages import HEALTHY, zipped


@pytest.fixture(scope="module")
def services(server):
    """Status of each operation of each service."""
    document = json.loads(server.request("GET", "/_hearth/v1/coverage")[2])
    named = lambda service: {operation["operation"]: operation for operation in service["operations"]}
    return {service["service"]: named(service) for service in document["services"]}


@pytest.fixture(scope="module")
def told(services):
    return services["lambda"]


def test_every_operation_of_the_sdk_is_told_of(server, services):
    assert sorted(services) == ["iam", "lambda", "logs", "s3", "scheduler", "sqs", "sts"]
    for service, operations in services.items():
        assert sorted(make_client(server, service).meta.service_model.operation_names) == sorted(operations)


def test_an_operation_refuses_by_name_exactly_when_it_is_told_to(server, told):
    model = make_client(server).meta.service_model
    for name, operation in told.items():
        http = model.operation_model(name).http
        path = re.sub(r"\{[^}]*\}", "x1", http["requestUri"])
        body = None if http["method"] in ("GET", "DELETE") else b"{}"
        status, headers, answer = server.lambda_request(http["method"], path, body, account="999999999999")
        by_name = status == 501 and f"Hearth does not support lambda:{name}." == json.loads(answer)["message"]
        assert by_name == (operation["status"] == "refused"), (name, status, answer)
        assert not by_name or headers["x-amzn-errortype"] == "NotImplementedException"


@pytest.mark.parametrize("service", ["iam", "sts"])
def test_an_operation_by_form_refuses_by_name_exactly_when_it_is_told_to(server, services, service):
    model = make_client(server, service).meta.service_model
    headers = scope(service, "999999999999") | {"Content-Type": "application/x-www-form-urlencoded"}
    for name, operation in services[service].items():
        form = f"Action={name}&Version={model.api_version}"
        status, _, answer = server.request("POST", "/", form, headers)
        by_name = status == 501 and f"<Message>Hearth does not support {service}:{name}.</Message>".encode() in answer
        assert by_name == (operation["status"] == "refused"), (name, status, answer)
        shape = model.operation_model(name).input_shape
        if operation["status"] != "refused":
            assert {parameter["name"] for parameter in operation["parameters"]} == set(shape.members if shape else ())


# Whole groups of the control plane: functions, code, versions, aliases, layers, policies, tags, code signing, runtime management,
# reserved concurrency, recursion, account; and what invokes.
GROUPS = {
    "functions": "CreateFunction GetFunction GetFunctionConfiguration ListFunctions UpdateFunctionConfiguration DeleteFunction",
    "code": "UpdateFunctionCode",
    "versions": "PublishVersion ListVersionsByFunction",
    "aliases": "CreateAlias UpdateAlias GetAlias ListAliases DeleteAlias",
    "layers": "PublishLayerVersion ListLayers ListLayerVersions GetLayerVersion GetLayerVersionByArn DeleteLayerVersion "
    "AddLayerVersionPermission RemoveLayerVersionPermission GetLayerVersionPolicy",
    "policies": "AddPermission RemovePermission GetPolicy GetResourcePolicy PutResourcePolicy DeleteResourcePolicy",
    "tags": "ListTags TagResource UntagResource",
    "code signing": "CreateCodeSigningConfig UpdateCodeSigningConfig GetCodeSigningConfig DeleteCodeSigningConfig "
    "ListCodeSigningConfigs ListFunctionsByCodeSigningConfig PutFunctionCodeSigningConfig GetFunctionCodeSigningConfig "
    "DeleteFunctionCodeSigningConfig",
    "runtime management": "GetRuntimeManagementConfig PutRuntimeManagementConfig",
    "reserved concurrency": "PutFunctionConcurrency GetFunctionConcurrency DeleteFunctionConcurrency",
    "recursion": "GetFunctionRecursionConfig PutFunctionRecursionConfig",
    "account": "GetAccountSettings",
    "invoke": "Invoke InvokeAsync InvokeWithResponseStream",
}


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_parameter_is_accounted_for(server, told, group):
    model = make_client(server).meta.service_model
    for name in GROUPS[group].split():
        shape = model.operation_model(name).input_shape
        members = {}
        for parameter in told[name]["parameters"]:
            member, _, below = parameter["name"].partition(".")
            members.setdefault(member, set()).add(below)
            assert parameter["status"] in ("works", "kept", "refused"), parameter
        assert members.keys() == set(shape.members), name
        # Of a structure either the whole is told of, or every member.
        for member, below in members.items():
            assert below == {""} or below == set(shape.members[member].members), (name, member)
        assert told[name]["complete"], name
        # What does less says why, or what it is a part of.
        silent = [each for each in told[name]["parameters"] if each["status"] != "works" and not each.get("note")]
        assert not silent and (told[name]["status"] == "works") == all(each["status"] == "works" for each in told[name]["parameters"])


PROVIDER = "arn:aws:lambda:us-east-1:000000000000:capacity-provider:p"
RUNTIME = "arn:aws:lambda:us-east-1:000000000000:runtime/mine/version/1"
VALUES = {
    "PublishTo": "LATEST_PUBLISHED",
    "CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": PROVIDER}},
    "DurableConfig": {"ExecutionTimeout": 60},
    "RuntimeConfig": {"RuntimeArn": RUNTIME, "RuntimeAlias": "live"},
    "AcceleratorConfig": {"AcceleratorMemorySize": 8},
    "DurableExecutionName": "one",
    "TenantId": "blue",
}


def test_a_parameter_that_is_told_to_be_refused_is_refused_by_name(own, told):
    name = own.make(HEALTHY)
    function = {"FunctionName": name}
    whole = {
        "CreateFunction": {
            "FunctionName": "new",
            "Runtime": "python3.11",
            "Handler": "index.handler",
            "Role": ROLE,
            "Code": {"ZipFile": zipped(HEALTHY)},
        },
        "UpdateFunctionCode": function | {"ZipFile": zipped(HEALTHY)},
    }
    seen = 0
    for operation in " ".join(GROUPS.values()).split():
        for parameter in told[operation]["parameters"]:
            if parameter["status"] != "refused":
                continue
            member, _, below = parameter["name"].partition(".")
            given, value = whole.get(operation, function), VALUES[parameter["name"]]
            given = given | {member: given[member] | {below: value} if below else value}
            text = f"Hearth does not support lambda:{operation} with {parameter['name']}."
            with refused("NotImplementedException", 501, text):
                getattr(own.client, xform_name(operation))(**given)
            seen += 1
    assert seen
    found = own.client.list_functions()["Functions"]
    assert [function["FunctionName"] for function in found] == [name]
