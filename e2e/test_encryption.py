"""Encryption at rest: what a function keeps to itself is found nowhere in the data folder, and the key can be changed."""

import io
import json
import os
import secrets
import subprocess
import zipfile

from conftest import Functions, caller, make_client
from hearth import BINARY, Server, environment, eventually
from packages import python

HANDLER = "import os\nreturn os.environ['SECRET']"


def found(folder, secret):
    """Files below a folder that hold these bytes. They need not be text."""
    held = []
    for base, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(base, name), "rb") as file:
                if secret.encode() in file.read():
                    held.append(os.path.relpath(os.path.join(base, name), folder))
    return held


def stored_not_deflated(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def keys(*arguments, **variables):
    return subprocess.run(
        [BINARY, "keys", *map(str, arguments)], capture_output=True, text=True, env=environment(**variables)
    )


def test_a_planted_secret_is_found_nowhere_in_the_data_folder(start, data, cache):
    planted = secrets.token_hex(16)
    server = start()
    client = make_client(server)
    stored = stored_not_deflated(python(f"{HANDLER}  # {planted}"))
    name = Functions(client).make(stored, Environment={"Variables": {"SECRET": planted}})
    assert caller(client)(name).payload == planted
    client.publish_version(FunctionName=name)
    client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(planted))
    succeeded = "/_hearth/v1/events?state=succeeded"
    eventually("an event", lambda: json.loads(server.request("GET", succeeded)[2])["events"])
    server.stop()
    assert (data / "key").stat().st_mode & 0o777 == 0o600
    assert found(data, planted) == []
    assert cache.stat().st_mode & 0o777 == 0o700
    again = make_client(start())
    shown = again.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    assert shown == {"SECRET": planted}
    assert caller(again)(name).payload == planted


def test_the_key_can_be_turned_over_and_the_old_one_opens_nothing(start, data):
    server = start()
    name = Functions(make_client(server)).make(python(HANDLER), Environment={"Variables": {"SECRET": "kept"}})
    refused = keys("rotate", "--data-dir", data)
    assert refused.returncode == 1 and "in use by another Hearth" in refused.stderr
    server.stop()
    before = (data / "key").read_text()
    turned = keys("rotate", "--data-dir", data, "--json")
    assert turned.returncode == 0 and json.loads(turned.stdout)["keys"] >= 2, turned
    after = (data / "key").read_text()
    assert after != before
    server = start()
    assert caller(make_client(server))(name).payload == "kept"
    server.stop()
    (data / "key").write_text(before)
    assert "is encrypted with another key" in refusal(data)
    (data / "key").unlink()
    assert "its key is not in" in refusal(data)
    assert not (data / "key").exists()


def refusal(data):
    server = Server(data, data.with_name("cache"))
    try:
        server.start()
    except AssertionError as error:
        return str(error)
    server.stop()
    raise AssertionError("it started")


def test_a_key_may_come_from_a_variable_and_go_to_a_file(start, data, tmp_path):
    made = keys("generate").stdout.strip()
    assert len(bytes.fromhex(made)) == 32
    server = start(HEARTH_ENCRYPTION_KEY=made)
    name = Functions(make_client(server)).make(python(HANDLER), Environment={"Variables": {"SECRET": "kept"}})
    server.stop()
    assert not (data / "key").exists()
    wrong = keys("rotate", "--data-dir", data, HEARTH_ENCRYPTION_KEY=made)
    assert wrong.returncode == 2 and "--new-key-file" in wrong.stderr
    bad = keys("rotate", "--data-dir", data, HEARTH_ENCRYPTION_KEY="short")
    assert bad.returncode == 2 and "64 hexadecimal digits" in bad.stderr
    file = tmp_path / "new"
    file.write_text(keys("generate").stdout)
    turned = keys("rotate", "--data-dir", data, "--new-key-file", file, HEARTH_ENCRYPTION_KEY=made)
    assert turned.returncode == 0 and "wrapped with the new key" in turned.stdout, turned
    server = start(HEARTH_ENCRYPTION_KEY=file.read_text())
    assert caller(make_client(server))(name).payload == "kept"
