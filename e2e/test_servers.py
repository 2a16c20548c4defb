"""Several servers on one database and one bucket: what is made on one runs on the others, also when one goes."""

import concurrent.futures
import json
import random
import secrets
import subprocess
import time
import uuid

import botocore.exceptions
import pytest

from conftest import Functions, caller, make_client, wait_active, wait_updated
from hearth import BINARY, Server, environment, eventually
from packages import python, zipped
from postgres import Postgres

ROLE = "arn:aws:iam::000000000000:role/hearth"


@pytest.fixture(scope="module")
def postgres(base):
    postgres = Postgres(base / "postgres")
    yield postgres
    postgres.end()


class Cluster:
    """Servers that share a new database, a bucket of the S3 of another Hearth, and a key."""

    def __init__(self, base, cache, postgres, s3):
        self.base, self.cache, self.postgres, self.s3 = base, cache, postgres, s3
        self.url = postgres.database()
        self.bucket = f"packages-{uuid.uuid4().hex[:8]}"
        make_client(s3, "s3").create_bucket(Bucket=self.bucket)
        self.key = secrets.token_hex(32)
        self.servers = []

    @property
    def variables(self):
        packages = f"http://test:test@127.0.0.1:{self.s3.port}/{self.bucket}/code"
        return {"HEARTH_STORE_URL": self.url, "HEARTH_STORE_PACKAGES": packages, "HEARTH_ENCRYPTION_KEY": self.key}

    def start(self, cache=None, **variables):
        data = self.base / f"data-{uuid.uuid4().hex[:8]}"
        server = Server(data, cache or self.cache, **(self.variables | variables)).start()
        self.servers.append(server)
        return server

    def sql(self, text):
        return self.postgres.sql(text, self.url.split("///")[1].split("?")[0])

    def end(self):
        for server in self.servers:
            if server.alive():
                server.stop()


@pytest.fixture
def cluster(base, cache, postgres, server):
    cluster = Cluster(base, cache, postgres, server)
    yield cluster
    cluster.end()


def answers(client, name, **settings):
    """What a function says, or None while it is not known, or not known to be ready."""
    try:
        return caller(client)(name, **settings).payload
    except (client.exceptions.ResourceNotFoundException, client.exceptions.ResourceConflictException):
        return None


def says(word):
    return python(f"return '{word}'")


def until(client, name, word, **settings):
    eventually(f"{name} says {word}", lambda: answers(client, name, **settings) == word)


def test_two_servers_are_one(cluster, base):
    # As on two hosts: what one has unpacked the other has not.
    a, b = cluster.start(), cluster.start(cache=base / "other-cache")
    on_a, on_b = make_client(a), make_client(b)
    name = Functions(on_a).make(says("first"))
    until(on_b, name, "first")
    on_a.update_function_code(FunctionName=name, ZipFile=zipped(says("second")))
    until(on_b, name, "second")
    # The other way round, with versions, aliases, variables and a layer.
    on_b.update_function_configuration(FunctionName=name, Environment={"Variables": {"WORD": "third"}})
    wait_updated(on_b, name)
    on_b.update_function_code(FunctionName=name, ZipFile=zipped(python("import os\nreturn os.environ['WORD']")))
    wait_updated(on_b, name)
    version = on_b.publish_version(FunctionName=name)["Version"]
    on_b.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    until(on_a, name, "third", Qualifier="live")
    # A link that one server gives another serves.
    link = on_a.get_function(FunctionName=name)["Code"]["Location"]
    path = link.partition("/_hearth")[1] + link.partition("/_hearth")[2]
    status, _, package = b.request("GET", path)
    assert status == 200 and package[:2] == b"PK"
    layer = on_a.publish_layer_version(LayerName="l", Content={"ZipFile": zipped({"python/said.py": "word = 'fourth'"})})
    arn = layer["LayerVersionArn"]
    eventually("the layer", lambda: on_b.list_layer_versions(LayerName="l")["LayerVersions"])
    user = Functions(on_b).make(python("import said\nreturn said.word"), Layers=[arn])
    until(on_a, user, "fourth")
    # What is deleted on one is gone on the other.
    on_b.delete_function(FunctionName=name)
    eventually("it is gone", lambda: answers(on_a, name) is None)
    with pytest.raises(on_a.exceptions.ResourceNotFoundException):
        on_a.get_function(FunctionName=name)
    # Roles are shared, and sessions of one are known to the other.
    make_client(a, "iam").create_role(RoleName="shared", AssumeRolePolicyDocument=json.dumps(TRUST))
    session = make_client(b, "sts").assume_role(RoleArn="arn:aws:iam::000000000000:role/shared", RoleSessionName="session")
    assert session["AssumedRoleUser"]["Arn"].endswith("assumed-role/shared/session")


TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


def test_one_goes_and_the_other_goes_on(cluster):
    a, b = cluster.start(), cluster.start()
    on_a, on_b = make_client(a), make_client(b)
    name = Functions(on_a).make(says("made"))
    until(on_b, name, "made")
    # One is killed with a function on its way: the other brings it about.
    left = f"f-{uuid.uuid4().hex[:12]}"
    code = {"ZipFile": zipped(says("left"))}
    on_a.create_function(FunctionName=left, Runtime="python3.11", Handler="index.handler", Role=ROLE, Code=code)
    a.kill()
    eventually("it is known", lambda: on_b.list_functions()["Functions"])
    eventually("it is brought about", lambda: state(on_b, left) == "Active", patience=90)
    assert answers(on_b, left) == "left" and answers(on_b, name) == "made"
    on_b.update_function_code(FunctionName=name, ZipFile=zipped(says("changed")))
    until(on_b, name, "changed")
    # A new one takes the place of the one that went.
    c = cluster.start()
    assert answers(make_client(c), name) == "changed" and answers(make_client(c), left) == "left"
    on_c = make_client(c)
    on_c.delete_function(FunctionName=left)
    eventually("it is gone", lambda: answers(on_b, left) is None)


def state(client, name):
    try:
        return client.get_function_configuration(FunctionName=name)["State"]
    except client.exceptions.ResourceNotFoundException:
        return None


def test_servers_outlive_a_crash_of_their_database(base, cache, server):
    postgres = Postgres(base / f"postgres-{uuid.uuid4().hex[:8]}")
    cluster = Cluster(base, cache, postgres, server)
    try:
        a, b = cluster.start(), cluster.start()
        on_a, on_b = make_client(a), make_client(b)
        name = Functions(on_a).make(says("before"))
        until(on_b, name, "before")
        postgres.crash()
        # Invocations go on; changes are refused, and nothing is half made.
        assert answers(on_a, name) == "before" and answers(on_b, name) == "before"
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            on_a.update_function_configuration(FunctionName=name, Description="x")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        postgres.start()
        changed = zipped(says("after"))
        eventually("changes are taken again", lambda: changes(on_a, name, changed))
        until(on_a, name, "after")
        until(on_b, name, "after")
    finally:
        cluster.end()
        postgres.end()


def changes(client, name, package):
    try:
        return client.update_function_code(FunctionName=name, ZipFile=package)
    except botocore.exceptions.ClientError:
        return None


def test_no_secret_lies_in_the_database_or_the_bucket(cluster):
    planted = secrets.token_hex(16)
    a = cluster.start()
    code = python("import os\nreturn os.environ['SECRET']")
    name = Functions(make_client(a)).make(code, Environment={"Variables": {"SECRET": planted}})
    assert answers(make_client(a), name) == planted
    assert cluster.sql(f"SELECT count(*) FROM hearth.records WHERE position('{planted}'::bytea IN value) > 0") == "0\n"
    assert int(cluster.sql("SELECT count(*) FROM hearth.records WHERE kind = 'function'")) == 1
    s3 = make_client(cluster.s3, "s3")
    kept = s3.list_objects_v2(Bucket=cluster.bucket)["Contents"]
    assert [entry["Key"].startswith("code/") for entry in kept] == [True]
    assert b"SECRET" not in s3.get_object(Bucket=cluster.bucket, Key=kept[0]["Key"])["Body"].read()
    # Nor does the password of the database come into the log.
    assert "HEARTH_STORE" not in a.said() and "test:test" not in a.said()


def test_the_key_is_turned_over_while_no_server_runs(cluster, base, tmp_path):
    a = cluster.start()
    name = Functions(make_client(a)).make(says("kept"))
    new = tmp_path / "new"
    new.write_text(secrets.token_hex(32))
    rotate = ["keys", "rotate", "--data-dir", base / f"data-{uuid.uuid4().hex[:8]}", "--new-key-file", new]
    rotate[3].mkdir(mode=0o700)

    def rotated():
        command = [BINARY, *map(str, rotate)]
        return subprocess.run(command, capture_output=True, text=True, env=environment(**cluster.variables))

    refused = rotated()
    assert refused.returncode == 1 and "in use by another Hearth" in refused.stderr, refused
    a.stop()
    turned = eventually("the connection is gone", lambda: (done := rotated()).returncode == 0 and done)
    assert "wrapped with the new key" in turned.stdout
    with pytest.raises(AssertionError, match="is encrypted with another key"):
        cluster.start()
    cluster.key = new.read_text()
    assert answers(make_client(cluster.start()), name) == "kept"


def test_packages_that_nobody_needs_leave_the_bucket_and_no_others(cluster, base):
    # As on two hosts: what one has unpacked the other has not.
    a, b = cluster.start(), cluster.start(cache=base / f"cache-{uuid.uuid4().hex[:8]}")
    on_a, on_b, s3 = make_client(a), make_client(b), make_client(cluster.s3, "s3")
    kept = lambda: {entry["Key"] for entry in s3.list_objects_v2(Bucket=cluster.bucket).get("Contents", [])}
    made = Functions(on_a)
    gone, stays, twin = made.make(says("gone")), made.make(says("stays")), made.make(says("twin"))
    until(on_b, twin, "twin")
    assert len(kept()) == 3
    # What the other makes of the same package lives on when the first goes, and so does what a version or a layer needs.
    on_b.create_function(
        FunctionName="other", Runtime="python3.11", Handler="index.handler", Role=ROLE, Code={"ZipFile": zipped(says("twin"))}
    )
    on_a.publish_version(FunctionName=stays)
    made.change(stays, says("stays, changed"))
    layer = on_a.publish_layer_version(LayerName="l", Content={"ZipFile": zipped({"python/said.py": "word = 'layer'"})})
    user = made.make(python("import said\nreturn said.word"), Layers=[layer["LayerVersionArn"]])
    on_a.delete_layer_version(LayerName="l", VersionNumber=1)
    on_a.delete_function(FunctionName=twin)
    on_b.delete_function(FunctionName=gone)
    # Of the seven packages (one came twice) one is needed by nothing.
    eventually("what nobody needs is gone", lambda: len(kept()) == 5, patience=120)
    wait_active(on_b, "other")
    until(on_b, "other", "twin")
    until(on_a, "other", "twin")
    until(on_b, stays, "stays", Qualifier="1")
    until(on_b, stays, "stays, changed")
    until(on_b, user, "layer")
    # The same package again is there again, and everything goes in the end.
    again = made.make(says("gone"))
    until(on_b, again, "gone")
    for name in again, stays, user, "other":
        on_b.delete_function(FunctionName=name)
    eventually("nothing is kept", lambda: not kept(), patience=120)
    assert cluster.sql("SELECT count(*) FROM hearth.records WHERE kind LIKE 'blob%'") == "0\n"


def test_servers_that_publish_and_sweep_at_once_lose_no_package(cluster, base):
    a, b = cluster.start(), cluster.start(cache=base / f"cache-{uuid.uuid4().hex[:8]}")
    clients = [make_client(a), make_client(b)]
    ending = time.monotonic() + 30
    settings = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE}

    def churn(client, name):
        # Three packages, shared by all: what one server has just deleted the other brings back.
        chance = random.Random(name)
        rounds = 0
        while time.monotonic() < ending:
            word = chance.choice("xyz")
            client.create_function(FunctionName=name, Code={"ZipFile": zipped(says(word))}, **settings)
            wait_active(client, name)
            assert caller(client)(name).payload == word
            client.delete_function(FunctionName=name)
            # Long enough for the sweep to see it unneeded.
            time.sleep(chance.choice([0, 0, 12]))
            rounds += 1
        return rounds

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        rounds = [pool.submit(churn, clients[n % 2], f"churn-{n}") for n in range(4)]
        assert all(done.result() for done in rounds)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"HEARTH_STORE_PACKAGES": ""}, "store.packages is not"),
        ({"HEARTH_STORE_URL": ""}, "it has no effect alone"),
        ({"HEARTH_STORE_URL": "postgres://me:hidden@h/d?sslmode=always"}, "sslmode"),
        ({"HEARTH_STORE_URL": "postgres:///d?host=/nowhere&user=me&password=hidden"}, "cannot open the database"),
        ({"HEARTH_STORE_URL": "mysql://me:hidden@h/d"}, "is not a URL such as postgres://"),
    ],
)
def test_a_store_that_cannot_be_used_ends_the_start_with_the_reason(cluster, change, said):
    with pytest.raises(AssertionError) as refused:
        cluster.start(**change)
    assert said in str(refused.value) and "hidden" not in str(refused.value)


def test_what_is_not_shared_refuses_by_name(cluster, base):
    a = cluster.start()
    with pytest.raises(botocore.exceptions.ClientError, match="Hearth does not support s3 where servers share"):
        make_client(a, "s3").create_bucket(Bucket="own")
    with pytest.raises(botocore.exceptions.ClientError, match="Hearth does not support lambda:ListEventSourceMappings"):
        make_client(a).list_event_source_mappings()
    with pytest.raises(botocore.exceptions.ClientError, match="Hearth does not support scheduler where servers share"):
        make_client(a, "scheduler").list_schedules()
    # Code from a bucket comes from the S3 that keeps the packages.
    s3 = make_client(cluster.s3, "s3")
    s3.put_object(Bucket=cluster.bucket, Key="elsewhere/code.zip", Body=zipped(says("from a bucket")))
    client, name = make_client(a), f"f-{uuid.uuid4().hex[:12]}"
    code = {"S3Bucket": cluster.bucket, "S3Key": "elsewhere/code.zip"}
    client.create_function(FunctionName=name, Runtime="python3.11", Handler="index.handler", Role=ROLE, Code=code)
    wait_active(client, name)
    assert answers(client, name) == "from a bucket"
    # A data folder with records of its own is not taken over, and a newer database is refused.
    alone = Server(base / f"data-{uuid.uuid4().hex[:8]}", cluster.cache).start()
    alone.stop()
    mixed = Server(alone.data, cluster.cache, **cluster.variables)
    with pytest.raises(AssertionError, match="records of its own"):
        mixed.start()
    a.stop()
    cluster.sql("UPDATE hearth.format SET version = 99")
    with pytest.raises(AssertionError, match="newer Hearth"):
        cluster.start()
