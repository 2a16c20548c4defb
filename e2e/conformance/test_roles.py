"""Roles and managed policies (IAM), and taking roles on (STS): answers, texts, pages, limits."""

import datetime
import json
import re

import boto3
import botocore.config
import pytest

from conftest import accounts, make_client
from expect import refused
from hearth import scope

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
DOCUMENT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
OTHER = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}]}
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


def trusting(principal, **condition):
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | condition]})


@pytest.fixture
def number():
    return str(next(accounts))


@pytest.fixture
def iam(server, number):
    # What the SDK would find wrong by itself is the server's to say.
    return make_client(server, "iam", account=number, parameter_validation=False)


@pytest.fixture
def sts(server, number):
    return make_client(server, "sts", account=number, parameter_validation=False)


@pytest.fixture
def role(iam):
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))
    return "r"


def test_a_role_is_created_as_the_service_answers_it(iam, number):
    answer = iam.create_role(
        RoleName="Made.it",
        Path="/team/a/",
        AssumeRolePolicyDocument=json.dumps(TRUST, indent=2),
        Description="a line\nand <another> & more",
        MaxSessionDuration=7200,
        Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}],
    )
    role = answer["Role"]
    assert re.fullmatch("AROA[A-Z2-7]{17}", role["RoleId"])
    assert (role["Path"], role["RoleName"]) == ("/team/a/", "Made.it")
    assert role["Arn"] == f"arn:aws:iam::{number}:role/team/a/Made.it"
    assert role["AssumeRolePolicyDocument"] == TRUST
    age = datetime.datetime.now(datetime.timezone.utc) - role["CreateDate"]
    assert abs(age) < datetime.timedelta(minutes=10)
    got = iam.get_role(RoleName="Made.it")["Role"]
    assert got == role | {"RoleLastUsed": {}}
    assert got["Description"] == "a line\nand <another> & more" and got["MaxSessionDuration"] == 7200
    assert got["Tags"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    listed = iam.list_roles()["Roles"]
    assert [set(role) - set(one) for one in listed] == [{"Tags"}]
    iam.get_waiter("role_exists").wait(RoleName="Made.it", WaiterConfig={"Delay": 0.02, "MaxAttempts": 100})


def test_defaults_of_a_role(iam, role, number):
    got = iam.get_role(RoleName=role)["Role"]
    assert (got["Path"], got["MaxSessionDuration"]) == ("/", 3600)
    assert got["Arn"] == f"arn:aws:iam::{number}:role/r"
    assert not {"Description", "Tags", "PermissionsBoundary"} & set(got)


def test_answers_are_xml_of_the_service(server, number):
    form = "Action=ListRoles&Version=2010-05-08"
    headers = scope("iam", number) | {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    status, answered, body = server.request("POST", "/", form, headers)
    assert status == 200 and answered["content-type"] == "text/xml"
    expected = (
        r'<ListRolesResponse xmlns="https://iam\.amazonaws\.com/doc/2010-05-08/"><ListRolesResult><Roles></Roles>'
        r"<IsTruncated>false</IsTruncated></ListRolesResult><ResponseMetadata><RequestId>([0-9a-f-]{36})</RequestId>"
        r"</ResponseMetadata></ListRolesResponse>"
    )
    assert re.fullmatch(expected, body.decode()).group(1) == answered["x-amzn-requestid"]
    status, _, body = server.request("POST", "/", form.replace("ListRoles", "GetRole") + "&RoleName=x", headers)
    assert status == 404
    expected = (
        r'<ErrorResponse xmlns="https://iam\.amazonaws\.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity'
        r"</Code><Message>The role with name x cannot be found\.</Message></Error><RequestId>[0-9a-f-]{36}</RequestId>"
        r"</ErrorResponse>"
    )
    assert re.fullmatch(expected, body.decode())


def test_what_is_wrong_with_a_role_is_said(iam, role):
    create = iam.create_role
    with refused("EntityAlreadyExists", 409, "Role with name R already exists."):
        create(RoleName="R", AssumeRolePolicyDocument=json.dumps(TRUST))
    text = (
        "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the following: "
        "+=,.@_-"
    )
    with refused("ValidationError", 400, text):
        create(RoleName="a b", AssumeRolePolicyDocument=json.dumps(TRUST))
    text = (
        "1 validation error detected: Value '{}' at 'roleName' failed to satisfy constraint: Member must have length less "
        "than or equal to 64"
    )
    with refused("ValidationError", 400, text.format("r" * 65)):
        create(RoleName="r" * 65, AssumeRolePolicyDocument=json.dumps(TRUST))
    create(RoleName="r" * 64, AssumeRolePolicyDocument=json.dumps(TRUST))
    text = (
        "1 validation error detected: Value null at 'assumeRolePolicyDocument' failed to satisfy constraint: Member must "
        "not be null"
    )
    with refused("ValidationError", 400, text):
        create(RoleName="n")
    with refused("ValidationError", 400, re.compile("at 'maxSessionDuration' failed .* less than or equal to 43200")):
        create(RoleName="n", AssumeRolePolicyDocument=json.dumps(TRUST), MaxSessionDuration=43201)
    with refused("ValidationError", 400, re.compile("at 'path' failed to satisfy constraint")):
        create(RoleName="n", AssumeRolePolicyDocument=json.dumps(TRUST), Path="team")
    with refused("NoSuchEntity", 404, "The role with name none cannot be found."):
        iam.get_role(RoleName="none")


@pytest.mark.parametrize(
    "document, text",
    [
        ("{", "This policy contains invalid Json"),
        (json.dumps(DOCUMENT), "Has prohibited field Resource"),
        (trusting({"AWS": "nobody"}), 'Invalid principal in policy: "AWS":"nobody"'),
        (trusting({"Service": "x"}).replace("sts:AssumeRole", "s3:*"), "AssumeRole policy may only specify STS AssumeRole actions."),
        ('{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]}', "Missing required field Principal"),
        ('{"Statement": []}', "Syntax errors in policy."),
    ],
)
def test_what_is_wrong_with_a_trust_policy_is_said(iam, role, document, text):
    with refused("MalformedPolicyDocument", 400, text):
        iam.create_role(RoleName="n", AssumeRolePolicyDocument=document)
    with refused("MalformedPolicyDocument", 400, text):
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=document)
    assert iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"] == TRUST


def test_a_trust_policy_has_a_size(iam):
    def of(length):
        bare = trusting({"Service": "lambda.amazonaws.com"}, Sid="")
        pad = length - len(bare.replace(" ", ""))
        return bare.replace('"Sid": ""', '"Sid": "' + "x" * pad + '"')

    assert iam.create_role(RoleName="fits", AssumeRolePolicyDocument=of(2048))
    with refused("LimitExceeded", 409, "Cannot exceed quota for ACLSizePerRole: 2048"):
        iam.create_role(RoleName="n", AssumeRolePolicyDocument=of(2049))


def test_a_role_is_updated(iam, role):
    iam.update_role(RoleName=role, Description="d", MaxSessionDuration=7200)
    got = iam.get_role(RoleName=role)["Role"]
    assert (got["Description"], got["MaxSessionDuration"]) == ("d", 7200)
    assert iam.update_role_description(RoleName=role, Description="e")["Role"]["Description"] == "e"
    iam.update_role(RoleName=role)
    got = iam.get_role(RoleName=role)["Role"]
    assert (got["Description"], got["MaxSessionDuration"]) == ("e", 3600), "an hour where nothing is said"
    other = json.loads(trusting({"AWS": "*"}))
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(other))
    assert iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"] == other


def test_tags_of_a_role(iam, role):
    iam.tag_role(RoleName=role, Tags=[{"Key": f"k{n:02}", "Value": "v"} for n in range(49)])
    iam.tag_role(RoleName=role, Tags=[{"Key": "K00", "Value": "w"}, {"Key": "last", "Value": ""}])
    with refused("LimitExceeded", 409, "Cannot exceed quota for TagsPerRole: 50"):
        iam.tag_role(RoleName=role, Tags=[{"Key": "more", "Value": ""}])
    text = "Duplicate tag keys found. Please note that Tag keys are case insensitive."
    with refused("InvalidInput", 400, text):
        iam.tag_role(RoleName=role, Tags=[{"Key": "a", "Value": ""}, {"Key": "A", "Value": ""}])
    pages = iam.get_paginator("list_role_tags").paginate(RoleName=role, PaginationConfig={"PageSize": 7})
    keys = [[tag["Key"] for tag in page["Tags"]] for page in pages]
    assert [len(page) for page in keys] == [7] * 7 + [1] and "K00" in keys[0] and "k00" not in sum(keys, [])
    iam.untag_role(RoleName=role, TagKeys=[f"k{n:02}" for n in range(49)])
    assert iam.list_role_tags(RoleName=role)["Tags"] == [{"Key": "last", "Value": ""}]


def test_roles_are_listed_in_pages_by_path(iam):
    for n in range(12):
        iam.create_role(RoleName=f"n{n:02}", Path="/even/" if n % 2 == 0 else "/odd/", AssumeRolePolicyDocument=json.dumps(TRUST))
    pages = list(iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["Roles"]) for page in pages] == [5, 5, 2]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert [role["RoleName"] for page in pages for role in page["Roles"]] == [f"n{n:02}" for n in range(12)]
    pages = iam.get_paginator("list_roles").paginate(PathPrefix="/odd", PaginationConfig={"PageSize": 4})
    assert [[role["RoleName"] for role in page["Roles"]] for page in pages] == [["n01", "n03", "n05", "n07"], ["n09", "n11"]]
    with refused("ValidationError", 400, "Invalid Marker."):
        iam.list_roles(Marker="%")
    with refused("ValidationError", 400, re.compile("at 'maxItems' failed .* less than or equal to 1000")):
        iam.list_roles(MaxItems=1001)


def test_documents_in_a_role(iam, role):
    iam.put_role_policy(RoleName=role, PolicyName="one", PolicyDocument=json.dumps(DOCUMENT))
    iam.put_role_policy(RoleName=role, PolicyName="two", PolicyDocument=json.dumps(OTHER))
    iam.put_role_policy(RoleName=role, PolicyName="one", PolicyDocument=json.dumps(OTHER))
    got = iam.get_role_policy(RoleName=role, PolicyName="one")
    assert (got["RoleName"], got["PolicyName"], got["PolicyDocument"]) == (role, "one", OTHER)
    pages = iam.get_paginator("list_role_policies").paginate(RoleName=role, PaginationConfig={"PageSize": 1})
    assert [page["PolicyNames"] for page in pages] == [["one"], ["two"]]
    with refused("NoSuchEntity", 404, "The role policy with name none cannot be found."):
        iam.get_role_policy(RoleName=role, PolicyName="none")
    with refused("NoSuchEntity", 404, "The role policy with name none cannot be found."):
        iam.delete_role_policy(RoleName=role, PolicyName="none")
    with refused("MalformedPolicyDocument", 400, "Policy document should not specify a principal."):
        iam.put_role_policy(RoleName=role, PolicyName="three", PolicyDocument=json.dumps(TRUST))
    bad = json.dumps(DOCUMENT).replace("s3:GetObject", "GetObject")
    with refused("MalformedPolicyDocument", 400, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."):
        iam.put_role_policy(RoleName=role, PolicyName="three", PolicyDocument=bad)
    bad = json.dumps(OTHER).replace("arn:aws:s3:::b/*", "b/*")
    with refused("MalformedPolicyDocument", 400, 'Resource b/* must be in ARN format or "*".'):
        iam.put_role_policy(RoleName=role, PolicyName="three", PolicyDocument=bad)
    with refused("DeleteConflict", 409, "Cannot delete entity, must delete policies first."):
        iam.delete_role(RoleName=role)
    for name in ("one", "two"):
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    iam.delete_role(RoleName=role)
    with refused("NoSuchEntity", 404):
        iam.get_role(RoleName=role)


def test_documents_in_a_role_have_a_size_together(iam, role):
    def of(length):
        bare = json.dumps(DOCUMENT | {"Id": ""}, separators=(",", ":"))
        return bare.replace('"Id":""', '"Id":"' + "x" * (length - len(bare)) + '"')

    iam.put_role_policy(RoleName=role, PolicyName="one", PolicyDocument=of(10000))
    with refused("LimitExceeded", 409, "Maximum policy size of 10240 bytes exceeded for role r"):
        iam.put_role_policy(RoleName=role, PolicyName="two", PolicyDocument=of(241))
    iam.put_role_policy(RoleName=role, PolicyName="two", PolicyDocument=of(240) + "   ")


def test_a_managed_policy_and_its_versions(iam, number):
    made = iam.create_policy(PolicyName="p", Path="/x/", PolicyDocument=json.dumps(DOCUMENT), Description="what for")["Policy"]
    assert re.fullmatch("ANPA[A-Z2-7]{17}", made["PolicyId"]) and "Description" not in made
    arn = made["Arn"]
    assert arn == f"arn:aws:iam::{number}:policy/x/p"
    counts = (made["AttachmentCount"], made["PermissionsBoundaryUsageCount"], made["IsAttachable"], made["DefaultVersionId"])
    assert counts == (0, 0, True, "v1")
    assert iam.get_policy(PolicyArn=arn)["Policy"] == made | {"Description": "what for"} | {
        key: made[key] for key in ("CreateDate", "UpdateDate")
    }
    with refused("EntityAlreadyExists", 409, "A policy called P already exists. Duplicate names are not allowed."):
        iam.create_policy(PolicyName="P", PolicyDocument=json.dumps(DOCUMENT))
    second = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(OTHER))["PolicyVersion"]
    assert (second["VersionId"], second["IsDefaultVersion"], "Document" in second) == ("v2", False, False)
    third = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(OTHER), SetAsDefault=True)["PolicyVersion"]
    assert (third["VersionId"], third["IsDefaultVersion"]) == ("v3", True)
    got = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert (got["Document"], got["IsDefaultVersion"]) == (DOCUMENT, False)
    listed = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [(one["VersionId"], one["IsDefaultVersion"]) for one in listed] == [("v3", True), ("v2", False), ("v1", False)]
    with refused("DeleteConflict", 409, "Cannot delete the default version of a policy."):
        iam.delete_policy_version(PolicyArn=arn, VersionId="v3")
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v2")
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
    iam.delete_policy_version(PolicyArn=arn, VersionId="v3")
    with refused("NoSuchEntity", 404, f"Policy {arn} version v3 does not exist or is not attachable."):
        iam.get_policy_version(PolicyArn=arn, VersionId="v3")
    for expected in ("v4", "v5", "v6"):
        made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(OTHER))["PolicyVersion"]
        assert made["VersionId"] == expected, "no number is given twice"
    text = (
        "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version."
    )
    with refused("LimitExceeded", 409, text):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(OTHER))
    pages = iam.get_paginator("list_policy_versions").paginate(PolicyArn=arn, PaginationConfig={"PageSize": 2})
    assert [[one["VersionId"] for one in page["Versions"]] for page in pages] == [["v6", "v5"], ["v4", "v2"], ["v1"]]
    with refused("DeleteConflict", 409, re.compile("^This policy has more than one version.")):
        iam.delete_policy(PolicyArn=arn)
    for version in ("v1", "v4", "v5", "v6"):
        iam.delete_policy_version(PolicyArn=arn, VersionId=version)
    iam.delete_policy(PolicyArn=arn)
    with refused("NoSuchEntity", 404, f"Policy {arn} was not found."):
        iam.get_policy(PolicyArn=arn)


def test_a_managed_policy_has_a_size(iam):
    bare = json.dumps(DOCUMENT | {"Id": ""}, separators=(",", ":"))
    fits = bare.replace('"Id":""', '"Id":"' + "x" * (6144 - len(bare)) + '"')
    iam.create_policy(PolicyName="fits", PolicyDocument=fits)
    with refused("LimitExceeded", 409, "Cannot exceed quota for PolicySize: 6144"):
        iam.create_policy(PolicyName="n", PolicyDocument=fits.replace('"x', '"xx'))


def test_policies_are_attached_and_detached(iam, role):
    own = iam.create_policy(PolicyName="AWSLambdaBasicExecutionRole", PolicyDocument=json.dumps(DOCUMENT))["Policy"]["Arn"]
    for arn in (BASIC, own, own):
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    names = "AWSLambdaBasicExecutionRole"
    assert attached == [{"PolicyName": names, "PolicyArn": BASIC}, {"PolicyName": names, "PolicyArn": own}]
    pages = iam.get_paginator("list_attached_role_policies").paginate(RoleName=role, PaginationConfig={"PageSize": 1})
    assert [page["AttachedPolicies"][0]["PolicyArn"] for page in pages] == [BASIC, own]
    by_path = iam.list_attached_role_policies(RoleName=role, PathPrefix="/service-role/")["AttachedPolicies"]
    assert [one["PolicyArn"] for one in by_path] == [BASIC]
    for arn in (BASIC, own):
        assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
        entities = iam.list_entities_for_policy(PolicyArn=arn)
        assert [one["RoleName"] for one in entities["PolicyRoles"]] == [role]
        assert (entities["PolicyUsers"], entities["PolicyGroups"]) == ([], [])
        assert iam.list_entities_for_policy(PolicyArn=arn, EntityFilter="User")["PolicyRoles"] == []
    assert [one["Arn"] for one in iam.list_policies(OnlyAttached=True)["Policies"]] == [BASIC, own]
    with refused("DeleteConflict", 409, "Cannot delete a policy attached to entities."):
        iam.delete_policy(PolicyArn=own)
    with refused("DeleteConflict", 409, "Cannot delete entity, must detach all policies first."):
        iam.delete_role(RoleName=role)
    for arn in (BASIC, own):
        iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        with refused("NoSuchEntity", 404, f"Policy {arn} was not found."):
            iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    iam.delete_policy(PolicyArn=own)
    iam.delete_role(RoleName=role)


def test_what_cannot_be_attached_is_said(iam, role, number):
    missing = f"arn:aws:iam::{number}:policy/none"
    with refused("NoSuchEntity", 404, f"Policy {missing} does not exist or is not attachable."):
        iam.attach_role_policy(RoleName=role, PolicyArn=missing)
    with refused("ValidationError", 400, "Invalid ARN:  Could not be parsed!"):
        iam.attach_role_policy(RoleName=role, PolicyArn="not an arn, but long enough")
    with refused("NotImplementedException", 501, "Hearth does not support the policy arn:aws:iam::aws:policy/ReadOnlyAccess."):
        iam.attach_role_policy(RoleName=role, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    for n in range(11):
        arn = iam.create_policy(PolicyName=f"p{n}", PolicyDocument=json.dumps(DOCUMENT))["Policy"]["Arn"]
        if n < 10:
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    with refused("LimitExceeded", 409, "Cannot exceed quota for PoliciesPerRole: 10"):
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)


def test_policies_of_aws_for_lambda_are_there(iam):
    listed = iam.list_policies(Scope="AWS")["Policies"]
    names = {one["PolicyName"] for one in listed}
    assert {
        "AWSLambdaBasicExecutionRole",
        "AWSLambdaVPCAccessExecutionRole",
        "AWSLambdaSQSQueueExecutionRole",
        "AWSLambdaKinesisExecutionRole",
        "AWSLambdaDynamoDBExecutionRole",
        "AWSLambdaMSKExecutionRole",
        "AWSLambda_FullAccess",
        "AWSXRayDaemonWriteAccess",
    } <= names
    policy = iam.get_policy(PolicyArn=BASIC)["Policy"]
    document = iam.get_policy_version(PolicyArn=BASIC, VersionId=policy["DefaultVersionId"])["PolicyVersion"]["Document"]
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    assert document["Statement"] == [{"Effect": "Allow", "Action": actions, "Resource": "*"}]
    with refused("AccessDenied", 403, "Policy is outside your own account."):
        iam.delete_policy(PolicyArn=BASIC)
    iam.create_policy(PolicyName="own", PolicyDocument=json.dumps(DOCUMENT))
    pages = list(iam.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 4}))
    assert [one["PolicyName"] for page in pages for one in page["Policies"]] == sorted(names) + ["own"]
    assert [one["PolicyName"] for one in iam.list_policies(Scope="Local")["Policies"]] == ["own"]


def test_a_boundary_is_kept(iam, number):
    own = iam.create_policy(PolicyName="b", PolicyDocument=json.dumps(DOCUMENT))["Policy"]["Arn"]
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST), PermissionsBoundary=own)
    boundary = iam.get_role(RoleName="r")["Role"]["PermissionsBoundary"]
    assert boundary == {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": own}
    assert iam.get_policy(PolicyArn=own)["Policy"]["PermissionsBoundaryUsageCount"] == 1
    with refused("DeleteConflict", 409):
        iam.delete_policy(PolicyArn=own)
    iam.delete_role(RoleName="r")
    iam.delete_policy(PolicyArn=own)


def test_other_operations_refuse_by_name(server, iam, sts):
    with refused("NotImplementedException", 501, "Hearth does not support iam:CreateUser."):
        iam.create_user(UserName="u")
    with refused("NotImplementedException", 501, "Hearth does not support sts:GetFederationToken."):
        sts.get_federation_token(Name="name")
    with refused("NotImplementedException", 501, "Hearth does not support sts:AssumeRole with Policy."):
        sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/r", RoleSessionName="s1", Policy="{}")
    status, _, body = server.request("POST", "/", "Action=Nothing&Version=2010-05-08", scope("iam"))
    assert status == 400 and b"<Code>InvalidAction</Code>" in body
    assert b"Could not find operation Nothing for version 2010-05-08" in body


def session_client(server, service, credentials, **config):
    return boto3.client(
        service,
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=botocore.config.Config(retries={"total_max_attempts": 1}, **config),
    )


def test_a_role_is_taken_on(server, iam, sts, number):
    made = iam.create_role(RoleName="r", Path="/p/", AssumeRolePolicyDocument=trusting({"AWS": number}))["Role"]
    answer = sts.assume_role(RoleArn=made["Arn"], RoleSessionName="me@home", DurationSeconds=900)
    assumed = f"arn:aws:sts::{number}:assumed-role/r/me@home"
    assert answer["AssumedRoleUser"] == {"AssumedRoleId": f"{made['RoleId']}:me@home", "Arn": assumed}
    credentials = answer["Credentials"]
    assert re.fullmatch("ASIA[A-Z2-7]{16}", credentials["AccessKeyId"]) and len(credentials["SecretAccessKey"]) == 40
    left = credentials["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=5) < left <= datetime.timedelta(minutes=15)
    identity = session_client(server, "sts", credentials).get_caller_identity()
    assert (identity["UserId"], identity["Account"], identity["Arn"]) == (f"{made['RoleId']}:me@home", number, assumed)
    # Calls with them are calls in the role's account.
    assert [one["RoleName"] for one in session_client(server, "iam", credentials).list_roles()["Roles"]] == ["r"]
    settings = session_client(server, "lambda", credentials).get_account_settings()
    assert settings["AccountUsage"]["FunctionCount"] == 0


def test_who_a_role_does_not_trust_does_not_get_it(iam, sts, number, server):
    arn = iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    text = f"User: arn:aws:iam::{number}:root is not authorized to perform: sts:AssumeRole on resource: "
    for wanted in (arn, arn + "x", arn.replace("role/", "role/path/")):
        with refused("AccessDenied", 403, text + wanted):
            sts.assume_role(RoleArn=wanted, RoleSessionName="s1")
    with refused("ValidationError", 400, "not an arn, but long enough is invalid"):
        sts.assume_role(RoleArn="not an arn, but long enough", RoleSessionName="s1")
    with refused("ValidationError", 400, re.compile("at 'roleSessionName' failed .* regular expression pattern")):
        sts.assume_role(RoleArn=arn, RoleSessionName="a b")
    other = make_client(server, "sts", account=str(next(accounts)))
    iam.update_assume_role_policy(
        RoleName="r",
        PolicyDocument=trusting({"AWS": "*"}, Condition={"StringEquals": {"sts:ExternalId": "secret-1"}}),
    )
    with refused("AccessDenied", 403):
        other.assume_role(RoleArn=arn, RoleSessionName="s1")
    with refused("AccessDenied", 403):
        other.assume_role(RoleArn=arn, RoleSessionName="s1", ExternalId="secret-2")
    assumed = other.assume_role(RoleArn=arn, RoleSessionName="s1", ExternalId="secret-1")["AssumedRoleUser"]
    assert assumed["Arn"] == f"arn:aws:sts::{number}:assumed-role/r/s1"


def test_roles_in_a_chain(server, iam, sts, number):
    first = iam.create_role(RoleName="first", AssumeRolePolicyDocument=trusting({"AWS": number}), MaxSessionDuration=7200)
    first = first["Role"]["Arn"]
    second = iam.create_role(RoleName="second", AssumeRolePolicyDocument=trusting({"AWS": first}), MaxSessionDuration=43200)
    second = second["Role"]["Arn"]
    with refused("AccessDenied", 403):
        sts.assume_role(RoleArn=second, RoleSessionName="s1")
    text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    with refused("ValidationError", 400, text):
        sts.assume_role(RoleArn=first, RoleSessionName="s1", DurationSeconds=7201)
    credentials = sts.assume_role(RoleArn=first, RoleSessionName="s1", DurationSeconds=7200)["Credentials"]
    chained = session_client(server, "sts", credentials)
    text = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
    with refused("ValidationError", 400, text):
        chained.assume_role(RoleArn=second, RoleSessionName="s2", DurationSeconds=3601)
    assumed = chained.assume_role(RoleArn=second, RoleSessionName="s2")["AssumedRoleUser"]
    assert assumed["Arn"] == f"arn:aws:sts::{number}:assumed-role/second/s2"
    text = f"User: arn:aws:sts::{number}:assumed-role/first/s1 is not authorized to perform: sts:AssumeRole on resource: {first}"
    iam.update_assume_role_policy(RoleName="first", PolicyDocument=trusting({"AWS": str(next(accounts))}))
    with refused("AccessDenied", 403, text):
        chained.assume_role(RoleArn=first, RoleSessionName="s3")
    with refused("AccessDenied", 403, "Cannot call GetSessionToken with session credentials"):
        chained.get_session_token()


def test_a_session_of_the_account(server, sts, number):
    credentials = sts.get_session_token(DurationSeconds=900)["Credentials"]
    identity = session_client(server, "sts", credentials).get_caller_identity()
    assert (identity["UserId"], identity["Account"], identity["Arn"]) == (number, number, f"arn:aws:iam::{number}:root")


def test_a_token_goes_with_its_key_and_a_forged_one_with_nobody(server, sts, number):
    credentials = sts.get_session_token()["Credentials"]
    other = sts.get_session_token()["Credentials"]
    token = credentials["SessionToken"]
    forged = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
    for mixed in (credentials | {"SessionToken": other["SessionToken"]}, credentials | {"SessionToken": forged}):
        assert session_client(server, "sts", mixed).get_caller_identity()["Account"] == "000000000000"


def test_sessions_and_what_was_acknowledged_outlive_the_server(start):
    server = start()
    credentials = make_client(server, "sts", account="123456789012").get_session_token()["Credentials"]
    iam = make_client(server, "iam", account="123456789012")
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    own = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(DOCUMENT))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="r", PolicyArn=own)
    server.kill()
    again = start()
    assert session_client(again, "sts", credentials).get_caller_identity()["Account"] == "123456789012"
    iam = session_client(again, "iam", credentials)
    assert iam.get_role(RoleName="r")["Role"] == role | {"RoleLastUsed": {}}
    attached = iam.list_attached_role_policies(RoleName="r")["AttachedPolicies"]
    assert attached == [{"PolicyName": "p", "PolicyArn": own}]


def test_a_presigned_question_who_calls(server, sts, number):
    url = sts.generate_presigned_url("get_caller_identity")
    path = url.removeprefix(server.url)
    status, _, body = server.request("GET", path)
    assert status == 200 and f"<Arn>arn:aws:iam::{number}:root</Arn>".encode() in body
