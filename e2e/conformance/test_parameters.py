"""Parameters of functions at their limits: one below, at, one above."""

import json
import re
import uuid

import pytest

from conftest import ROLE, make_client, wait_active, wait_updated
from expect import refused
from packages import HEALTHY, zipped


def settings(**more):
    whole = {
        "FunctionName": f"f-{uuid.uuid4().hex[:12]}",
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": zipped(HEALTHY)},
    }
    return whole | more


@pytest.mark.parametrize(
    "member, least, most",
    [("Timeout", 1, 900), ("MemorySize", 128, 10240), ("EphemeralStorage", 512, 10240)],
)
def test_numbers_at_their_limits(own, member, least, most):
    def value(number):
        return {member: {"Size": number} if member == "EphemeralStorage" else number}

    path = "ephemeralStorage.size" if member == "EphemeralStorage" else member[0].lower() + member[1:]
    name = own.make(HEALTHY)
    for number in (least, least + 1, most - 1, most):
        own.client.update_function_configuration(FunctionName=name, **value(number))
        wait_updated(own.client, name)
        assert own.client.get_function_configuration(FunctionName=name)[member] == value(number)[member]
    for number, constraint in (
        (least - 1, f"Member must have value greater than or equal to {least}"),
        (most + 1, f"Member must have value less than or equal to {most}"),
    ):
        text = f"1 validation error detected: Value '{number}' at '{path}' failed to satisfy constraint: {constraint}"
        with refused("ValidationException", 400, text):
            own.client.update_function_configuration(FunctionName=name, **value(number))
        with refused("ValidationException", 400, text):
            own.client.create_function(**settings(**value(number)))


@pytest.mark.parametrize("member, most", [("Description", 256), ("Handler", 128)])
def test_texts_at_their_limits(own, member, most):
    name = own.make(HEALTHY)
    own.client.update_function_configuration(FunctionName=name, **{member: "x" * most})
    wait_updated(own.client, name)
    assert own.client.get_function_configuration(FunctionName=name)[member] == "x" * most
    text = f"Member must have length less than or equal to {most}"
    with refused("ValidationException", 400, re.compile(text)):
        own.client.create_function(**settings(**{member: "x" * (most + 1)}))


def test_four_kilobytes_of_variables(own):
    def variables(size):
        # Compact JSON of the map is the measure.
        return {"Variables": {"AB": "x" * (size - len(json.dumps({"AB": ""}, separators=(",", ":"))))}}

    name = own.make(HEALTHY, Environment=variables(4096))
    assert own.client.get_function_configuration(FunctionName=name)["Environment"] == variables(4096)
    measured = json.dumps(variables(4097)["Variables"], separators=(",", ":"))
    text = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
        f"exceeded the 4KB limit. String measured: {measured}"
    )
    with refused("InvalidParameterValueException", 400, text):
        own.client.update_function_configuration(FunctionName=name, Environment=variables(4097))


@pytest.mark.parametrize("key", ["AWS_REGION", "_HANDLER", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"])
def test_reserved_variables(own, key):
    text = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
        "contains reserved keys that are currently not supported for modification. Reserved keys used in this request: " + key
    )
    if key.startswith("_"):
        # The model's own pattern is broken before.
        code, text = "ValidationException", None
    else:
        code = "InvalidParameterValueException"
    with refused(code, 400, text):
        own.client.create_function(**settings(Environment={"Variables": {key: "x"}}))


@pytest.mark.parametrize(
    "more, code",
    [
        ({"Runtime": "python2.7x"}, "InvalidParameterValueException"),
        ({"Role": "me"}, "ValidationException"),
        ({"Architectures": ["x86_64", "arm64"]}, "ValidationException"),
        ({"Architectures": ["mips"]}, "ValidationException"),
        ({"PackageType": "Jar"}, "ValidationException"),
        ({"TracingConfig": {"Mode": "Sometimes"}}, "ValidationException"),
        ({"LoggingConfig": {"LogFormat": "XML"}}, "ValidationException"),
        ({"LoggingConfig": {"LogFormat": "Text", "SystemLogLevel": "WARN"}}, "InvalidParameterValueException"),
        ({"SnapStart": {"ApplyOn": "Never"}}, "ValidationException"),
        ({"Layers": ["not an arn"]}, "ValidationException"),
        ({"Code": {"ZipFile": b""}}, "InvalidParameterValueException"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException"),
    ],
)
def test_values_that_cannot_be(own, more, code):
    whole = settings(**more)
    with refused(code, 400):
        own.client.create_function(**whole)
    with refused("ResourceNotFoundException", 404):
        own.client.get_function(FunctionName=whole["FunctionName"])


KEPT = {
    "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:queue"},
    "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
    "TracingConfig": {"Mode": "Active"},
    "FileSystemConfigs": [
        {
            "Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0",
            "LocalMountPath": "/mnt/f",
        }
    ],
}


@pytest.mark.parametrize("member", sorted(KEPT))
def test_what_is_kept_is_shown_and_published(own, member):
    name = own.make(HEALTHY, **{member: KEPT[member]})
    own.publish(name)
    for qualifier in ("$LATEST", "1"):
        found = own.client.get_function_configuration(FunctionName=name, Qualifier=qualifier)[member]
        if isinstance(KEPT[member], dict):
            assert {key: found[key] for key in KEPT[member]} == KEPT[member]
        else:
            assert found == KEPT[member]


def test_the_key_of_a_package_is_shown_with_the_code_and_stays_until_it_is_cleared(own):
    key = "arn:aws:kms:us-east-1:000000000000:key/k"
    package = zipped(HEALTHY)
    created = own.client.create_function(**settings(Code={"ZipFile": package, "SourceKMSKeyArn": key}))
    name = created["FunctionName"]
    own.made.append(name)
    assert created["ResponseMetadata"]["HTTPHeaders"]["x-hearth-ignored"] == "Code.SourceKMSKeyArn"
    assert "SourceKMSKeyArn" not in created
    wait_active(own.client, name)
    shown = lambda **more: own.client.get_function(FunctionName=name, **more)["Code"].get("SourceKMSKeyArn")
    own.publish(name)
    assert (shown(), shown(Qualifier="1")) == (key, key)
    own.client.update_function_code(FunctionName=name, ZipFile=package)
    wait_updated(own.client, name)
    assert shown() == key
    own.client.update_function_code(FunctionName=name, ZipFile=package, SourceKMSKeyArn="")
    wait_updated(own.client, name)
    assert (shown(), shown(Qualifier="1")) == (None, key)
    with refused("ValidationException", 400):
        own.client.update_function_code(FunctionName=name, ZipFile=package, SourceKMSKeyArn="no key")


def test_what_was_kept_is_cleared_as_aws_clears_it(own):
    name = own.make(HEALTHY, **KEPT)
    own.client.update_function_configuration(
        FunctionName=name,
        DeadLetterConfig={"TargetArn": ""},
        KMSKeyArn="",
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
    )
    wait_updated(own.client, name)
    found = own.client.get_function_configuration(FunctionName=name)
    assert "DeadLetterConfig" not in found and "KMSKeyArn" not in found
    assert found["VpcConfig"] == {
        "SubnetIds": [],
        "SecurityGroupIds": [],
        "VpcId": "",
        "Ipv6AllowedForDualStack": False,
    }
    assert found["TracingConfig"] == {"Mode": "Active"}


def test_an_update_that_changes_nothing_is_an_update(own):
    name = own.make(HEALTHY)
    before = own.client.get_function_configuration(FunctionName=name)
    answer = own.client.update_function_configuration(FunctionName=name)
    assert answer["LastUpdateStatus"] == "InProgress"
    wait_updated(own.client, name)
    after = own.client.get_function_configuration(FunctionName=name)
    assert len({before["RevisionId"], answer["RevisionId"], after["RevisionId"]}) == 3


@pytest.mark.parametrize("runtime", ["go1.x", "nodejs12.x", "nodejs14.x", "python2.7", "python3.7", "java8", "ruby2.7", "provided"])
def test_a_retired_runtime_is_named_as_such(own, runtime):
    text = (
        f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. We recommend "
        "you use a supported runtime while creating or updating functions."
    )
    with refused("InvalidParameterValueException", 400, text):
        own.client.create_function(**settings(Runtime=runtime))
    name = own.make(HEALTHY)
    with refused("InvalidParameterValueException", 400, text):
        own.client.update_function_configuration(FunctionName=name, Runtime=runtime)
    unknown = "Value python9.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
    with refused("InvalidParameterValueException", 400, re.compile(re.escape(unknown))):
        own.client.create_function(**settings(Runtime="python9.9"))


def test_snapshots_are_for_runtimes_that_have_them(own):
    wanted = {"ApplyOn": "PublishedVersions"}
    text = "{} is not supported for SnapStart enabled functions."
    for runtime in ("python3.11", "nodejs22.x", "provided.al2023", "ruby3.4", "java8.al2", "dotnet6"):
        with refused("InvalidParameterValueException", 400, text.format(runtime)):
            own.client.create_function(**settings(Runtime=runtime, SnapStart=wanted))
    name = own.make(HEALTHY, Runtime="python3.12", SnapStart=wanted)
    assert own.client.get_function_configuration(FunctionName=name)["SnapStart"]["ApplyOn"] == "PublishedVersions"
    with refused("InvalidParameterValueException", 400, text.format("python3.11")):
        own.client.update_function_configuration(FunctionName=name, Runtime="python3.11")
    own.client.update_function_configuration(FunctionName=name, Runtime="python3.11", SnapStart={"ApplyOn": "None"})
    wait_updated(own.client, name)
    with refused("InvalidParameterValueException", 400, text.format("python3.11")):
        own.client.update_function_configuration(FunctionName=name, SnapStart=wanted)
    assert own.client.create_function(**settings(SnapStart={"ApplyOn": "None"}))["SnapStart"]["ApplyOn"] == "None"


TRUST = '{"Statement": [{"Effect": "Allow", "Principal": {"Service": "%s"}, "Action": "sts:AssumeRole"}]}'


def test_a_role_is_looked_at_where_that_is_asked_for(start):
    server = start("--iam-check-roles", "true")
    number, other = "410000000001", "410000000002"
    client, iam = make_client(server, account=number), make_client(server, "iam", account=number)
    good = iam.create_role(RoleName="good", Path="/p/", AssumeRolePolicyDocument=TRUST % "lambda.amazonaws.com")["Role"]["Arn"]
    bad = iam.create_role(RoleName="bad", AssumeRolePolicyDocument=TRUST % "ec2.amazonaws.com")["Role"]["Arn"]
    text = "The role defined for the function cannot be assumed by Lambda."
    for role in (bad, good.replace("/p/", "/"), good + "x"):
        with refused("InvalidParameterValueException", 400, text):
            client.create_function(**settings(FunctionName="f", Role=role))
    foreign = make_client(server, "iam", account=other)
    foreign = foreign.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST % "lambda.amazonaws.com")["Role"]["Arn"]
    with refused("AccessDeniedException", 403, "Cross-account pass role is not allowed."):
        client.create_function(**settings(FunctionName="f", Role=foreign))
    client.create_function(**settings(FunctionName="f", Role=good))
    wait_updated(client, "f")
    with refused("InvalidParameterValueException", 400, text):
        client.update_function_configuration(FunctionName="f", Role=bad)
    # What is not asked for is not looked at.
    iam.delete_role(RoleName="good")
    client.update_function_configuration(FunctionName="f", Description="d")
    wait_updated(client, "f")
    with refused("InvalidParameterValueException", 400, text):
        client.update_function_configuration(FunctionName="f", Role=good)
    condition = TRUST % "lambda.amazonaws.com"
    for account, allowed in ((other, False), (number, True)):
        only = condition[:-3] + ', "Condition": {"StringEquals": {"aws:SourceAccount": "%s"}}}]}' % account
        iam.update_assume_role_policy(RoleName="bad", PolicyDocument=only)
        if allowed:
            client.update_function_configuration(FunctionName="f", Role=bad)
        else:
            with refused("InvalidParameterValueException", 400, text):
                client.update_function_configuration(FunctionName="f", Role=bad)
