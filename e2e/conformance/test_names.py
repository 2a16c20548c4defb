"""Every form of a function's name, for every operation that takes one."""

import pytest

from expect import refused
from packages import HEALTHY, zipped

FORMS = ["{name}", "function:{name}", "{account}:function:{name}", "us-east-1:{account}:function:{name}", "{arn}"]
MISMATCH = "The derived qualifier from the function name does not match the specified qualifier."


@pytest.fixture
def one(own):
    """A function with version 1 and the alias `live`."""
    name = own.make(HEALTHY)
    own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def forms(own, name, tail=""):
    return [form.format(name=name, account=own.account, arn=own.arn + name) + tail for form in FORMS]


READS = [
    "get_function",
    "get_function_configuration",
    "list_versions_by_function",
    "list_aliases",
    "get_function_concurrency",
    "get_function_recursion_config",
    "get_runtime_management_config",
    "get_function_code_signing_config",
    "invoke",
]


@pytest.mark.parametrize("operation", READS)
def test_each_form_is_the_function(own, one, operation):
    answers = []
    for form in forms(own, one):
        answer = getattr(own.client, operation)(FunctionName=form)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200, form
        answers.append({key: value for key, value in answer.items() if key in ("Configuration", "Versions", "Aliases")})
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("operation", ["get_function_configuration", "invoke", "get_runtime_management_config"])
@pytest.mark.parametrize("qualifier", ["1", "live", "$LATEST"])
def test_each_form_with_a_qualifier_is_the_version(own, one, operation, qualifier):
    call = getattr(own.client, operation)
    for form in forms(own, one, ":" + qualifier):
        assert call(FunctionName=form)["ResponseMetadata"]["HTTPStatusCode"] == 200, form
        assert call(FunctionName=form, Qualifier=qualifier)["ResponseMetadata"]["HTTPStatusCode"] == 200, form
        with refused("InvalidParameterValueException", 400, MISMATCH):
            call(FunctionName=form, Qualifier="other")


@pytest.mark.parametrize(
    "operation, tail",
    [
        ("get_function", ""),
        ("get_function_configuration", ""),
        ("list_versions_by_function", ""),
        ("list_aliases", ""),
        ("delete_function", ""),
        ("publish_version", ""),
        ("get_runtime_management_config", ""),
        ("get_function_recursion_config", ""),
        ("get_function_code_signing_config", ""),
        ("invoke", ":$LATEST"),
        ("get_function_concurrency", ":$LATEST"),
        ("delete_function_concurrency", ":$LATEST"),
    ],
)
def test_a_function_that_is_not_there(own, operation, tail):
    for form in forms(own, "missing"):
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}missing{tail}"):
            getattr(own.client, operation)(FunctionName=form)


@pytest.mark.parametrize("operation", ["get_function", "publish_version", "list_aliases", "invoke", "get_policy"])
def test_another_region_is_not_reachable(own, operation):
    there = f"arn:aws:lambda:eu-west-1:{own.account}:function:f"
    text = "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    with refused("ResourceNotFoundException", 404, text):
        getattr(own.client, operation)(FunctionName=there)


@pytest.mark.parametrize(
    "operation, settings",
    [
        ("update_function_configuration", {"Timeout": 4}),
        ("add_permission", {"StatementId": "s", "Action": "lambda:*", "Principal": "*"}),
        ("put_function_recursion_config", {"RecursiveLoop": "Allow"}),
        ("get_function_code_signing_config", {}),
    ],
)
def test_what_accounts_do_not_share_is_refused_without_a_word(own, operation, settings):
    with refused("AccessDeniedException", 403):
        getattr(own.client, operation)(FunctionName="arn:aws:lambda:us-east-1:888888888888:function:f", **settings)


@pytest.mark.parametrize("tail", [":1", ":live"])
@pytest.mark.parametrize(
    "operation, settings",
    [
        ("update_function_configuration", {"Timeout": 4}),
        ("update_function_code", {"ZipFile": zipped(HEALTHY)}),
        ("publish_version", {}),
    ],
)
def test_only_the_latest_is_changed(own, one, operation, settings, tail):
    before = own.client.get_function_configuration(FunctionName=one)
    text = (
        "Current operation does not support versions other than $LATEST. Please set the version to $LATEST or do not set a "
        "version in your request."
    )
    for form in forms(own, one, tail):
        with refused("InvalidParameterValueException", 400, text):
            getattr(own.client, operation)(FunctionName=form, **settings)
    after = own.client.get_function_configuration(FunctionName=one)
    assert (before["RevisionId"], before["Timeout"]) == (after["RevisionId"], after["Timeout"])
    assert getattr(own.client, operation)(FunctionName=f"{one}:$LATEST", **settings)


def test_a_version_or_alias_is_not_created_as_a_function(own):
    for tail in (":1", ":live"):
        with refused("InvalidParameterValueException", 400):
            own.make(HEALTHY, FunctionName="f" + tail)
    assert own.client.list_functions()["Functions"] == []


def test_long_names(own):
    bare = "x" * 65
    text = (
        f"1 validation error detected: Value '{bare}' at 'functionName' failed to satisfy constraint: Member must have "
        "length less than or equal to 64"
    )
    with refused("InvalidParameterValueException", 400, text):
        own.make(HEALTHY, FunctionName=bare)
    for operation in (own.client.get_function, own.client.delete_function):
        with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{bare}"):
            operation(FunctionName=bare)
    longest = "x" * 64
    assert own.make(HEALTHY, FunctionName=longest) == longest
    with refused("ValidationException", 400):
        own.make(HEALTHY, FunctionName="no spaces")


def test_lower_case_latest_is_nobody(own, one):
    with refused("ResourceNotFoundException", 404, f"Function not found: {own.arn}{one}:$latest"):
        own.client.get_function(FunctionName=f"{one}:$latest")
