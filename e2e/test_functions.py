"""The control plane through the unmodified SDK."""

import base64
import hashlib
import re
import urllib.error
import urllib.request
import uuid

import pytest

from conftest import ROLE, make_client, wait_active, wait_updated
from expect import refused
from packages import HEALTHY, zipped

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def create(client, name=None, files=None, **settings):
    name = name or f"f-{uuid.uuid4().hex[:12]}"
    settings = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE} | settings
    return client.create_function(
        FunctionName=name, Code={"ZipFile": zipped(files or HEALTHY)}, **settings
    )


def test_a_created_function_is_pending_then_active_with_awss_defaults(client, functions):
    package = zipped(HEALTHY)
    answer = client.create_function(
        FunctionName="defaults", Runtime="python3.11", Handler="index.handler", Role=ROLE, Code={"ZipFile": package}
    )
    functions.made.append("defaults")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Creating")
    assert answer["StateReason"] == "The function is being created."
    assert "LastUpdateStatus" not in answer
    wait_active(client, "defaults")
    found = client.get_function(FunctionName="defaults")["Configuration"]
    assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in found
    expected = {
        "FunctionName": "defaults",
        "FunctionArn": ARN + "defaults",
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "index.handler",
        "CodeSize": len(package),
        "CodeSha256": base64.b64encode(hashlib.sha256(package).digest()).decode(),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/defaults"},
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "Environment" not in found and "Layers" not in found and "VpcConfig" not in found
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", found["LastModified"])
    assert str(uuid.UUID(found["RevisionId"])) == found["RevisionId"] != answer["RevisionId"]


def test_the_same_bytes_download_again(client, make):
    package = zipped(HEALTHY)
    name = make(package)
    code = client.get_function(FunctionName=name)["Code"]
    assert code["RepositoryType"] == "S3"
    with urllib.request.urlopen(code["Location"], timeout=10) as answer:
        assert answer.read() == package


def test_a_code_location_cannot_be_forged(client, make):
    location = client.get_function(FunctionName=make(HEALTHY))["Code"]["Location"]
    forged = location[:-1] + ("0" if location[-1] != "0" else "1")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(forged, timeout=10)
    assert refusal.value.code in (403, 404)


@pytest.mark.parametrize(
    "form, qualified",
    [
        ("{name}", False),
        ("{name}:$LATEST", True),
        ("000000000000:function:{name}", False),
        ("function:{name}", False),
        (ARN + "{name}", False),
        (ARN + "{name}:$LATEST", True),
    ],
)
def test_names_and_arns_are_accepted_in_each_form(client, make, form, qualified):
    name = make(HEALTHY)
    found = client.get_function_configuration(FunctionName=form.format(name=name))
    assert found["FunctionArn"] == ARN + name + (":$LATEST" if qualified else "")
    assert client.invoke(FunctionName=form.format(name=name), Payload=b"{}")["StatusCode"] == 200


def test_names_that_lead_elsewhere_are_refused(client, make):
    name = make(HEALTHY)
    mismatch = "The derived qualifier from the function name does not match the specified qualifier."
    with refused("InvalidParameterValueException", 400, mismatch):
        client.get_function(FunctionName=f"{name}:$LATEST", Qualifier="1")
    elsewhere = "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    with refused("ResourceNotFoundException", 404, elsewhere):
        client.get_function(FunctionName=f"arn:aws:lambda:eu-west-1:000000000000:function:{name}")
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}{name}:42"):
        client.get_function(FunctionName=name, Qualifier="42")
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}missing"):
        client.get_function(FunctionName="missing")
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}missing:$LATEST"):
        client.invoke(FunctionName="missing")
    with refused("ResourceConflictException", 409, f"Function already exist: {name}"):
        create(client, name)


@pytest.mark.parametrize(
    "method, longest", [("delete_function", 140), ("get_function", 170), ("get_function_configuration", 170), ("invoke", 170)]
)
def test_names_have_the_lengths_that_were_recorded(client, method, longest):
    call = getattr(client, method)
    tail = ":$LATEST" if method == "invoke" else ""
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}{'n' * longest}{tail}"):
        call(FunctionName="n" * longest)
    long = "n" * (longest + 1)
    constraint = f"Member must have length less than or equal to {longest}"
    expected = f"1 validation error detected: Value '{long}' at 'functionName' failed to satisfy constraint: {constraint}"
    with refused("ValidationException", 400, expected):
        call(FunctionName=long)


def test_latest_in_small_letters_is_looked_up_and_not_found(client, make):
    name = make(HEALTHY)
    for method in ("get_function", "get_function_configuration", "invoke"):
        with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}{name}:$latest"):
            getattr(client, method)(FunctionName=f"{name}:$latest")


def test_pages_hold_every_function_of_the_account_once(account):
    names = sorted(create(account)["FunctionName"] for _ in range(5))
    pages, marker = [], {}
    while True:
        page = account.list_functions(MaxItems=2, **marker)
        pages.append([function["FunctionName"] for function in page["Functions"]])
        assert all("State" not in function and "LastUpdateStatus" not in function for function in page["Functions"])
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(sum(pages, [])) == names
    for name in names:
        account.delete_function(FunctionName=name)
    assert account.list_functions()["Functions"] == []


def test_accounts_and_regions_do_not_see_each_other(server):
    here = make_client(server, account="210000000001")
    name = create(here)["FunctionName"]
    assert here.get_function(FunctionName=name)["Configuration"]["FunctionArn"].split(":")[4] == "210000000001"
    for other in (
        make_client(server, account="210000000002"),
        make_client(server, account="210000000001", region="eu-west-1"),
    ):
        with refused("ResourceNotFoundException", 404):
            other.get_function(FunctionName=name)
        assert other.list_functions()["Functions"] == []
    foreign = f"arn:aws:lambda:us-east-1:210000000001:function:{name}"
    with refused("AccessDeniedException", 403):
        make_client(server, account="210000000002").update_function_configuration(FunctionName=foreign)
    here.delete_function(FunctionName=name)


def test_the_caller_is_named(server):
    identity = make_client(server, "sts", account="210000000003").get_caller_identity()
    assert identity["Account"] == "210000000003"
    assert make_client(server, "sts").get_caller_identity()["Account"] == "000000000000"


def test_a_configuration_update_keeps_what_it_does_not_name(client, make):
    name = make(HEALTHY, Environment={"Variables": {"KEY": "1"}}, Description="before")
    before = client.get_function_configuration(FunctionName=name)
    answer = client.update_function_configuration(FunctionName=name, MemorySize=256)
    assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "InProgress")
    wait_updated(client, name)
    after = client.get_function_configuration(FunctionName=name)
    assert after["MemorySize"] == 256
    assert (after["Description"], after["Environment"]) == ("before", {"Variables": {"KEY": "1"}})
    assert len({before["RevisionId"], answer["RevisionId"], after["RevisionId"]}) == 3
    with refused("PreconditionFailedException", 412, re.compile("does not match the latest Revision Id")):
        client.update_function_configuration(FunctionName=name, MemorySize=512, RevisionId=before["RevisionId"])
    client.update_function_configuration(FunctionName=name, MemorySize=512, RevisionId=after["RevisionId"])


def test_a_code_update_changes_the_hash_and_a_dry_run_does_not(client, make, call):
    name = make(HEALTHY)
    before = client.get_function_configuration(FunctionName=name)
    other = zipped({"index.py": "def handler(event, context):\n    return 'other'\n"})
    would = client.update_function_code(FunctionName=name, ZipFile=other, DryRun=True)
    assert would["CodeSha256"] == base64.b64encode(hashlib.sha256(other).digest()).decode()
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == before["CodeSha256"]
    client.update_function_code(FunctionName=name, ZipFile=other)
    wait_updated(client, name)
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == would["CodeSha256"]
    assert call(name).payload == "other"


def test_a_deleted_function_is_gone(client, make):
    name = make(HEALTHY)
    with refused("InvalidParameterValueException", 400):
        client.delete_function(FunctionName=name, Qualifier="$LATEST")
    assert client.delete_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    for gone in (client.get_function, client.delete_function, client.get_function_configuration):
        with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}{name}"):
            gone(FunctionName=name)


def test_account_settings_count_functions_and_bytes(account):
    package = zipped(HEALTHY)
    empty = account.get_account_settings()
    assert empty["AccountLimit"] == {
        "TotalCodeSize": 80530636800,
        "CodeSizeUnzipped": 262144000,
        "CodeSizeZipped": 52428800,
        "ConcurrentExecutions": 1000,
        "UnreservedConcurrentExecutions": 1000,
    }
    assert empty["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}
    name = create(account)["FunctionName"]
    assert account.get_account_settings()["AccountUsage"] == {"TotalCodeSize": len(package), "FunctionCount": 1}
    account.delete_function(FunctionName=name)


def test_an_operation_that_is_not_there_is_refused_by_name_and_not_retried(server):
    client = make_client(server, retries={"total_max_attempts": 4, "mode": "standard"})
    sent = []
    client.meta.events.register("before-send.lambda", lambda request, **_: sent.append(request.url))
    with refused("NotImplementedException", 501, "Hearth does not support lambda:ListCapacityProviders."):
        client.list_capacity_providers()
    assert len(sent) == 1


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"PublishTo": "LATEST_PUBLISHED"}, "PublishTo"),
        ({"DurableConfig": {"ExecutionTimeout": 60}}, "DurableConfig"),
    ],
)
def test_a_parameter_that_is_not_there_is_refused_by_name(client, settings, named):
    name = f"f-{uuid.uuid4().hex[:12]}"
    whole = {"FunctionName": name, "Role": ROLE, "Code": {"ZipFile": zipped(HEALTHY)}} | settings
    whole |= {"Runtime": "python3.11", "Handler": "index.handler"}
    with refused("NotImplementedException", 501, re.compile(named)):
        client.create_function(**whole)
    with refused("ResourceNotFoundException", 404):
        client.get_function(FunctionName=name)


def test_what_is_kept_is_shown_again(client, make):
    name = make(
        HEALTHY,
        Tags={"team": "fire"},
        TracingConfig={"Mode": "Active"},
        DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:000000000000:queue"},
        EphemeralStorage={"Size": 1024},
        LoggingConfig={"LogGroup": "/mine"},
    )
    found = client.get_function(FunctionName=name)
    assert found["Tags"] == {"team": "fire"}
    configuration = found["Configuration"]
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    assert configuration["DeadLetterConfig"] == {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:queue"}
    assert configuration["EphemeralStorage"] == {"Size": 1024}
    assert configuration["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/mine"}


def test_unknown_members_are_accepted_and_named(server, functions):
    body = {
        "FunctionName": "with-unknown",
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": base64.b64encode(zipped(HEALTHY)).decode(), "Colour": "red"},
        "Weather": "fine",
    }
    status, headers, _ = server.lambda_request("POST", "/2015-03-31/functions", body)
    functions.made.append("with-unknown")
    assert status == 201
    assert set(headers["x-hearth-ignored"].split(",")) == {"Weather", "Code.Colour"}


def test_what_is_kept_without_effect_is_told_of(start, hearth, base):
    server = start()
    client = make_client(server)
    heard = {}
    client.meta.events.register("after-call.lambda", lambda http_response, **_: heard.update(http_response.headers))
    settings = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE, "Code": {"ZipFile": zipped(HEALTHY)}}
    effects = {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"}, "TracingConfig": {"Mode": "PassThrough"}}
    client.create_function(FunctionName="plain", **settings, **effects)
    assert "x-hearth-ignored" not in heard
    vpc = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    client.create_function(FunctionName="kept", VpcConfig=vpc, TracingConfig={"Mode": "Active"}, **settings)
    assert heard["x-hearth-ignored"] == "VpcConfig,TracingConfig"
    wait_active(client, "kept")
    assert "members are kept without effect" in server.said() and "VpcConfig,TracingConfig" in server.said()
    # Who deploys over it hears of it, too.
    folder = base / f"kept-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    (folder / "index.py").write_text(HEALTHY["index.py"])
    said = hearth("--endpoint", server.url, "deploy", folder, "--name", "kept", "--handler", "index.handler")
    assert "kept without effect: VpcConfig,TracingConfig" in said.stderr


def test_every_answer_names_its_request_and_errors_their_type(server):
    status, headers, body = server.lambda_request("GET", "/2015-03-31/functions/missing")
    assert status == 404
    assert headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert uuid.UUID(headers["x-amzn-requestid"])
    assert b'"Type":"User"' in body and b'"Message":"Function not found' in body


RUNTIMES = ["nodejs22.x", "python3.13", "java21", "dotnet8", "ruby3.3", "provided.al2", "provided.al2023", "nodejs16.x"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_of_aws_is_accepted(client, make, runtime):
    name = make(HEALTHY, Runtime=runtime)
    assert client.get_function_configuration(FunctionName=name)["Runtime"] == runtime


def test_a_runtime_that_is_not_installed_fails_by_name(client, make):
    name = make(HEALTHY, Runtime="dotnet8")
    message = "Runtime dotnet8 is not installed on this host; see hearth runtimes."
    with refused("InvalidRuntimeException", 502, message):
        client.invoke(FunctionName=name)


def test_runtimes_of_no_one_are_refused(client):
    expected = re.compile(r"^Value python9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set:")
    with refused("InvalidParameterValueException", 400, expected):
        create(client, Runtime="python9")


def test_environment_variables_have_awss_limits(client):
    reserved = re.compile("Reserved keys used in this request: AWS_REGION$")
    with refused("InvalidParameterValueException", 400, reserved):
        create(client, Environment={"Variables": {"AWS_REGION": "x", "MINE": "y"}})
    with refused("InvalidParameterValueException", 400, re.compile("exceeded the 4KB limit. String measured: ")):
        create(client, Environment={"Variables": {"LONG": "x" * 4100}})


def test_ordinary_functions_have_awss_ranges(server):
    client = make_client(server, parameter_validation=False)
    for settings in ({"Timeout": 0}, {"MemorySize": 127}, {"EphemeralStorage": {"Size": 511}}):
        with refused("ValidationException", 400, re.compile("1 validation error detected")):
            create(client, **settings)
