"""What `hearth coverage` says is what routing does."""

import json
import re

import pytest

from conftest import make_client
from hearth import scope


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
    assert sorted(services) == ["iam", "lambda", "logs", "s3", "sqs", "sts"]
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


@pytest.mark.parametrize(
    "group",
    [
        ("PublishVersion", "ListVersionsByFunction"),
        ("CreateAlias", "UpdateAlias", "GetAlias", "ListAliases", "DeleteAlias"),
        ("ListLayers", "ListLayerVersions", "GetLayerVersion", "GetLayerVersionByArn", "DeleteLayerVersion"),
        ("AddPermission", "RemovePermission", "GetPolicy"),
        ("GetResourcePolicy", "PutResourcePolicy", "DeleteResourcePolicy"),
        ("ListTags", "TagResource", "UntagResource"),
        ("PutFunctionConcurrency", "GetFunctionConcurrency", "DeleteFunctionConcurrency"),
    ],
)
def test_every_parameter_is_accounted_for(server, told, group):
    model = make_client(server).meta.service_model
    for name in group:
        shape = model.operation_model(name).input_shape
        parameters = {parameter["name"].split(".")[0] for parameter in told[name]["parameters"]}
        assert parameters == set(shape.members), name
