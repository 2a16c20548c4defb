"""Versions: publication, preconditions, immutability, deletion."""

import urllib.request
import uuid

import pytest

from conftest import ROLE, caller, wait_active, wait_updated
from expect import refused
from packages import HEALTHY, python, zipped

SAYS = python("import os\nreturn [os.environ.get('WHO'), os.environ['AWS_LAMBDA_FUNCTION_VERSION'], context.invoked_function_arn]")
STATES = ("State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason", "RuntimeVersionConfig")


def code(n):
    return python(f"return {n}")


def test_a_publication_answers_the_version(own):
    name = own.make(HEALTHY, Description="first")
    before = own.client.get_function_configuration(FunctionName=name)
    answer = own.client.publish_version(FunctionName=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert answer["Version"] == "1"
    assert answer["FunctionArn"] == own.arn + name + ":1"
    assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in answer and "LastUpdateStatusReason" not in answer
    assert answer["Description"] == "first"
    assert answer["CodeSha256"] == before["CodeSha256"]
    assert answer["RevisionId"] != before["RevisionId"]
    after = own.client.get_function_configuration(FunctionName=name)
    assert after["RevisionId"] not in (before["RevisionId"], answer["RevisionId"])
    same = {key: value for key, value in before.items() if key not in ("RevisionId", "ResponseMetadata")}
    assert {key: after.get(key) for key in same} == same


def test_a_description_of_its_own_goes_to_the_version_alone(own):
    name = own.make(HEALTHY, Description="function")
    assert own.client.publish_version(FunctionName=name, Description="version")["Description"] == "version"
    assert own.client.get_function_configuration(FunctionName=name)["Description"] == "function"
    assert own.client.get_function_configuration(FunctionName=name, Qualifier="1")["Description"] == "version"


def test_unchanged_code_and_configuration_is_the_same_version_again(own):
    name = own.make(HEALTHY)
    first = own.client.publish_version(FunctionName=name)
    again = own.client.publish_version(FunctionName=name, Description="other")
    assert again["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (again["Version"], again["RevisionId"], again["Description"]) == ("1", first["RevisionId"], "")
    own.client.update_function_configuration(FunctionName=name, Timeout=9)
    wait_updated(own.client, name)
    assert own.publish(name) == "2"
    assert own.publish(name, code(2)) == "3"


def test_preconditions(own):
    name = own.make(HEALTHY)
    found = own.client.get_function_configuration(FunctionName=name)
    text = (
        f"CodeSHA256 (wrong) is different from current CodeSHA256 in $LATEST ({found['CodeSha256']}). Please try again with "
        "the CodeSHA256 in $LATEST."
    )
    with refused("InvalidParameterValueException", 400, text):
        own.client.publish_version(FunctionName=name, CodeSha256="wrong")
    stale = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the "
        "latest Revision Id"
    )
    with refused("PreconditionFailedException", 412, stale):
        own.client.publish_version(FunctionName=name, RevisionId=str(uuid.uuid4()))
    answer = own.client.publish_version(
        FunctionName=name, CodeSha256=found["CodeSha256"], RevisionId=found["RevisionId"]
    )
    assert answer["Version"] == "1"


def test_lists_begin_with_latest_and_ascend(own):
    name = own.make(code(0))
    for n in range(1, 4):
        own.publish(name, code(n))
    listed = own.client.list_versions_by_function(FunctionName=name)
    assert [version["Version"] for version in listed["Versions"]] == ["$LATEST", "1", "2", "3"]
    assert [version["FunctionArn"] for version in listed["Versions"]] == [
        own.arn + name + ":" + version for version in ("$LATEST", "1", "2", "3")
    ]
    assert "NextMarker" not in listed
    assert not any(member in version for member in STATES for version in listed["Versions"])
    pages = own.client.get_paginator("list_versions_by_function").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 2}
    )
    pages = [[version["Version"] for version in page["Versions"]] for page in pages]
    assert pages == [["$LATEST", "1"], ["2", "3"]]


def test_lists_of_functions_with_every_version(own):
    names = sorted(own.make(code(n), wait=False) for n in range(3))
    for name in names:
        wait_active(own.client, name)
        own.publish(name)
    plain = own.client.list_functions()["Functions"]
    assert [row["FunctionArn"] for row in plain] == [own.arn + name for name in names]
    expected = [own.arn + f"{name}:{version}" for name in names for version in ("$LATEST", "1")]
    for size in (1, 2, 3, 5, 50):
        pages = own.client.get_paginator("list_functions").paginate(
            FunctionVersion="ALL", PaginationConfig={"PageSize": size}
        )
        rows = [page["Functions"] for page in pages]
        assert [row["FunctionArn"] for page in rows for row in page] == expected
        assert all(len(page) == size for page in rows[:-1])
    assert own.client.list_functions(FunctionVersion="ALL", MasterRegion="us-east-1")["Functions"] == []
    with refused("ValidationException", 400):
        own.client.list_functions(FunctionVersion="SOME")


def test_each_version_keeps_its_code_and_its_environment(own):
    call = caller(own.client)
    name = own.make(SAYS, Environment={"Variables": {"WHO": "one"}})
    own.publish(name)
    own.client.update_function_configuration(FunctionName=name, Environment={"Variables": {"WHO": "two"}})
    wait_updated(own.client, name)
    own.publish(name)
    own.client.update_function_configuration(FunctionName=name, Environment={"Variables": {"WHO": "latest"}})
    wait_updated(own.client, name)
    arn = own.arn + name
    for _ in range(3):
        for qualifier, who in (("1", "one"), ("2", "two"), ("$LATEST", "latest")):
            answer = call(name, Qualifier=qualifier)
            assert answer.version == qualifier
            assert answer.headers["x-amz-executed-version"] == qualifier
            assert answer.payload == [who, qualifier, f"{arn}:{qualifier}"]
    assert call(name).payload == ["latest", "$LATEST", arn]
    assert call(f"{name}:1").payload == ["one", "1", f"{arn}:1"]
    found = own.client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert found["Environment"] == {"Variables": {"WHO": "one"}}


def test_creation_with_publish(own):
    name = f"f-{uuid.uuid4().hex[:12]}"
    answer = own.client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=ROLE,
        Code={"ZipFile": zipped(HEALTHY)},
        Publish=True,
    )
    own.made.append(name)
    assert (answer["Version"], answer["FunctionArn"], answer["State"]) == ("1", own.arn + name, "Pending")
    own.client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 0.05, "MaxAttempts": 600}
    )
    assert caller(own.client)(name, 1, Qualifier="1").payload == {"healthy": 1}


def test_an_update_with_publish(own):
    name = own.make(code(1))
    answer = own.client.update_function_code(FunctionName=name, ZipFile=zipped(code(2)), Publish=True)
    assert (answer["Version"], answer["FunctionArn"]) == ("1", own.arn + name + ":1")
    wait_updated(own.client, name)
    assert caller(own.client)(name, Qualifier="1").payload == 2
    again = own.client.update_function_code(FunctionName=name, ZipFile=zipped(code(2)), Publish=True)
    assert again["Version"] == "1"


def test_numbers_are_not_given_twice(own):
    name = own.make(code(0))
    own.publish(name)
    own.publish(name, code(1))
    assert own.client.delete_function(FunctionName=name, Qualifier="2")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert own.publish(name) == "3"
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{name}:2"):
        own.client.get_function(FunctionName=name, Qualifier="2")
    # Of a version that is not there: nothing to do.
    assert own.client.delete_function(FunctionName=name, Qualifier="2")["ResponseMetadata"]["HTTPStatusCode"] == 204


@pytest.mark.parametrize(
    "qualifier, status, message",
    [
        ("$LATEST", 400, "$LATEST version cannot be deleted without deleting the function."),
        ("live", 400, "Deletion of aliases is not currently supported."),
    ],
)
def test_what_cannot_be_deleted(own, qualifier, status, message):
    name = own.make(HEALTHY)
    with refused("InvalidParameterValueException", status, message):
        own.client.delete_function(FunctionName=name, Qualifier=qualifier)


def test_deletion_of_what_is_not_there(own):
    for settings in ({}, {"Qualifier": "1"}):
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing"):
            own.client.delete_function(FunctionName="missing", **settings)


def test_a_function_goes_with_its_versions(own):
    name = own.make(HEALTHY)
    own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    own.client.delete_function(FunctionName=name)
    for qualifier in ("1", "live"):
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{name}:{qualifier}"):
            own.client.get_function(FunctionName=name, Qualifier=qualifier)
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{name}:{qualifier}"):
            own.client.invoke(FunctionName=name, Qualifier=qualifier)


def test_while_an_update_runs_another_waits_for_its_turn(own):
    name = own.make(HEALTHY)
    answer = own.client.update_function_configuration(FunctionName=name, Description="one")
    assert (answer["LastUpdateStatus"], answer["LastUpdateStatusReasonCode"]) == ("InProgress", "Creating")
    assert (answer["State"], answer["LastUpdateStatusReason"]) == ("Active", "The function is being created.")
    wait_updated(own.client, name)
    after = own.client.get_function_configuration(FunctionName=name)
    assert after["RevisionId"] != answer["RevisionId"] and after["LastUpdateStatus"] == "Successful"


def test_packages_of_versions_download_each_as_it_was(own):
    packages = [zipped(code(1)), zipped(code(2))]
    name = own.make(packages[0])
    own.publish(name)
    own.client.update_function_code(FunctionName=name, ZipFile=packages[1])
    wait_updated(own.client, name)
    for qualifier, package in (("1", packages[0]), ("$LATEST", packages[1])):
        code_of = own.client.get_function(FunctionName=name, Qualifier=qualifier)["Code"]
        with urllib.request.urlopen(code_of["Location"], timeout=10) as answer:
            assert answer.read() == package
