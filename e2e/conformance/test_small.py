"""Tags, recursion, runtime management and code signing."""

import re
import uuid

import pytest

from conftest import ROLE, wait_updated
from expect import refused
from packages import HEALTHY, python, zipped


def test_tags_come_and_go(own):
    name = own.make(HEALTHY, Tags={"a": "1"})
    arn = own.arn + name
    assert own.client.list_tags(Resource=arn)["Tags"] == {"a": "1"}
    before = own.client.get_function_configuration(FunctionName=name)["RevisionId"]
    answer = own.client.tag_resource(Resource=arn, Tags={"b": "2", "a": "3"})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert own.client.list_tags(Resource=arn)["Tags"] == {"a": "3", "b": "2"}
    assert own.client.get_function(FunctionName=name)["Tags"] == {"a": "3", "b": "2"}
    assert own.client.get_function_configuration(FunctionName=name)["RevisionId"] != before
    answer = own.client.untag_resource(Resource=arn, TagKeys=["a", "unknown"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    own.client.untag_resource(Resource=arn, TagKeys=["b"])
    assert own.client.list_tags(Resource=arn)["Tags"] == {}
    assert "Tags" not in own.client.get_function(FunctionName=name)


def test_fifty_tags_are_the_most(own):
    name = own.make(HEALTHY, Tags={f"k{n}": "v" for n in range(49)})
    arn = own.arn + name
    own.client.tag_resource(Resource=arn, Tags={"k49": "v", "k0": "w"})
    limit = "Number of tags exceeds resource tag limit."
    with refused("InvalidParameterValueException", 400, limit):
        own.client.tag_resource(Resource=arn, Tags={"k50": "v"})
    with refused("InvalidParameterValueException", 400, limit):
        own.make(HEALTHY, Tags={f"k{n}": "v" for n in range(51)})


def test_tags_that_cannot_be(own):
    name = own.make(HEALTHY)
    own.publish(name)
    arn = own.arn + name
    with refused("InvalidParameterValueException", 400, "An error occurred and the request cannot be processed."):
        own.client.tag_resource(Resource=arn, Tags={})
    no_keys = (
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
    )
    with refused("ValidationException", 400, no_keys):
        own.client.untag_resource(Resource=arn, TagKeys=[])
    functions = "Tags on function aliases and versions are not supported. Please specify a function ARN."
    for qualified in (arn + ":1", arn + ":live", arn + ":$LATEST"):
        for operation in (
            lambda: own.client.tag_resource(Resource=qualified, Tags={"a": "b"}),
            lambda: own.client.list_tags(Resource=qualified),
            lambda: own.client.untag_resource(Resource=qualified, TagKeys=["a"]),
        ):
            with refused("InvalidParameterValueException", 400, functions):
                operation()


def test_tags_of_what_is_not_there(own):
    base = f"arn:aws:lambda:us-east-1:{own.account}:"
    mapping = f"{base}event-source-mapping:{uuid.uuid4()}"
    for arn, message in (
        (own.arn + "missing", f"Function not found: {own.arn}missing"),
        (mapping, f"Event source mapping not found: {mapping}"),
        (base + "capacity-provider:none", f"Capacity provider not found: {base}capacity-provider:none"),
    ):
        with refused("ResourceNotFoundException", 404, message):
            own.client.list_tags(Resource=arn)
        with refused("ResourceNotFoundException", 404, message):
            own.client.tag_resource(Resource=arn, Tags={"a": "b"})


def test_recursion(own):
    name = own.make(HEALTHY)
    assert own.client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    answer = own.client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    assert answer["RecursiveLoop"] == "Allow"
    assert own.client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
    with refused("ValidationException", 400):
        own.client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Perhaps")
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing"):
        own.client.get_function_recursion_config(FunctionName="missing")


def test_runtime_management(own):
    name = own.make(HEALTHY)
    own.publish(name)
    arn = own.arn + name
    runtime = own.client.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]["RuntimeVersionArn"]
    found = own.client.get_runtime_management_config(FunctionName=name)
    assert (found["UpdateRuntimeOn"], found["FunctionArn"]) == ("Auto", arn)
    assert "RuntimeVersionArn" not in found
    put = own.client.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="FunctionUpdate")
    assert (put["UpdateRuntimeOn"], put["FunctionArn"]) == ("FunctionUpdate", arn)
    put = own.client.put_runtime_management_config(
        FunctionName=name, Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=runtime
    )
    assert put["FunctionArn"] == arn + ":1"
    found = own.client.get_runtime_management_config(FunctionName=name, Qualifier="1")
    assert (found["UpdateRuntimeOn"], found["RuntimeVersionArn"]) == ("Manual", runtime)
    assert own.client.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"] == "FunctionUpdate"
    with refused("InvalidParameterValueException", 400):
        own.client.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="Manual")
    with refused("ValidationException", 400):
        own.client.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="Never")
    with refused("ResourceNotFoundException", 404, f"Function not found: {arn}:9"):
        own.client.get_runtime_management_config(FunctionName=name, Qualifier="9")


PROFILE = "arn:aws:signer:us-east-1:123456789012:/signing-profiles/p/0123456789"


def config(own, policy=None, **settings):
    policies = {"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": policy}} if policy else {}
    answer = own.client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PROFILE]}, **policies, **settings
    )
    return answer["CodeSigningConfig"]


def test_a_code_signing_configuration(own):
    made = config(own, Description="mine")
    assert re.fullmatch(r"csc-[a-z0-9]{17}", made["CodeSigningConfigId"])
    arn = f"arn:aws:lambda:us-east-1:{own.account}:code-signing-config:{made['CodeSigningConfigId']}"
    assert made["CodeSigningConfigArn"] == arn
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert made["AllowedPublishers"] == {"SigningProfileVersionArns": [PROFILE]}
    assert made["Description"] == "mine"
    assert own.client.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == made
    changed = own.client.update_code_signing_config(
        CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"}
    )["CodeSigningConfig"]
    assert changed["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert changed["Description"] == "mine"
    other = config(own)
    pages = own.client.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 1})
    listed = [found["CodeSigningConfigArn"] for page in pages for found in page["CodeSigningConfigs"]]
    assert sorted(listed) == sorted([arn, other["CodeSigningConfigArn"]])
    own.client.tag_resource(Resource=arn, Tags={"a": "b"})
    assert own.client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    answer = own.client.delete_code_signing_config(CodeSigningConfigArn=arn)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    gone = f"The Lambda code signing configuration {arn} can not be found."
    for operation in (
        own.client.get_code_signing_config,
        own.client.update_code_signing_config,
        own.client.delete_code_signing_config,
        own.client.list_functions_by_code_signing_config,
    ):
        with refused("ResourceNotFoundException", 404, gone):
            operation(CodeSigningConfigArn=arn)


def test_functions_have_a_code_signing_configuration(own):
    name = own.make(HEALTHY)
    assert set(own.client.get_function_code_signing_config(FunctionName=name)) == {"ResponseMetadata"}
    arn = config(own)["CodeSigningConfigArn"]
    for answer in (
        own.client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn),
        own.client.get_function_code_signing_config(FunctionName=name),
    ):
        assert (answer["CodeSigningConfigArn"], answer["FunctionName"]) == (arn, name)
    created = own.make(HEALTHY, CodeSigningConfigArn=arn)
    listed = own.client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"]
    assert listed == sorted([own.arn + name, own.arn + created])
    with refused("ResourceConflictException", 409):
        own.client.delete_code_signing_config(CodeSigningConfigArn=arn)
    for function in (name, created):
        for _ in range(2):
            answer = own.client.delete_function_code_signing_config(FunctionName=function)
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    own.client.delete_code_signing_config(CodeSigningConfigArn=arn)
    gone = (
        "The code signing configuration cannot be found. Check that the provided configuration is not deleted: " + arn + "."
    )
    with refused("CodeSigningConfigNotFoundException", 404, gone):
        own.client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)


@pytest.mark.parametrize("policy", ["Warn", "Enforce"])
def test_unsigned_packages(own, policy):
    arn = config(own, policy)["CodeSigningConfigArn"]
    name = own.make(HEALTHY)
    own.client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)
    update = {"FunctionName": name, "ZipFile": zipped(python("return 2"))}
    creation = {
        "FunctionName": f"f-{uuid.uuid4().hex[:12]}",
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": zipped(HEALTHY)},
        "CodeSigningConfigArn": arn,
    }
    if policy == "Warn":
        own.client.update_function_code(**update)
        own.client.create_function(**creation)
        own.made.append(creation["FunctionName"])
    else:
        for operation, settings in (
            (own.client.update_function_code, update),
            (own.client.create_function, creation),
        ):
            with refused("CodeVerificationFailedException", 400):
                operation(**settings)


def test_json_logs_have_levels_and_text_has_none(own):
    name = own.make(HEALTHY, LoggingConfig={"LogFormat": "JSON"})

    def logging():
        return own.client.get_function_configuration(FunctionName=name)["LoggingConfig"]

    group = f"/aws/lambda/{name}"
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    assert logging() == {"LogFormat": "JSON", "LogGroup": group} | levels
    own.client.update_function_configuration(FunctionName=name, LoggingConfig={"SystemLogLevel": "WARN"})
    wait_updated(own.client, name)
    assert logging() == {"LogFormat": "JSON", "LogGroup": group} | levels | {"SystemLogLevel": "WARN"}
    own.client.update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "Text"})
    wait_updated(own.client, name)
    assert logging() == {"LogFormat": "Text", "LogGroup": group}
    with refused("InvalidParameterValueException", 400):
        own.client.update_function_configuration(FunctionName=name, LoggingConfig={"SystemLogLevel": "WARN"})


def test_functions_for_another_architecture_are_made_and_published_but_do_not_run_here(own):
    name = own.make(HEALTHY, Architectures=["arm64"])
    assert own.client.publish_version(FunctionName=name)["Architectures"] == ["arm64"]
    with refused("InvalidRuntimeException", 502, re.compile("Functions for arm64 cannot run on this host")):
        own.client.invoke(FunctionName=name)
