"""Configurations of function URLs."""

import re

import pytest

from expect import refused
from packages import HEALTHY, python
from urls import create

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
CORS = {
    "AllowCredentials": True,
    "AllowHeaders": ["x-a"],
    "AllowMethods": ["GET", "PUT"],
    "AllowOrigins": ["https://a.example"],
    "ExposeHeaders": ["x-b"],
    "MaxAge": 60,
}


@pytest.fixture
def name(own):
    return own.make(HEALTHY)


@pytest.fixture
def live(own, name):
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion=own.publish(name))
    return name


def test_a_url_is_answered_with_what_it_has(own, server, name):
    answer = own.client.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=CORS)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    url = rf"http://[0-9a-z]{{32}}\.lambda-url\.us-east-1\.localhost:{server.port}/"
    assert re.fullmatch(url, answer["FunctionUrl"])
    assert TIME.match(answer["CreationTime"])
    assert (answer["AuthType"], answer["FunctionArn"], answer["Cors"]) == ("NONE", own.arn + name, CORS)
    assert "InvokeMode" not in answer and "LastModifiedTime" not in answer
    found = own.client.get_function_url_config(FunctionName=name)
    assert (found["InvokeMode"], found["LastModifiedTime"]) == ("BUFFERED", answer["CreationTime"])
    for member in ("FunctionUrl", "FunctionArn", "AuthType", "Cors", "CreationTime"):
        assert found[member] == answer[member]
    listed = own.client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    assert listed == [{key: value for key, value in found.items() if key != "ResponseMetadata"}]


def test_the_mode_is_answered_to_who_gave_it(own, name):
    answer = own.client.create_function_url_config(FunctionName=name, AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM")
    assert answer["InvokeMode"] == "RESPONSE_STREAM"


def test_an_update_changes_what_it_names(own, name):
    made = own.client.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=CORS)
    changed = own.client.update_function_url_config(FunctionName=name, AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM")
    assert (changed["AuthType"], changed["InvokeMode"], changed["Cors"]) == ("AWS_IAM", "RESPONSE_STREAM", CORS)
    assert (changed["FunctionUrl"], changed["CreationTime"]) == (made["FunctionUrl"], made["CreationTime"])
    assert changed["LastModifiedTime"] > made["CreationTime"]
    changed = own.client.update_function_url_config(FunctionName=name, Cors={"AllowOrigins": ["*"]})
    assert (changed["AuthType"], changed["Cors"]) == ("AWS_IAM", {"AllowOrigins": ["*"]})
    assert "Cors" not in own.client.update_function_url_config(FunctionName=name, Cors={})


def test_there_is_one_for_the_function_and_one_for_each_alias(own, live):
    plain = create(own.client, live, let=False)
    alias = create(own.client, live, let=False, qualifier="live")
    assert plain.id != alias.id
    found = own.client.get_function_url_config(FunctionName=f"{live}:live")
    assert (found["FunctionArn"], found["FunctionUrl"]) == (own.arn + live + ":live", alias.text)
    for qualifier, arn in ((None, own.arn + live), ("live", own.arn + live + ":live")):
        message = (
            f"Failed to create function url config for [functionArn = {arn}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function"
        )
        with refused("ResourceConflictException", 409, message):
            create(own.client, live, let=False, qualifier=qualifier)
    pages = own.client.get_paginator("list_function_url_configs").paginate(
        FunctionName=live, PaginationConfig={"PageSize": 1}
    )
    listed = [[url["FunctionUrl"] for url in page["FunctionUrlConfigs"]] for page in pages]
    assert listed == [[plain.text], [alias.text]]
    own.client.delete_function_url_config(FunctionName=live)
    assert own.client.get_function_url_config(FunctionName=live, Qualifier="live")["FunctionUrl"] == alias.text
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        own.client.get_function_url_config(FunctionName=live)


def test_it_goes_with_its_alias_and_with_its_function(own, live):
    create(own.client, live, let=False, qualifier="live")
    own.client.delete_alias(FunctionName=live, Name="live")
    own.client.create_alias(FunctionName=live, Name="live", FunctionVersion="1")
    gone = "The resource you requested does not exist."
    with refused("ResourceNotFoundException", 404, gone):
        own.client.get_function_url_config(FunctionName=live, Qualifier="live")
    first = create(own.client, live, let=False)
    own.client.delete_function(FunctionName=live)
    with refused("ResourceNotFoundException", 404, gone):
        own.client.get_function_url_config(FunctionName=live)
    own.make(HEALTHY, FunctionName=live)
    with refused("ResourceNotFoundException", 404, gone):
        own.client.get_function_url_config(FunctionName=live)
    assert create(own.client, live, let=False).id != first.id


def test_what_is_not_there_is_told_as_by_the_service(own, name):
    client = own.client
    for call in (
        lambda: client.create_function_url_config(FunctionName="nobody", AuthType="NONE"),
        lambda: client.update_function_url_config(FunctionName="nobody", AuthType="NONE"),
        lambda: client.list_function_url_configs(FunctionName="nobody"),
        lambda: client.create_function_url_config(FunctionName=name, Qualifier="nobody", AuthType="NONE"),
    ):
        with refused("ResourceNotFoundException", 404, "Function does not exist"):
            call()
    for call in (
        lambda: client.get_function_url_config(FunctionName="nobody"),
        lambda: client.delete_function_url_config(FunctionName="nobody"),
        lambda: client.get_function_url_config(FunctionName=name),
        lambda: client.update_function_url_config(FunctionName=name),
        lambda: client.delete_function_url_config(FunctionName=name),
    ):
        with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            call()
    with refused("AccessDeniedException", 403):
        client.get_function_url_config(FunctionName=f"arn:aws:lambda:us-east-1:999999999999:function:{name}")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"AuthType": "OPEN"}, re.compile("Value 'OPEN' at 'authType' failed to satisfy constraint: Member must satisfy enum value set")),
        ({"AuthType": None}, re.compile("Value null at 'authType' failed to satisfy constraint: Member must not be null")),
        ({"Qualifier": "$LATEST"}, re.compile("at 'qualifier' failed to satisfy constraint")),
        ({"Qualifier": "1"}, re.compile("at 'qualifier' failed to satisfy constraint")),
        ({"InvokeMode": "FAST"}, re.compile("at 'invokeMode' failed to satisfy constraint")),
        ({"Cors": {"MaxAge": 86401}}, re.compile("at 'cors.maxAge' failed to satisfy constraint: Member must have value less than or equal to 86400")),
        ({"Cors": {"AllowMethods": ["OPTIONS"]}}, re.compile("at 'cors.allowMethods")),
    ],
)
def test_constraints_of_the_model(own, name, settings, message):
    given = {"FunctionName": name, "AuthType": "NONE"} | settings
    with refused("ValidationException", 400, message):
        own.client.create_function_url_config(**{key: value for key, value in given.items() if value is not None})


def test_permissions_for_urls_are_stored_as_aws_stores_them(own, name):
    client = own.client
    with refused(
        "InvalidParameterValueException", 400, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"
    ):
        client.add_permission(
            FunctionName=name,
            StatementId="s",
            Action="lambda:InvokeFunction",
            Principal="*",
            FunctionUrlAuthType="NONE",
        )
    create(client, name)
    policy = client.get_policy(FunctionName=name)["Policy"]
    assert '"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}' in policy
    assert '"Bool":{"lambda:InvokedViaFunctionUrl":"true"}' in policy


def test_they_outlast_a_restart(start):
    from conftest import Functions, make_client

    server = start()
    functions = Functions(make_client(server))
    name = functions.make(python("return 'back'"))
    url = create(functions.client, name)
    assert url.request().text == "back"
    server.stop()
    again = start("--listen", f"127.0.0.1:{url.parts.port}")
    assert url.request().text == "back"
    assert make_client(again).get_function_url_config(FunctionName=name)["FunctionUrl"] == url.text
