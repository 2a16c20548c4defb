"""What is answered and what is refused, in which words: the cases of `cases/`, a file a group of operations, taken from the
specification and the API's model. The JavaScript SDK is asked the same (`javascript/conformance/cases.test.mjs`).

A case calls an operation `with` an input and expects a `status` and either an `error` with its `message` (or one `like` a
pattern), or an answer that `has` some members and `lacks` others. Braces stand for what the world of the group has.
"""

import json
import pathlib
import re

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from conftest import Functions, accounts, make_client
from packages import HEALTHY, zipped

CASES = {path.stem: json.loads(path.read_text()) for path in pathlib.Path(__file__).parent.glob("cases/*.json")}


class World:
    """A function with the versions 1 and 2 and the alias `live`, and two versions of a layer, in an account of its own."""

    def __init__(self, server):
        account = str(next(accounts))
        self.client = client = make_client(server, account=account, parameter_validation=False)
        self.functions = functions = Functions(client)
        name = functions.make({"index.py": "def handler(event, context):\n    return 1\n"}, Timeout=3)
        functions.publish(name)
        functions.publish(name, HEALTHY)
        client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        statement = {"StatementId": "kept", "Principal": "*"}
        client.add_permission(FunctionName=name, Action="lambda:InvokeFunction", **statement)
        package = zipped({"python/m.py": ""})
        some = {"CompatibleRuntimes": ["python3.11"], "CompatibleArchitectures": ["x86_64"], "LicenseInfo": "MIT"}
        client.publish_layer_version(LayerName="l", Content={"ZipFile": package}, Description="one", **some)
        client.publish_layer_version(LayerName="l", Content={"ZipFile": package})
        client.add_layer_version_permission(
            LayerName="l", VersionNumber=1, Action="lambda:GetLayerVersion", **statement
        )
        self.blobs = {"{zip}": zipped(HEALTHY), "{nozip}": b"no zip"}
        base = f"arn:aws:lambda:us-east-1:{account}:"
        self.words = {"f": name, "account": account, "arn": base + "function:", "layer": base + "layer:l"}
        self.said = None
        client.meta.events.register("before-parse.lambda", self.hear)

    def hear(self, response_dict, **_):
        self.said = response_dict

    def meant(self, value):
        """A value with what its braces stand for."""
        match value:
            case str() if value in self.blobs:
                return self.blobs[value]
            case str():
                value = re.sub(r"\{x\*(\d+)\}", lambda found: "x" * int(found[1]), value)
                return re.sub(r"\{(f|account|arn|layer)\}", lambda found: self.words[found[1]], value)
            case list():
                return [self.meant(item) for item in value]
            case dict():
                return {key: self.meant(item) for key, item in value.items()}
            case _:
                return value


@pytest.fixture(scope="module")
def worlds(server):
    made = {}

    def world(group):
        if group not in made:
            made[group] = World(server)
        return made[group]

    yield world
    for each in made.values():
        each.functions.delete()


def named(group, number, case):
    return pytest.param(group, case, id=f"{group}-{number + 1}-{case['call']}-{case.get('error', case['status'])}")


@pytest.mark.parametrize(
    "group, case", [named(group, number, case) for group in sorted(CASES) for number, case in enumerate(CASES[group])]
)
def test_it_is_answered_as_aws_answers_it(worlds, group, case):
    world = worlds(group)
    call = getattr(world.client, xform_name(case["call"]))
    given = world.meant(case["with"])
    if "error" not in case:
        answer = call(**given)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == case["status"]
        for member, expected in case["has"].items():
            assert answer[member] == world.meant(expected), member
        for member in case["lacks"]:
            assert member not in answer
        return
    with pytest.raises(ClientError) as refused:
        call(**given)
    answer = refused.value.response
    assert answer["Error"]["Code"] == case["error"], answer
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == case["status"]
    if "message" in case:
        assert answer["Error"]["Message"] == world.meant(case["message"])
    if "like" in case:
        assert re.search(world.meant(case["like"]), answer["Error"]["Message"])
    # On the wire: the header, and the message under the key that the model gives this exception.
    headers, body = world.said["headers"], json.loads(world.said["body"])
    assert headers["x-amzn-errortype"] == case["error"]
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", headers["x-amzn-requestid"])
    model = world.client.meta.service_model
    if case["error"] in model.shape_names:
        members = set(model.shape_for(case["error"]).members)
        assert set(body) <= members | {"Type"} and body["Type"] == "User", body
        assert "message" in body or "Message" in body
    else:
        assert "Type" not in body or case["error"] == "AccessDeniedException", body
