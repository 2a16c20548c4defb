"""Aliases and their weights."""

import uuid

import pytest

from conftest import caller, wait_updated
from expect import refused
from packages import HEALTHY, python


@pytest.fixture
def two(own):
    """A function with the versions 1 and 2, which answer their numbers."""
    name = own.make(python("return 1"))
    own.publish(name)
    own.publish(name, python("return 2"))
    return name


def test_an_alias_is_answered_with_what_it_has(own, two):
    answer = own.client.create_alias(FunctionName=two, Name="live", FunctionVersion="1", Description="now")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    expected = {
        "AliasArn": own.arn + two + ":live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "now",
    }
    assert {key: answer[key] for key in expected} == expected
    assert "RoutingConfig" not in answer
    assert str(uuid.UUID(answer["RevisionId"])) == answer["RevisionId"]
    found = own.client.get_alias(FunctionName=two, Name="live")
    assert {key: found[key] for key in (*expected, "RevisionId")} == expected | {"RevisionId": answer["RevisionId"]}
    assert own.client.create_alias(FunctionName=two, Name="plain", FunctionVersion="$LATEST")["Description"] == ""


def test_an_alias_leads_to_its_version(own, two):
    call = caller(own.client)
    own.client.create_alias(FunctionName=two, Name="live", FunctionVersion="1")
    answer = call(two, Qualifier="live")
    assert (answer.payload, answer.version) == (1, "1")
    own.client.update_alias(FunctionName=two, Name="live", FunctionVersion="2")
    answer = call(f"{two}:live")
    assert (answer.payload, answer.version) == (2, "2")
    found = own.client.get_function(FunctionName=two, Qualifier="live")["Configuration"]
    assert (found["FunctionArn"], found["Version"]) == (own.arn + two + ":live", "2")
    found = own.client.get_function_configuration(FunctionName=own.arn + two + ":live")
    assert (found["FunctionArn"], found["Version"]) == (own.arn + two + ":live", "2")


def test_the_arn_in_the_context_names_the_alias(own):
    name = own.make(python("return context.invoked_function_arn"))
    own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert caller(own.client)(name, Qualifier="live").payload == own.arn + name + ":live"


def test_weights_choose_anew_for_each_call(own, two):
    call = caller(own.client)
    answer = own.client.create_alias(
        FunctionName=two,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    assert answer["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}
    seen = [call(two, Qualifier="live") for _ in range(60)]
    assert all(str(answer.payload) == answer.version for answer in seen)
    # All on one side: once in 2^59.
    assert {answer.version for answer in seen} == {"1", "2"}
    for weight, version in ((0.0, "1"), (1.0, "2")):
        own.client.update_alias(
            FunctionName=two, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": weight}}
        )
        assert {call(two, Qualifier="live").version for _ in range(10)} == {version}
    cleared = own.client.update_alias(FunctionName=two, Name="live", RoutingConfig={})
    assert "RoutingConfig" not in cleared
    assert {call(two, Qualifier="live").version for _ in range(10)} == {"1"}


@pytest.mark.parametrize(
    "version, weights, code, status, message",
    [
        (
            "1",
            {"2": 0.1, "3": 0.1},
            "InvalidParameterValueException",
            400,
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            "1",
            {"1": 0.5},
            "InvalidParameterValueException",
            400,
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            "$LATEST",
            {"1": 0.5},
            "InvalidParameterValueException",
            400,
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
        ("1", {"7": 0.5}, "ResourceNotFoundException", 404, "Function not found: {arn}:7"),
        ("7", {}, "ResourceNotFoundException", 404, "Function not found: {arn}:7"),
        (
            "1",
            {"2": -1.0},
            "ValidationException",
            400,
            "1 validation error detected: Value '{{2=-1.0}}' at 'routingConfig.additionalVersionWeights' failed to satisfy "
            "constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must "
            "have value greater than or equal to 0.0]",
        ),
        ("1", {"2": 1.1}, "ValidationException", 400, None),
        ("1", {"live": 0.5}, "ValidationException", 400, None),
    ],
)
def test_weights_that_cannot_be(own, two, version, weights, code, status, message):
    message = message and message.format(arn=own.arn + two)
    with refused(code, status, message):
        own.client.create_alias(
            FunctionName=two,
            Name="live",
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": weights},
        )
    with refused("ResourceNotFoundException", 404, f"Cannot find alias arn: {own.arn}{two}:live"):
        own.client.get_alias(FunctionName=two, Name="live")


def test_names(own, two):
    with refused("ValidationException", 400):
        own.client.create_alias(FunctionName=two, Name="42", FunctionVersion="1")
    longest = "a" * 128
    assert own.client.create_alias(FunctionName=two, Name=longest, FunctionVersion="1")["Name"] == longest
    with refused("ValidationException", 400):
        own.client.create_alias(FunctionName=two, Name="a" * 129, FunctionVersion="1")
    own.client.create_alias(FunctionName=two, Name="live", FunctionVersion="1")
    with refused("ResourceConflictException", 409, f"Alias already exists: {own.arn}{two}:live"):
        own.client.create_alias(FunctionName=two, Name="live", FunctionVersion="2")


def test_what_is_not_there(own, two):
    with refused("ResourceNotFoundException", 404, f"Cannot find alias arn: {own.arn}{two}:none"):
        own.client.get_alias(FunctionName=two, Name="none")
    with refused("ResourceNotFoundException", 404, f"Alias not found: {own.arn}{two}:none"):
        own.client.update_alias(FunctionName=two, Name="none", Description="x")
    for operation in (own.client.get_function, own.client.get_function_configuration, own.client.invoke):
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{two}:none"):
            operation(FunctionName=two, Qualifier="none")
    assert own.client.delete_alias(FunctionName=two, Name="none")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing"):
        own.client.create_alias(FunctionName="missing", Name="live", FunctionVersion="1")
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing"):
        own.client.list_aliases(FunctionName="missing")


def test_changes_name_the_revision_that_they_have_seen(own, two):
    made = own.client.create_alias(FunctionName=two, Name="live", FunctionVersion="1", Description="one")
    changed = own.client.update_alias(
        FunctionName=two, Name="live", FunctionVersion="2", RevisionId=made["RevisionId"]
    )
    assert (changed["FunctionVersion"], changed["Description"]) == ("2", "one")
    assert changed["RevisionId"] != made["RevisionId"]
    stale = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the "
        "latest Revision Id"
    )
    with refused("PreconditionFailedException", 412, stale):
        own.client.update_alias(FunctionName=two, Name="live", Description="x", RevisionId=made["RevisionId"])


def test_an_alias_changes_no_revision_of_function_or_version(own, two):
    def revisions():
        return [
            own.client.get_function_configuration(FunctionName=two, **qualifier)["RevisionId"]
            for qualifier in ({}, {"Qualifier": "1"})
        ]

    before = revisions()
    own.client.create_alias(FunctionName=two, Name="live", FunctionVersion="1")
    assert revisions() == before


def test_lists_are_paged_and_filtered(own, two):
    for name, version in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "$LATEST")):
        own.client.create_alias(FunctionName=two, Name=name, FunctionVersion=version)
    own.client.update_alias(FunctionName=two, Name="b", RoutingConfig={"AdditionalVersionWeights": {"1": 0.2}})

    def names(**settings):
        pages = own.client.get_paginator("list_aliases").paginate(
            FunctionName=two, PaginationConfig={"PageSize": 2}, **settings
        )
        return [alias["Name"] for page in pages for alias in page["Aliases"]]

    assert names() == ["a", "b", "c", "d"]
    assert names(FunctionVersion="2") == ["b"]
    assert names(FunctionVersion="1") == ["a", "b", "c"]
    assert names(FunctionVersion="$LATEST") == ["d"]


def test_versions_behind_an_alias_stay(own, two):
    own.client.create_alias(
        FunctionName=two, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}}
    )
    for version in ("1", "2"):
        with refused("ResourceConflictException", 409):
            own.client.delete_function(FunctionName=two, Qualifier=version)
    own.client.delete_alias(FunctionName=two, Name="live")
    for version in ("1", "2"):
        own.client.delete_function(FunctionName=two, Qualifier=version)


def test_two_versions_behind_an_alias_have_one_role(own):
    name = own.make(HEALTHY)
    own.publish(name)
    own.client.update_function_configuration(FunctionName=name, Role="arn:aws:iam::000000000000:role/other")
    wait_updated(own.client, name)
    own.publish(name)
    with refused("InvalidParameterValueException", 400):
        own.client.create_alias(
            FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}}
        )
