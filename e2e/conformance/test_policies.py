"""Resource policies of functions, versions and aliases: by statement, and whole."""

import json
import uuid

import pytest

from conftest import make_client
from expect import refused
from packages import HEALTHY


@pytest.fixture
def name(own):
    name = own.make(HEALTHY)
    own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def add(own, name, sid="s", **settings):
    whole = {"FunctionName": name, "StatementId": sid, "Action": "lambda:InvokeFunction"} | settings
    answer = own.client.add_permission(**({"Principal": "s3.amazonaws.com"} | whole))
    return json.loads(answer["Statement"])


@pytest.mark.parametrize(
    "principal, written",
    [
        ("s3.amazonaws.com", {"Service": "s3.amazonaws.com"}),
        ("123456789012", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("arn:aws:iam::123456789012:role/r", {"AWS": "arn:aws:iam::123456789012:role/r"}),
        ("arn:aws:iam::123456789012:user/u", {"AWS": "arn:aws:iam::123456789012:user/u"}),
        ("*", "*"),
    ],
)
def test_principals(own, name, principal, written):
    assert add(own, name, Principal=principal) == {
        "Sid": "s",
        "Effect": "Allow",
        "Principal": written,
        "Action": "lambda:InvokeFunction",
        "Resource": own.arn + name,
    }


@pytest.mark.parametrize("principal", ["me", "12345678901", "arn:aws:s3:::bucket", "amazonaws"])
def test_principals_that_are_none(own, name, principal):
    text = "The provided principal was invalid. Please check the principal and try again."
    with refused("InvalidParameterValueException", 400, text):
        add(own, name, Principal=principal)


@pytest.mark.parametrize(
    "settings, condition",
    [
        ({"SourceArn": "arn:aws:s3:::b"}, {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}),
        ({"SourceAccount": "123456789012"}, {"StringEquals": {"AWS:SourceAccount": "123456789012"}}),
        ({"EventSourceToken": "token"}, {"StringEquals": {"lambda:EventSourceToken": "token"}}),
        (
            {"FunctionUrlAuthType": "NONE", "Action": "lambda:InvokeFunctionUrl"},
            {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
        ),
        ({"PrincipalOrgID": "o-0123456789"}, {"StringEquals": {"aws:PrincipalOrgID": "o-0123456789"}}),
        ({"InvokedViaFunctionUrl": True}, {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
        (
            {"SourceArn": "arn:aws:s3:::b", "SourceAccount": "123456789012"},
            {
                "StringEquals": {"AWS:SourceAccount": "123456789012"},
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
            },
        ),
    ],
)
def test_conditions(own, name, settings, condition):
    assert add(own, name, **settings)["Condition"] == condition


def test_a_policy_is_a_document_of_its_statements(own, name):
    first = add(own, name, "one")
    second = add(own, name, "two", Principal="123456789012")
    found = own.client.get_policy(FunctionName=name)
    document = {"Version": "2012-10-17", "Id": "default", "Statement": [first, second]}
    assert json.loads(found["Policy"]) == document and found["RevisionId"]
    own.client.remove_permission(FunctionName=name, StatementId="one")
    assert json.loads(own.client.get_policy(FunctionName=name)["Policy"])["Statement"] == [second]
    answer = own.client.remove_permission(FunctionName=name, StatementId="two")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        own.client.get_policy(FunctionName=name)


def test_function_version_and_alias_have_a_policy_each(own, name):
    for qualifier in (None, "1", "live"):
        settings = {"Qualifier": qualifier} if qualifier else {}
        tail = f":{qualifier}" if qualifier else ""
        assert add(own, name, **settings)["Resource"] == own.arn + name + tail
    for qualifier in ("1", "live"):
        policy = json.loads(own.client.get_policy(FunctionName=name, Qualifier=qualifier)["Policy"])
        assert [statement["Resource"] for statement in policy["Statement"]] == [f"{own.arn}{name}:{qualifier}"]
    own.client.remove_permission(FunctionName=name, StatementId="s", Qualifier="1")
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        own.client.get_policy(FunctionName=name, Qualifier="1")
    assert own.client.get_policy(FunctionName=name, Qualifier="live")
    own.client.delete_alias(FunctionName=name, Name="live")
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        own.client.get_policy(FunctionName=name, Qualifier="live")


def test_what_is_refused(own, name):
    add(own, name)
    exists = (
        "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement."
    )
    with refused("ResourceConflictException", 409, exists):
        add(own, name)
    with refused(
        "InvalidParameterValueException", 400, "We currently do not support adding policies for $LATEST."
    ):
        add(own, name, Qualifier="$LATEST")
    with refused("ResourceNotFoundException", 404, f"Cannot find alias arn: {own.arn}{name}:none"):
        add(own, name, Qualifier="none")
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{name}:9"):
        add(own, name, Qualifier="9")
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing"):
        add(own, "missing")
    stale = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest "
        "Revision Id"
    )
    with refused("PreconditionFailedException", 412, stale):
        add(own, name, "other", RevisionId="old")
    with refused("PreconditionFailedException", 412, stale):
        own.client.remove_permission(FunctionName=name, StatementId="s", RevisionId="old")
    revision = own.client.get_policy(FunctionName=name)["RevisionId"]
    add(own, name, "other", RevisionId=revision)
    with refused("ValidationException", 400):
        add(own, name, "bad sid")
    with refused("ValidationException", 400):
        add(own, name, "action", Action="s3:GetObject")


def test_removals_of_what_is_not_there(own, name):
    with refused("ResourceNotFoundException", 404, "No policy is associated with the given resource."):
        own.client.remove_permission(FunctionName=name, StatementId="s")
    add(own, name)
    with refused("ResourceNotFoundException", 404, "Statement none is not found in resource policy."):
        own.client.remove_permission(FunctionName=name, StatementId="none")
    with refused("ResourceNotFoundException", 404, f"No policy found for: {own.arn}missing"):
        own.client.remove_permission(FunctionName="missing", StatementId="s")


def test_twenty_kilobytes_are_the_most(own, name):
    sids, full = 0, None
    while full is None:
        try:
            add(own, name, f"statement-{sids:04}-" + "x" * 80)
            sids += 1
        except own.client.exceptions.PolicyLengthExceededException as error:
            full = error
    assert full.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    size = len(json.dumps(json.loads(own.client.get_policy(FunctionName=name)["Policy"]), separators=(",", ":")))
    assert 20480 - 400 < size <= 20480


def document(resource, **settings):
    statement = {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "lambda:*", "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | settings]})


@pytest.mark.parametrize("tail", ["", ":1", ":live"])
def test_whole_policies_replace_everything(own, name, tail):
    arn = own.arn + name + tail
    qualifier = {"Qualifier": tail[1:]} if tail else {}
    add(own, name, "by-statement", **qualifier)
    put = own.client.put_resource_policy(ResourceArn=arn, Policy=document(arn))
    assert json.loads(put["Policy"]) == json.loads(document(arn))
    found = own.client.get_resource_policy(ResourceArn=arn)
    assert (found["Policy"], found["RevisionId"]) == (put["Policy"], put["RevisionId"])
    statements = json.loads(own.client.get_policy(FunctionName=name, **qualifier)["Policy"])["Statement"]
    assert [statement["Sid"] for statement in statements] == ["s"]
    with refused("PreconditionFailedException", 412):
        own.client.put_resource_policy(ResourceArn=arn, Policy=document(arn), RevisionId=str(uuid.uuid4()))
    with refused("PreconditionFailedException", 412):
        own.client.delete_resource_policy(ResourceArn=arn, RevisionId=str(uuid.uuid4()))
    answer = own.client.delete_resource_policy(ResourceArn=arn, RevisionId=put["RevisionId"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    for operation in (own.client.get_resource_policy, own.client.delete_resource_policy):
        with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            operation(ResourceArn=arn)


@pytest.mark.parametrize(
    "policy",
    [
        "no json",
        "{}",
        '{"Version": "2012-10-17", "Statement": []}',
        '{"Version": "2000-01-01", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Perhaps", "Principal": "*", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"Is": {}}}]}',
    ],
)
def test_whole_policies_that_do_not_read(own, name, policy):
    with refused("InvalidParameterValueException", 400):
        own.client.put_resource_policy(ResourceArn=own.arn + name, Policy=policy)
    with refused("ResourceNotFoundException", 404):
        own.client.get_resource_policy(ResourceArn=own.arn + name)


def test_whole_policies_of_what_is_not_there(own, name):
    for tail in ("missing", f"{name}:9", f"{name}:none"):
        arn = own.arn + tail
        with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            own.client.put_resource_policy(ResourceArn=arn, Policy=document(arn))


def test_another_account_does_what_the_policy_lets_it(own, server, name):
    friend, stranger = (make_client(server, account=account) for account in ("666666666666", "777777777777"))
    arn = own.arn + name

    def denied(account, operation):
        action = f"lambda:{operation}"
        return (
            f"User: arn:aws:iam::{account}:root is not authorized to perform: {action} on resource: {arn} because no "
            f"resource-based policy allows the {action} action"
        )

    with refused("AccessDeniedException", 403, denied("666666666666", "InvokeFunction")):
        friend.invoke(FunctionName=arn)
    add(own, name, "invoke", Principal="666666666666")
    add(own, name, "get", Principal="666666666666", Action="lambda:GetFunction")
    assert friend.invoke(FunctionName=arn)["StatusCode"] == 200
    assert friend.get_function(FunctionName=arn)["Configuration"]["FunctionArn"] == arn
    with refused("AccessDeniedException", 403, denied("666666666666", "DeleteFunction")):
        friend.delete_function(FunctionName=arn)
    with refused("AccessDeniedException", 403, denied("777777777777", "InvokeFunction")):
        stranger.invoke(FunctionName=arn)
    # The policy of the function is not that of its alias.
    with refused("AccessDeniedException", 403):
        friend.invoke(FunctionName=arn + ":live")
    own.client.remove_permission(FunctionName=name, StatementId="invoke")
    with refused("AccessDeniedException", 403, denied("666666666666", "InvokeFunction")):
        friend.invoke(FunctionName=arn)
