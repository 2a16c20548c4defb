"""Layers: publication, lists, permissions, and what functions see of them at /opt."""

import io
import json
import re
import stat
import urllib.request
import zipfile

import pytest

from conftest import caller, make_client, wait_active, wait_updated
from expect import refused
from packages import HEALTHY, python, zipped

ARN = "arn:aws:lambda:us-east-1:{}:layer:{}"


def publish(own, name, files, **settings):
    return own.client.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(files)}, **settings)


def test_a_publication_is_answered_with_what_it_has(own):
    package = zipped({"python/one.py": "ONE = 1\n"})
    answer = own.client.publish_layer_version(
        LayerName="one",
        Content={"ZipFile": package},
        Description="first",
        LicenseInfo="MIT",
        CompatibleRuntimes=["python3.11", "python3.12"],
        CompatibleArchitectures=["x86_64"],
    )
    arn = ARN.format(own.account, "one")
    expected = {
        "LayerArn": arn,
        "LayerVersionArn": arn + ":1",
        "Version": 1,
        "Description": "first",
        "LicenseInfo": "MIT",
        "CompatibleRuntimes": ["python3.11", "python3.12"],
        "CompatibleArchitectures": ["x86_64"],
    }
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert {key: answer[key] for key in expected} == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer["CreatedDate"])
    assert answer["Content"]["CodeSize"] == len(package)
    with urllib.request.urlopen(answer["Content"]["Location"], timeout=10) as download:
        assert download.read() == package
    for found in (
        own.client.get_layer_version(LayerName="one", VersionNumber=1),
        own.client.get_layer_version(LayerName=arn, VersionNumber=1),
        own.client.get_layer_version_by_arn(Arn=arn + ":1"),
    ):
        assert {key: found[key] for key in expected} == expected
        assert found["Content"]["CodeSha256"] == answer["Content"]["CodeSha256"]


def test_members_that_were_not_given_are_absent(own):
    answer = publish(own, "one", {"f": "x"})
    assert answer["Description"] == ""
    assert not {"LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"} & set(answer)


def test_every_publication_is_a_number_that_none_had(own):
    for n in (1, 2):
        assert publish(own, "one", {"f": "x"})["Version"] == n
    for n in (1, 2, 2):
        answer = own.client.delete_layer_version(LayerName="one", VersionNumber=n)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert own.client.list_layers()["Layers"] == []
    assert own.client.list_layer_versions(LayerName="one")["LayerVersions"] == []
    assert publish(own, "one", {"f": "x"})["Version"] == 3


def test_lists_are_newest_first_and_filtered(own):
    publish(own, "one", {"f": "1"}, CompatibleRuntimes=["python3.11"])
    publish(own, "one", {"f": "2"}, CompatibleRuntimes=["nodejs20.x"], CompatibleArchitectures=["arm64"])
    publish(own, "one", {"f": "3"}, CompatibleRuntimes=["python3.11"], CompatibleArchitectures=["x86_64"])
    publish(own, "two", {"f": "1"})

    def versions(**settings):
        listed = own.client.list_layer_versions(LayerName="one", **settings)["LayerVersions"]
        return [version["Version"] for version in listed]

    assert versions() == [3, 2, 1]
    assert versions(CompatibleRuntime="python3.11") == [3, 1]
    assert versions(CompatibleArchitecture="arm64") == [2]
    assert versions(CompatibleRuntime="python3.11", CompatibleArchitecture="arm64") == []
    pages = own.client.get_paginator("list_layer_versions").paginate(
        LayerName="one", PaginationConfig={"PageSize": 2}
    )
    assert [[version["Version"] for version in page["LayerVersions"]] for page in pages] == [[3, 2], [1]]

    def layers(**settings):
        listed = own.client.list_layers(**settings)["Layers"]
        return [(layer["LayerName"], layer["LatestMatchingVersion"]["Version"]) for layer in listed]

    assert layers() == [("one", 3), ("two", 1)]
    assert layers(CompatibleRuntime="nodejs20.x") == [("one", 2)]
    row = own.client.list_layers()["Layers"][0]
    assert row["LayerArn"] == ARN.format(own.account, "one")
    assert row["LatestMatchingVersion"]["LayerVersionArn"] == ARN.format(own.account, "one") + ":3"
    assert "Content" not in row["LatestMatchingVersion"]
    assert own.client.list_layer_versions(LayerName="none")["LayerVersions"] == []


def test_what_is_not_there(own):
    publish(own, "one", {"f": "x"})
    missing = "The resource you requested does not exist."
    for name, number in (("one", 2), ("none", 1)):
        with refused("ResourceNotFoundException", 404, missing):
            own.client.get_layer_version(LayerName=name, VersionNumber=number)
    with refused("ResourceNotFoundException", 404, missing):
        own.client.get_layer_version_by_arn(Arn=ARN.format(own.account, "one") + ":7")
    for operation in (own.client.delete_layer_version, own.client.get_layer_version):
        with refused("InvalidParameterValueException", 400, "Layer Version Cannot be less than 1"):
            operation(LayerName="one", VersionNumber=0)


def test_packages_that_are_none(own):
    with refused("InvalidParameterValueException", 400):
        own.client.publish_layer_version(LayerName="one", Content={"ZipFile": b"no zip"})
    with refused("InvalidParameterValueException", 400, re.compile("S3 Error Code: NoSuchBucket.")):
        own.client.publish_layer_version(LayerName="one", Content={"S3Bucket": "bucket", "S3Key": "key"})
    assert own.client.list_layers()["Layers"] == []


@pytest.fixture
def arns(own):
    """Six layers of one version each."""
    return [publish(own, f"l{n}", {f"f{n}": str(n)})["LayerVersionArn"] for n in range(6)]


def test_five_layers_are_the_most(own, arns):
    name = own.make(HEALTHY, Layers=arns[:5])
    found = own.client.get_function_configuration(FunctionName=name)["Layers"]
    assert [layer["Arn"] for layer in found] == arns[:5]
    assert all(layer["CodeSize"] > 0 and set(layer) == {"Arn", "CodeSize"} for layer in found)
    with refused("InvalidParameterValueException", 400, "Cannot reference more than 5 layers."):
        own.client.update_function_configuration(FunctionName=name, Layers=arns)
    own.client.update_function_configuration(FunctionName=name, Layers=[])
    wait_updated(own.client, name)
    assert "Layers" not in own.client.get_function_configuration(FunctionName=name)


def test_layers_that_cannot_be_used(own, arns):
    other = publish(own, "l0", {"f": "other"})["LayerVersionArn"]
    cases = [
        (
            [arns[0], other],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{arns[0]} and {other} are versions of the same layer.",
        ),
        ([arns[0] + "9"], f"Layer version {arns[0]}9 does not exist."),
        (
            [arns[0].replace("us-east-1", "eu-west-1")],
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
    ]
    for layers, message in cases:
        with refused("InvalidParameterValueException", 400, message):
            own.make(HEALTHY, Layers=layers)


def test_functions_see_layers_merged_in_order_and_read_only(own):
    one = publish(own, "one", {"bin/tool": "#!/bin/sh\necho one\n", "only/one": "1", "both": "1"})
    two = publish(own, "two", {"only/two": "2", "both": "2", "python/inside.py": "VALUE = 'from a layer'\n"})
    body = """
import os, subprocess
seen = sorted(os.path.join(folder, name) for folder, _, names in os.walk('/opt') for name in names)
try:
    open('/opt/new', 'w')
    written = True
except OSError:
    written = False
import inside
tool = subprocess.run(['tool'], capture_output=True, text=True).stdout
return [seen, open('/opt/both').read(), inside.VALUE, tool, written]
"""
    name = own.make(python(body), Layers=[one["LayerVersionArn"], two["LayerVersionArn"]])
    files = ["/opt/bin/tool", "/opt/both", "/opt/only/one", "/opt/only/two", "/opt/python/inside.py"]
    call = caller(own.client)
    assert call(name).payload == [files, "2", "from a layer", "one\n", False]
    own.client.update_function_configuration(
        FunctionName=name, Layers=[two["LayerVersionArn"], one["LayerVersionArn"]]
    )
    wait_updated(own.client, name)
    assert call(name).payload == [files, "1", "from a layer", "one\n", False]


def test_without_layers_opt_is_empty(own):
    name = own.make(python("import os\nreturn os.listdir('/opt')"))
    assert caller(own.client)(name).payload == []


def test_links_into_opt_lead_where_they_say(own):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("real/file", "content")
        link = zipfile.ZipInfo("bin/link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/opt/real/file")
    answer = own.client.publish_layer_version(LayerName="links", Content={"ZipFile": out.getvalue()})
    name = own.make(python("return open('/opt/bin/link').read()"), Layers=[answer["LayerVersionArn"]])
    assert caller(own.client)(name).payload == "content"


def test_a_bootstrap_may_come_from_a_layer(own):
    script = "#!/bin/sh\nexit 7\n"
    layer = publish(own, "runtime", {"bootstrap": script})
    name = own.make(
        {"hello.txt": "x"}, Runtime="provided.al2023", Handler="any", Layers=[layer["LayerVersionArn"]]
    )
    answer = caller(own.client)(name)
    # It was found and ran, and ended as it says.
    assert answer.error == "Unhandled" and "exit status 7" in answer.payload["errorMessage"]


def test_functions_go_on_when_their_layer_version_is_deleted(own):
    layer = publish(own, "one", {"python/inside.py": "VALUE = 1\n"})["LayerVersionArn"]
    name = own.make(python("import inside\nreturn inside.VALUE"), Layers=[layer])
    own.publish(name)
    own.client.delete_layer_version(LayerName="one", VersionNumber=1)
    call = caller(own.client)
    assert call(name).payload == 1 and call(name, Qualifier="1").payload == 1
    assert own.client.get_function_configuration(FunctionName=name)["Layers"][0]["Arn"] == layer
    with refused("InvalidParameterValueException", 400, f"Layer version {layer} does not exist."):
        own.make(HEALTHY, Layers=[layer])


def test_permissions(own):
    arn = publish(own, "one", {"f": "x"})["LayerVersionArn"]
    settings = {"LayerName": "one", "VersionNumber": 1}
    with refused("ResourceNotFoundException", 404, "No policy is associated with the given resource."):
        own.client.get_layer_version_policy(**settings)
    grant = {"StatementId": "all", "Action": "lambda:GetLayerVersion", "Principal": "*"} | settings
    answer = own.client.add_layer_version_permission(**grant)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": arn,
    }
    assert json.loads(answer["Statement"]) == statement
    found = own.client.get_layer_version_policy(**settings)
    assert json.loads(found["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    assert found["RevisionId"] == answer["RevisionId"]
    exists = (
        "The statement id (all) provided already exists. Please provide a new statement id, or remove the existing statement."
    )
    with refused("ResourceConflictException", 409, exists):
        own.client.add_layer_version_permission(**grant)
    stale = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest "
        "Revision Id"
    )
    with refused("PreconditionFailedException", 412, stale):
        own.client.add_layer_version_permission(**(grant | {"StatementId": "more", "RevisionId": "old"}))
    of_account = grant | {"StatementId": "one", "Principal": "123456789012", "RevisionId": found["RevisionId"]}
    answer = own.client.add_layer_version_permission(**of_account)
    assert json.loads(answer["Statement"])["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    of_organization = grant | {"StatementId": "org", "OrganizationId": "o-0123456789"}
    answer = own.client.add_layer_version_permission(**of_organization)
    condition = {"StringEquals": {"aws:PrincipalOrgID": "o-0123456789"}}
    assert json.loads(answer["Statement"])["Condition"] == condition
    with refused("ResourceNotFoundException", 404, "Statement none is not found in resource policy."):
        own.client.remove_layer_version_permission(StatementId="none", **settings)
    for sid in ("all", "one", "org"):
        own.client.remove_layer_version_permission(StatementId=sid, **settings)
    for operation in (
        lambda: own.client.get_layer_version_policy(**settings),
        lambda: own.client.remove_layer_version_permission(StatementId="all", **settings),
    ):
        with refused("ResourceNotFoundException", 404, "No policy is associated with the given resource."):
            operation()
    with refused("ResourceNotFoundException", 404, f"Layer version {arn[:-1]}7 does not exist."):
        own.client.get_layer_version_policy(LayerName="one", VersionNumber=7)


def test_another_account_uses_a_layer_when_its_policy_lets_it(own, server):
    arn = publish(own, "shared", {"python/inside.py": "VALUE = 'shared'\n"})["LayerVersionArn"]
    there = make_client(server, account="555555555555")
    settings = {
        "FunctionName": f"uses-{own.account}",
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": "arn:aws:iam::555555555555:role/r",
        "Code": {"ZipFile": zipped(python("import inside\nreturn inside.VALUE"))},
        "Layers": [arn],
    }
    denied = (
        "User: arn:aws:iam::555555555555:root is not authorized to perform: lambda:GetLayerVersion on resource: "
        f"{arn} because no resource-based policy allows the lambda:GetLayerVersion action"
    )
    with refused("AccessDeniedException", 403, denied):
        there.create_function(**settings)
    with refused("AccessDeniedException", 403, denied):
        there.get_layer_version_by_arn(Arn=arn)
    own.client.add_layer_version_permission(
        LayerName="shared",
        VersionNumber=1,
        StatementId="s",
        Action="lambda:GetLayerVersion",
        Principal="555555555555",
    )
    assert there.get_layer_version_by_arn(Arn=arn)["Version"] == 1
    there.create_function(**settings)
    name = settings["FunctionName"]
    wait_active(there, name)
    assert caller(there)(name).payload == "shared"
    there.delete_function(FunctionName=name)
