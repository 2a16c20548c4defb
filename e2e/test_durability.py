"""What was acknowledged stays: over restarts, and over `kill -9` at any moment."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import random
import threading
import time
import urllib.parse
import urllib.request

import pytest

from conftest import ROLE, Functions, caller, make_client, wait_active
from hearth import descendants, eventually, scope, start_of
from packages import python, zipped

KILLS = int(os.environ.get("HEARTH_E2E_KILLS", "200"))
GONE = (OSError, http.client.HTTPException)


def test_a_restart_keeps_functions_code_and_logs(start):
    server = start()
    client = make_client(server)
    files = python("print('said before')\nreturn [event, __import__('os').environ['KEY']]")
    name = Functions(client).make(files, Environment={"Variables": {"KEY": "1"}}, Tags={"a": "b"}, Timeout=7)
    before = client.get_function(FunctionName=name)
    assert caller(client)(name, 1).payload == [1, "1"]
    server.stop()
    client = make_client(start())
    after = client.get_function(FunctionName=name)
    assert after["Configuration"] == before["Configuration"]
    assert after["Tags"] == {"a": "b"}
    with urllib.request.urlopen(after["Code"]["Location"], timeout=10) as code:
        assert code.read() == zipped(files)
    assert caller(client)(name, 2).payload == [2, "1"]


def test_logs_outlive_a_restart(start):
    server = start()
    client = make_client(server)
    name = Functions(client).make(python("print('said before')"))
    caller(client)(name)
    server.stop()
    lines = start().request("GET", f"/_hearth/v1/functions/{name}/logs")[2].splitlines()
    assert "said before" in [json.loads(line)["message"] for line in lines]


def test_who_hangs_up_leaves_no_function_half_known(start):
    """What was asked for is made or not, and is known as it was made: whatever moment the caller's connection ends at."""
    server = start()
    client = make_client(server)
    package = base64.b64encode(zipped(python("return 'made'"))).decode()
    names = [f"f{number}" for number in range(60)]
    for number, name in enumerate(names):
        wanted = {"FunctionName": name, "Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE}
        body = json.dumps(wanted | {"Code": {"ZipFile": package}})
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/2015-03-31/functions", body, scope("lambda"))
        # Spread over the time that a creation takes, here and on a busy machine.
        time.sleep(number % 30 * 0.001)
        connection.close()

    def known(name):
        """Whether it is made and ready; what is not there can be made."""
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            return client.get_function_configuration(FunctionName=name)["State"] == "Active"
        Functions(client).make(python("return 'made'"), FunctionName=name)
        return True

    for name in names:
        eventually(f"{name} is whole", lambda: known(name))
        assert caller(client)(name).payload == "made"


def test_a_killed_server_leaves_nothing_once_it_is_started_again(start, data, cache):
    server = start()
    client = make_client(server)
    name = Functions(client).make(python("import time\ntime.sleep(event)"))
    caller(client)(name, 0)
    calling = threading.Thread(target=lambda: swallow(lambda: caller(client)(name, 30)))
    calling.start()
    family = descendants(server.process.pid)
    assert len(family) > 3
    server.kill()
    calling.join()
    again = start()
    eventually("the end of the old processes", lambda: all(start_of(pid) != begun for pid, begun in family))
    assert caller(make_client(again))(name, 0).error is None
    again.stop()


def swallow(work):
    try:
        work()
    except Exception:
        return


class Change:
    """One request that changes a function, and the state that it leads to. A state is `(code, description)`."""

    def __init__(self, name, state, n, chance):
        self.name, self.before = name, state
        path = f"/2015-03-31/functions/{name}"
        if state is None:
            body = {"FunctionName": name, "Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE}
            body |= {"Code": {"ZipFile": text_of(n)}, "Description": str(n)}
            self.request, self.after = ("POST", "/2015-03-31/functions", body), (n, str(n))
        elif chance < 0.4:
            self.request, self.after = ("PUT", path + "/code", {"ZipFile": text_of(n)}), (n, state[1])
        elif chance < 0.8:
            self.request, self.after = ("PUT", path + "/configuration", {"Description": str(n)}), (state[0], str(n))
        else:
            self.request, self.after = ("DELETE", path, None), None


def code_of(n):
    return zipped(python(f"return {n}"))


def text_of(n):
    return base64.b64encode(code_of(n)).decode()


class Writer(threading.Thread):
    """Changes its functions one request after another until the server is gone. `states` is what was acknowledged,
    `open` the change that was not answered."""

    def __init__(self, server, states, seed):
        super().__init__()
        self.server, self.states, self.chance = server, states, random.Random(seed)
        self.open = None
        self.changes = 0
        self.fault = None

    def run(self):
        while True:
            name = self.chance.choice(sorted(self.states))
            change = Change(name, self.states[name], self.chance.randrange(10**9), self.chance.random())
            self.open = change
            try:
                status, _, body = self.server.lambda_request(*change.request, timeout=20)
            except GONE:
                return
            # 409: the last change is still being applied.
            if status < 300:
                self.states[name] = change.after
                self.changes += 1
            elif status != 409:
                self.fault = f"{change.request[:2]}: {status} {body}"
                return
            self.open = None


def seen(server, name):
    """The state of a function as it is visible, after checking that it is whole."""
    status, _, body = server.lambda_request("GET", f"/2015-03-31/functions/{name}")
    if status == 404:
        return None
    assert status == 200, body
    found = json.loads(body)
    configuration = found["Configuration"]
    location = urllib.parse.urlsplit(found["Code"]["Location"])
    status, _, code = server.request("GET", f"{location.path}?{location.query}")
    assert status == 200
    assert base64.b64encode(hashlib.sha256(code).digest()).decode() == configuration["CodeSha256"]
    assert len(code) == configuration["CodeSize"]
    return code, configuration["Description"]


def as_seen(state):
    return state and (code_of(state[0]), state[1])


@pytest.mark.timeout(420)
def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing_half(start):
    seed = int(os.environ.get("HEARTH_E2E_SEED", str(random.randrange(10**9))))
    print(f"HEARTH_E2E_SEED={seed}")
    chance = random.Random(seed)
    groups = [{f"killed-{writer}-{n}": None for n in range(3)} for writer in range(3)]
    unanswered, changes, ended = [], 0, []
    for kill in range(KILLS):
        server = start()
        for group in groups:
            for name, state in group.items():
                found = seen(server, name)
                possible = [state] + [change.after for change in unanswered if change.name == name]
                held = [one for one in possible if as_seen(one) == found]
                assert held, f"kill {kill}: {name} is {found and found[1]}, not one of {possible}"
                group[name] = held[0]
        writers = [Writer(server, group, chance.random()) for group in groups]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0, 0.1))
        ended += descendants(server.process.pid)
        server.kill()
        for writer in writers:
            writer.join()
            assert writer.fault is None, writer.fault
        unanswered = [writer.open for writer in writers if writer.open]
        changes += sum(writer.changes for writer in writers)
    server = start()
    client = make_client(server)
    for name in [function["FunctionName"] for function in client.list_functions()["Functions"]]:
        wait_active(client, name)
        assert isinstance(caller(client)(name).payload, int)
    assert changes > KILLS, "the kills did not fall among changes"
    eventually("the end of every old process", lambda: all(start_of(pid) != begun for pid, begun in ended))


PROFILE = "arn:aws:signer:us-east-1:123456789012:/signing-profiles/p/0123456789"
# Ways to change what belongs to a function, and layers and configurations beside it.
KINDS = ["publish", "code", "unpublish", "alias", "point", "weigh", "drop", "permission", "forget", "whole", "reserve"]
KINDS += ["release", "tag", "recursion", "runtime", "signing", "layer", "share", "unlayer"]


class Family:
    """A function with all that can belong to it, changed at random, and how it is seen from outside."""

    def __init__(self, client, name, chance):
        self.client, self.name, self.chance = client, name, chance

    def change(self, n):
        """One change, acknowledged."""
        client, name = self.client, {"FunctionName": self.name}
        versions = [version for version in self.versions() if version != "$LATEST"]
        aliases = [alias["Name"] for alias in client.list_aliases(**name)["Aliases"]]
        kind = self.chance.choice(KINDS)
        if kind == "code" or not versions:
            client.update_function_code(ZipFile=code_of(n), **name)
            wait_active(client, self.name, "function_updated_v2")
            client.publish_version(**name)
        elif kind == "publish":
            client.publish_version(**name)
        elif kind == "alias":
            client.create_alias(Name=f"a{n}", FunctionVersion=self.chance.choice(versions), **name)
        elif kind == "point" and aliases:
            client.update_alias(Name=aliases[0], FunctionVersion=versions[-1], Description=str(n), **name)
        elif kind == "permission":
            client.add_permission(StatementId=f"s{n}", Action="lambda:Invoke", Principal="s3.amazonaws.com", **name)
        elif kind == "reserve":
            client.put_function_concurrency(ReservedConcurrentExecutions=n % 100, **name)
        elif kind == "tag":
            client.tag_resource(Resource=self.arn(), Tags={f"k{n % 10}": str(n)})
        elif kind == "layer":
            client.publish_layer_version(LayerName="layer", Content={"ZipFile": zipped({"f": str(n)})})
        elif kind == "drop" and aliases:
            client.delete_alias(Name=aliases[-1], **name)
        elif kind == "weigh" and aliases and len(versions) > 1:
            weights = {"AdditionalVersionWeights": {versions[0]: n % 100 / 100}}
            client.update_alias(Name=aliases[0], FunctionVersion=versions[-1], RoutingConfig=weights, **name)
        elif kind == "forget" and self.seen()["policy"]:
            statements = json.loads(self.seen()["policy"]["Policy"])["Statement"]
            client.remove_permission(StatementId=statements[0]["Sid"], **name)
        elif kind == "whole":
            statement = {"Sid": f"w{n}", "Effect": "Allow", "Principal": "*", "Action": "lambda:*", "Resource": self.arn()}
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            client.put_resource_policy(ResourceArn=self.arn(), Policy=json.dumps(policy))
        elif kind == "release":
            client.delete_function_concurrency(**name)
        elif kind == "recursion":
            client.put_function_recursion_config(RecursiveLoop=self.chance.choice(["Allow", "Terminate"]), **name)
        elif kind == "runtime":
            on = self.chance.choice(["Auto", "FunctionUpdate"])
            client.put_runtime_management_config(UpdateRuntimeOn=on, Qualifier=(versions or ["$LATEST"])[0], **name)
        elif kind == "signing":
            publishers = {"SigningProfileVersionArns": [PROFILE]}
            made = client.create_code_signing_config(AllowedPublishers=publishers, Description=str(n))["CodeSigningConfig"]
            client.put_function_code_signing_config(CodeSigningConfigArn=made["CodeSigningConfigArn"], **name)
        elif kind == "share" and client.list_layer_versions(LayerName="layer")["LayerVersions"]:
            newest = client.list_layer_versions(LayerName="layer")["LayerVersions"][0]["Version"]
            statement = {"StatementId": f"s{n}", "Action": "lambda:GetLayerVersion", "Principal": "123456789012"}
            client.add_layer_version_permission(LayerName="layer", VersionNumber=newest, **statement)
        elif kind == "unlayer" and client.list_layer_versions(LayerName="layer")["LayerVersions"]:
            oldest = client.list_layer_versions(LayerName="layer")["LayerVersions"][-1]["Version"]
            client.delete_layer_version(LayerName="layer", VersionNumber=oldest)
        elif kind == "unpublish":
            spare = [version for version in versions if version not in self.pointed_at()]
            if spare:
                client.delete_function(Qualifier=spare[0], **name)

    def pointed_at(self):
        """Versions that an alias leads to."""
        aliases = self.client.list_aliases(FunctionName=self.name)["Aliases"]
        weighed = [alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}) for alias in aliases]
        return {alias["FunctionVersion"] for alias in aliases}.union(*weighed)

    def layer_policy(self, number):
        with contextlib.suppress(self.client.exceptions.ResourceNotFoundException):
            return self.client.get_layer_version_policy(LayerName="layer", VersionNumber=number)
        return {}

    def arn(self):
        return self.client.get_function_configuration(FunctionName=self.name)["FunctionArn"]

    def versions(self):
        listed = self.client.list_versions_by_function(FunctionName=self.name)["Versions"]
        return [version["Version"] for version in listed]

    def seen(self):
        client, name = self.client, {"FunctionName": self.name}
        whole = {
            "function": client.get_function(**name),
            "versions": client.list_versions_by_function(**name),
            "aliases": client.list_aliases(**name),
            "layers": client.list_layer_versions(LayerName="layer"),
            "account": client.get_account_settings(),
            "recursion": client.get_function_recursion_config(**name),
            "signing": client.get_function_code_signing_config(**name),
            "configs": client.list_code_signing_configs(),
        }
        for version in self.versions():
            whole["runtime " + version] = client.get_runtime_management_config(Qualifier=version, **name)
        for layer in whole["layers"]["LayerVersions"]:
            whole[f"policy of layer {layer['Version']}"] = self.layer_policy(layer["Version"])
        try:
            whole["policy"] = client.get_policy(**name)
        except client.exceptions.ResourceNotFoundException:
            whole["policy"] = {}
        for part in whole.values():
            part.pop("ResponseMetadata", None)
        whole["function"].pop("Code")
        return whole


def test_what_belongs_to_a_function_outlives_kills(start):
    chance = random.Random(int(os.environ.get("HEARTH_E2E_SEED", "7")))
    server = start()
    name = Functions(make_client(server)).make(code_of(0))
    n = 0
    for _ in range(max(3, KILLS // 20)):
        family = Family(make_client(server), name, chance)
        for _ in range(chance.randrange(4, 12)):
            n += 1
            family.change(n)
        before = family.seen()
        server.kill()
        server = start()
        family = Family(make_client(server), name, chance)
        assert family.seen() == before
        # Each version says what its code says.
        said = {}
        for version in before["versions"]["Versions"]:
            answer = caller(family.client)(name, Qualifier=version["Version"]).payload
            assert said.setdefault(version["CodeSha256"], answer) == answer
        assert len(set(said.values())) == len(said)
