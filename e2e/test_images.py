"""Container images: as functions and as runtimes, from OCI layout folders and from registries."""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import ssl
import struct
import subprocess
import tarfile
import termios
import threading
import uuid

import pytest
import trustme

from conftest import ROLE, Functions, caller, command_line, make_client, wait_active, wait_updated
from expect import refused
from hearth import BINARY, SYSTEM_PATH, environment, eventually
from images import BASE, MACHINE, OTHER_MACHINE, DockerRegistry, Image, Proxy, Registry, layer, python_base, sha256, system, with_libraries

HANDLER = "import os\ndef handler(event, context):\n    return {'event': event, 'cwd': os.getcwd(), 'handler': os.environ.get('_HANDLER')}\n"
LOOK = """import os, stat
def about(path):
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return None
    kind = 'link' if stat.S_ISLNK(facts.st_mode) else 'folder' if stat.S_ISDIR(facts.st_mode) else 'file'
    return [kind, stat.S_IMODE(facts.st_mode) if kind != 'link' else os.readlink(path), facts.st_nlink]
def handler(event, context):
    if event.get('paths'):
        return {path: about(path) for path in event['paths']}
    if event.get('read'):
        return open(event['read']).read()
    if event.get('write'):
        try:
            open(event['write'], 'w').close()
            return 'written'
        except OSError as error:
            return error.strerror
    if event.get('change'):
        import http.client
        port = int(os.environ['AWS_ENDPOINT_URL'].rsplit(':', 1)[1])
        connection = http.client.HTTPConnection('127.0.0.1', port)
        connection.request('DELETE', '/_hearth/v1/runtimes/python3.8')
        return connection.getresponse().status
    return dict(os.environ)
"""


@pytest.fixture(scope="session")
def base_layers():
    return [system(), python_base()]


@pytest.fixture(scope="session")
def base_image(base_layers):
    """What AWS's base image is: everything but the function."""
    return Image(base_layers, **BASE)


@pytest.fixture
def layout(base):
    """Writes an image as a layout folder that every user can read; answers its name."""
    folder = base / f"layout-{uuid.uuid4().hex[:8]}"

    def write(image, **settings):
        folder.mkdir(exist_ok=True)
        return image.write(folder, **settings)

    yield write
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def little():
    """A function of its own in two layers, small and never seen before."""
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST"])
    mark = lambda name: {f"etc/{name}": uuid.uuid4().hex}
    return Image([layer(with_libraries({"main": program}) | mark("first")), layer(mark("second"))], Entrypoint=["/main"])


@pytest.fixture
def alone(start, base):
    """A server whose cache nobody else uses, and its client."""

    def alone(*flags, cache=None, **settings):
        server = start("--cache-dir", cache or base / f"cache-{uuid.uuid4().hex[:8]}", "--runtimes-fetch", "false", *flags, **settings)
        return server, make_client(server)

    return alone


@pytest.fixture
def registry():
    registry = Registry()
    yield registry
    registry.close()


def function_image(base_layers, code, *more, command="app.handler", **settings):
    files = {f"var/task/{name}": content for name, content in code.items()}
    return Image([*base_layers, layer(files), *more], **(BASE | {"Cmd": [command]} | settings))


def create(client, uri, wait=True, **settings):
    name = f"i-{uuid.uuid4().hex[:12]}"
    settings = {"FunctionName": name, "Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": uri}, "Timeout": 30} | settings
    created = client.create_function(**settings)
    if wait:
        wait_active(client, name)
    return created


def failed(client, name):
    """How a function stands whose image could not be fetched."""

    def state():
        found = client.get_function_configuration(FunctionName=name)
        return found if found["State"] == "Failed" else None

    return eventually("the function is failed", state)


def left_of_images(cache):
    """What is in the cache of images but locks."""
    return [path for path in (cache / "images").iterdir() if path.suffix != ".lock"]


def log_of(server, name):
    lines = server.request("GET", f"/_hearth/v1/functions/{name}/logs?since=1h")[2].splitlines()
    return "\n".join(json.loads(line)["message"] for line in lines)


def test_a_function_from_a_layout_folder_is_what_awss_answers_say(client, call, base_layers, layout, server):
    image = function_image(base_layers, {"app.py": HANDLER})
    uri = layout(image)
    created = create(client, uri, wait=False)
    name, digest = created["FunctionName"], image.digest.removeprefix("sha256:")
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    assert (created["PackageType"], created["CodeSize"], created["CodeSha256"]) == ("Image", 0, digest)
    assert not {"Runtime", "Handler", "Layers", "ImageConfigResponse", "RuntimeVersionConfig"} & created.keys()
    wait_active(client, name)
    code = client.get_function(FunctionName=name)["Code"]
    resolved = f"{uri.rsplit(':', 1)[0]}@{image.digest}"
    assert code == {"RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": resolved}
    assert call(name, 1).payload == {"event": 1, "cwd": "/var/task", "handler": "app.handler"}
    eventually("the report", lambda: "REPORT" in log_of(server, name))
    assert "INIT_START" not in log_of(server, name)


def test_what_a_function_says_takes_the_place_of_what_its_image_says(client, call, base_layers, layout):
    code = {"app.py": HANDLER, "other.py": HANDLER.replace("'event': event", "'other': event"), "sub/x": ""}
    uri = layout(function_image(base_layers, code))
    config = {"Command": ["other.handler"], "WorkingDirectory": "/var/task/sub"}
    created = create(client, uri, ImageConfig=config, Publish=True)
    name = created["FunctionName"]
    assert created["ImageConfigResponse"] == {"ImageConfig": config}
    assert call(name, 1).payload == {"other": 1, "cwd": "/var/task/sub", "handler": "other.handler"}
    config = {"EntryPoint": ["/bin/sh", "-c", 'exec /lambda-entrypoint.sh "$0"']}
    client.update_function_configuration(FunctionName=name, ImageConfig=config)
    wait_updated(client, name)
    assert client.get_function_configuration(FunctionName=name)["ImageConfigResponse"] == {"ImageConfig": config}
    assert call(name, 1).payload == {"event": 1, "cwd": "/var/task", "handler": "app.handler"}
    # What was published stays.
    assert call(name, 1, Qualifier="1").payload["other"] == 1
    client.update_function_configuration(FunctionName=name, ImageConfig={})
    wait_updated(client, name)
    assert "ImageConfigResponse" not in client.get_function_configuration(FunctionName=name)


def test_a_root_is_made_of_its_layers_and_nothing_else(client, call, base_layers, layout, base):
    lower = layer(
        {"data/gone": "1", "data/kept": "1", "opaque/old": "1", "data/first": "same", "run/secret": "1"},
        [("out", "/etc"), ("var/lib", "/data")],
        [("data/second", "data/first")],
    )
    upper = layer(
        {"data/.wh.gone": "", "opaque/.wh..wh..opq": "", "opaque/new": "2", "var/lib/through": "2"},
        [],
        [("data/third", "data/kept")],
        [("dev/console", tarfile.CHRTYPE)],
    )
    privileged = base / "setuid"
    privileged.write_bytes(b"\x7fELF")
    privileged.chmod(0o6755)
    uri = layout(function_image(base_layers, {"app.py": LOOK}, lower, upper, layer({"bin2/su": privileged})))
    name = create(client, uri)["FunctionName"]
    paths = ["/data/gone", "/data/kept", "/opaque/old", "/opaque/new", "/data/through", "/var/lib", "/out", "/bin2/su", "/data/first"]
    found = call(name, {"paths": paths}).payload
    assert found["/data/gone"] is None and found["/opaque/old"] is None
    assert found["/opaque/new"][:2] == ["file", 0o644] and found["/data/through"][0] == "file"
    assert found["/var/lib"][:2] == ["link", "/data"] and found["/out"][:2] == ["link", "/etc"]
    assert found["/bin2/su"][:2] == ["file", 0o755], "no set-user-id"
    # Each in its layer's tree and in the root.
    assert found["/data/first"][2] == 4 and found["/data/kept"][2] == 3
    written = {path: call(name, {"write": path}).payload for path in ("/data/new", "/var/task/app.py", "/dev/new", "/tmp/new")}
    assert written.pop("/tmp/new") == "written"
    assert set(written.values()) <= {"Read-only file system", "Permission denied"}, written
    assert "localhost" in call(name, {"read": "/etc/hosts"}).payload


def test_variables_are_the_images_then_the_functions_then_the_platforms(client, call, base_layers, layout):
    image = function_image(base_layers, {"app.py": LOOK}, Env=[*BASE["Env"], "OF_IMAGE=image", "BOTH=image", "AWS_REGION=image", "_X=image"])
    name = create(client, layout(image), Environment={"Variables": {"BOTH": "function"}})["FunctionName"]
    seen = call(name, {}).payload
    assert (seen["OF_IMAGE"], seen["BOTH"], seen["AWS_REGION"], seen["_X"]) == ("image", "function", "us-east-1", "image")
    assert seen["PATH"].startswith("/var/lang/bin:") and seen["LAMBDA_TASK_ROOT"] == "/var/task"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == name and seen["AWS_ENDPOINT_URL"]
    assert seen["AWS_EXECUTION_ENV"] == "AWS_Lambda_image_of_test", "by its own bootstrap"


def test_a_program_alone_is_an_image_and_unpacks_however_it_is_packed(client, call, layout):
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST"])
    files = with_libraries({"app/main": program})
    for packing in (None, "zstd") if shutil.which("zstd") else (None,):
        image = Image([layer({path: file for path, file in files.items()})], packing=packing, Cmd=["main"], WorkingDir="/", Env=["PATH=/nowhere:/app"])
        name = create(client, layout(image, tag=f"t{packing}"))["FunctionName"]
        answer = call(name, {"packed": packing}).payload
        assert answer["event"] == {"packed": packing} and answer["function"] == name


def test_extensions_of_an_image_are_started(client, call, base_layers, layout, server):
    extension = pathlib.Path(os.environ["HEARTH_E2E_RUST_EXTENSION"])
    files = with_libraries({"opt/extensions/watcher": extension})
    plain = {path if path.startswith("opt/") else f"usr/{path}" if not path.startswith("usr/") else path: file for path, file in files.items()}
    name = create(client, layout(function_image(base_layers, {"app.py": HANDLER}, layer(plain))))["FunctionName"]
    assert call(name, 1).payload["event"] == 1
    eventually("it is named in the log", lambda: re.search(r"EXTENSION\tName: watcher\tState: Ready", log_of(server, name)))


def test_an_image_for_another_machine_cannot_be_executed(client, call, layout, server):
    # The head of a program, which is all that the kernel looks at.
    other = {"arm64": 183, "amd64": 62}[OTHER_MACHINE]
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, other, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0) + bytes(200)
    name = create(client, layout(Image([layer({"main": head})], machine=OTHER_MACHINE, Entrypoint=["/main"])))["FunctionName"]
    answer = call(name)
    assert answer.error == "Unhandled" and answer.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert answer.payload["errorMessage"].endswith("Error: fork/exec /main: exec format error")


@pytest.mark.parametrize(
    "settings, kind, message",
    [
        ({"EntryPoint": ["/nothing"]}, "Runtime.InvalidEntrypoint", "fork/exec /nothing: no such file or directory"),
        ({"EntryPoint": ["nothing"]}, "Runtime.InvalidEntrypoint", "fork/exec nothing: no such file or directory"),
        ({"WorkingDirectory": "/nowhere"}, "Runtime.InvalidWorkingDir", "chdir /nowhere: no such file or directory"),
        ({"EntryPoint": ["/etc/passwd"]}, "Runtime.InvalidEntrypoint", "fork/exec /etc/passwd: permission denied"),
    ],
)
def test_what_cannot_be_started_says_why(client, call, base_layers, layout, settings, kind, message):
    name = create(client, layout(function_image(base_layers, {"app.py": HANDLER})), ImageConfig=settings)["FunctionName"]
    answer = call(name)
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", kind)
    assert answer.payload["errorMessage"].endswith(f"Error: {message}")


def test_images_and_packages_do_not_mix(client, base_layers, layout, make):
    uri = layout(function_image(base_layers, {"app.py": HANDLER}))
    with refused("InvalidParameterValueException", 400, "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."):
        create(client, uri, Runtime="python3.11", Handler="a.b")
    name = create(client, uri)["FunctionName"]
    with refused("InvalidParameterValueException", 400, "Please provide ImageUri when updating a function with packageType Image."):
        client.update_function_code(FunctionName=name, ZipFile=b"PK")
    with refused("InvalidParameterValueException", 400, "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."):
        client.update_function_configuration(FunctionName=name, Handler="a.b")
    zip = make({"index.py": "def handler(e, c):\n    return 1\n"})
    with refused("InvalidParameterValueException", 400, "Please don't provide ImageUri when updating a function with packageType Zip."):
        client.update_function_code(FunctionName=zip, ImageUri=uri)


def test_a_private_registry_is_asked_with_what_docker_login_wrote(start, base, little, registry):
    uri = registry.push(little)
    auth = base / f"auth-{uuid.uuid4().hex[:8]}.json"
    server = start("--registries-credentials", auth)
    client = make_client(server)
    call = caller(client)
    denied = "Lambda does not have permission to access the ECR image. Check the ECR permissions."
    registry.password = "me:secret"
    with refused("AccessDeniedException", 403, denied):
        create(client, uri)
    for basic in (False, True):
        registry.basic = basic
        for word, is_good in (("wrong", False), ("secret", True)):
            encoded = base64.b64encode(f"me:{word}".encode()).decode()
            auth.write_text(json.dumps({"auths": {registry.host: {"auth": encoded}}}))
            if is_good:
                name = create(client, uri)["FunctionName"]
                assert call(name, {"a": 1}).payload["event"] == {"a": 1}
            else:
                with refused("AccessDeniedException", 403, denied):
                    create(client, uri)
    # Nobody's log has it.
    assert "secret" not in server.said() and encoded not in server.said()
    resolved = client.get_function(FunctionName=name)["Code"]["ResolvedImageUri"]
    assert resolved == f"{registry.host}/team/app@{little.digest}"


def test_tokens_of_docker_login_are_exchanged_or_used_as_they_are(start, base, little, registry):
    uri = registry.push(little)
    auth = base / f"auth-{uuid.uuid4().hex[:8]}.json"
    client = make_client(start("--registries-credentials", auth))
    registry.password, registry.identity = "me:secret", "an identity"
    for entry, is_good in [
        ({"identitytoken": "another"}, False),
        ({"registrytoken": "another"}, False),
        ({"auth": base64.b64encode(b"me:").decode(), "identitytoken": "an identity"}, True),
        ({"registrytoken": "good"}, True),
    ]:
        auth.write_text(json.dumps({"auths": {registry.host: entry}}))
        if is_good:
            assert caller(client)(create(client, uri)["FunctionName"], 1).payload["event"] == 1
        else:
            with refused("AccessDeniedException", 403):
                create(client, uri)
    assert not [path for path, _, _ in registry.seen if "identity" in path], "no address has it"


def helper(folder, name, script):
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_credential_helpers_are_asked(start, base, little, registry):
    folder = base / f"helpers-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    auth = folder / "config.json"
    answer = lambda name, secret: f'[ "$1" = get ] && [ "$(cat)" = "{registry.host}" ] || exit 2\nprintf \'{{"ServerURL": "x", "Username": "{name}", "Secret": "{secret}"}}\''
    helper(folder, "good", answer("me", "secret"))
    helper(folder, "token", answer("<token>", "an identity"))
    helper(folder, "empty", 'echo "credentials not found in native keychain"; exit 1')
    helper(folder, "locked", 'echo "the keychain is locked"; exit 1')
    server = start("--registries-credentials", auth, PATH=f"{SYSTEM_PATH}:{folder}")
    client = make_client(server)
    uri = registry.push(little)
    # Whoever lets everybody in needs no helper.
    auth.write_text(json.dumps({"credHelpers": {registry.host: "locked"}}))
    create(client, uri)
    registry.password, registry.identity = "me:secret", "an identity"
    for config, is_good in [
        ({"credHelpers": {registry.host: "empty"}, "credsStore": "good"}, False),
        ({"credsStore": "locked"}, False),
        ({"credsStore": "not-there"}, False),
        ({"credHelpers": {registry.host: "good"}, "credsStore": "locked"}, True),
        ({"credsStore": "good", "auths": {registry.host: {}}}, True),
        ({"credsStore": "token"}, True),
    ]:
        auth.write_text(json.dumps(config))
        if is_good:
            assert caller(client)(create(client, uri)["FunctionName"], 1).payload["event"] == 1
        else:
            with refused("AccessDeniedException", 403):
                create(client, uri)
    said = server.said()
    assert "secret" not in said and "an identity" not in said
    shutil.rmtree(folder)


@pytest.fixture
def docker_registry(base):
    folder = base / f"registry-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    registry = DockerRegistry(folder)
    yield registry
    registry.close()
    shutil.rmtree(folder)


def test_an_image_of_awss_layout_comes_from_a_private_docker_registry_and_runs_by_its_own_bootstrap(start, base, base_layers, base_image, docker_registry):
    folder = base / f"helpers-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    helper(folder, "test", 'cat >/dev/null; printf \'{"Username": "me", "Secret": "secret"}\'')
    auth = folder / "config.json"
    auth.write_text(json.dumps({"credHelpers": {docker_registry.host: "test"}}))
    server = start("--registries-credentials", auth, PATH=f"{SYSTEM_PATH}:{folder}")
    client, hearth = make_client(server), command_line(server.url, base)
    call = caller(client)
    runtime = docker_registry.push(base_image, "lambda/python", "3.8")
    hearth("runtimes", "add", "python3.8", runtime)
    seen = call(Functions(client).make({"app.py": LOOK}, Runtime="python3.8", Handler="app.handler"), {}).payload
    assert (seen["AWS_EXECUTION_ENV"], seen["_HANDLER"]) == ("AWS_Lambda_image_of_test", "app.handler")
    function = docker_registry.push(function_image(base_layers, {"app.py": HANDLER, "other.py": HANDLER}), "team/function", "1")
    name = create(client, function, ImageConfig={"Command": ["other.handler"]})["FunctionName"]
    assert call(name, 1).payload == {"event": 1, "cwd": "/var/task", "handler": "other.handler"}
    auth.write_text("{}")
    with refused("AccessDeniedException", 403):
        create(client, function)
    shutil.rmtree(folder)


def test_a_registry_is_reached_through_the_proxy_that_the_environment_names(start, base, little):
    folder = base / f"proxy-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("registry.example.test").configure_cert(context)
    registry = Registry(context)
    proxy = Proxy({"registry.example.test:5443": registry.host})
    registry.push(little)
    uri = "registry.example.test:5443/team/app:1"
    trust = {"AWS_CA_BUNDLE": str(folder / "authority.pem")}
    # Others that fetch for it would ask the proxy too.
    alone = ("--runtimes-fetch", "false")
    client = make_client(start(*alone, HTTPS_PROXY=proxy.url, **trust))
    name = create(client, uri)["FunctionName"]
    assert caller(client)(name, 1).payload["event"] == 1
    assert set(proxy.seen) == {("CONNECT", "registry.example.test:5443")}
    # Not where it is said otherwise, and not without the password.
    del proxy.seen[:]
    other = make_client(start(*alone, data=folder / "other", https_proxy=proxy.url, NO_PROXY="example.test", **trust))
    with refused("ServiceException", 500):
        create(other, uri)
    assert proxy.seen == []
    stranger = make_client(start(*alone, data=folder / "stranger", https_proxy=f"http://{proxy.address}", **trust))
    with refused("ServiceException", 500):
        create(stranger, uri)
    proxy.close()
    registry.close()


def test_what_is_not_there_or_no_image_is_refused_as_by_aws(client, base_layers, registry):
    uri = registry.push(function_image(base_layers, {"app.py": HANDLER}))
    missing = f"{registry.host}/team/app:2"
    with refused("InvalidParameterValueException", 400, f"Source image {missing} does not exist. Provide a valid source image."):
        create(client, missing)
    for bad in ("app", "team/app:1", f"{registry.host}/team/app", "https://x.example/a:1", "oci:relative"):
        with refused("InvalidParameterValueException", 400, f"Source image {bad} is not valid. Provide a valid source image."):
            create(client, bad)
    chart = Image([], machine=MACHINE)
    manifest = json.loads(chart.blobs[chart.digest])
    manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    blob = json.dumps(manifest).encode()
    chart.blobs[sha256(blob)] = blob
    uri = registry.push(chart, tag="chart", manifest={"digest": sha256(blob)})
    with refused("InvalidParameterValueException", 400, f"The image manifest, config or layer media type for the source image {uri} is not supported."):
        create(client, uri)
    closed = Registry()
    closed.close()
    with refused("ServiceException", 500):
        create(client, f"{closed.host}/team/app:1")


def test_of_an_index_the_image_for_the_functions_machine_is_taken(client, call, base_layers, registry):
    image = function_image(base_layers, {"app.py": HANDLER})
    other = Image([layer({"main": "other"})], machine=OTHER_MACHINE, Entrypoint=["/main"])
    uri = registry.push(other, manifest=other.index(image))
    registry.blobs |= image.blobs
    name = create(client, uri)["FunctionName"]
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == image.digest.removeprefix("sha256:")
    assert call(name, 1).payload["event"] == 1
    only_other = registry.push(other, tag="other", manifest=other.index())
    with refused("InvalidParameterValueException", 400, f"The image manifest, config or layer media type for the source image {only_other} is not supported."):
        create(client, only_other)


@pytest.mark.parametrize("ranges", [True, False], ids=["goes-on", "begins-anew"])
def test_a_download_that_breaks_off_goes_on(client, call, registry, little, ranges):
    largest = little.layers()[0]
    uri = registry.push(little)
    registry.ranges, registry.redirect = ranges, True
    size = len(registry.blobs[largest])
    if ranges:
        registry.break_after = size // 3
        registry.failing = {"/blobs/": (503, 2), "/manifests/": (500, 1)}
        name = create(client, uri)["FunctionName"]
        asked = [asked for path, asked, _ in registry.seen if asked]
        assert any(asked == f"bytes={size // 3}-" for asked in asked), asked
    else:
        registry.break_after = size - 1
        name = create(client, uri, wait=False)["FunctionName"]
        again = lambda: sum(path.endswith(largest) for path, _, _ in registry.seen) > 2
        eventually("it was asked for again", again)
        registry.break_after = None
        wait_active(client, name)
    assert call(name, {"a": 1}).payload["event"] == {"a": 1}
    assert any(path.startswith("/cdn/") for path, _, _ in registry.seen)


def test_an_image_that_is_not_what_its_digests_say_leaves_nothing(alone, base, little, registry):
    cache = base / f"cache-{uuid.uuid4().hex[:8]}"
    server, client = alone(cache=cache)
    uri = registry.push(little)
    registry.damaged = little.layers()[-1]
    name = create(client, uri, wait=False)["FunctionName"]
    found = failed(client, name)
    assert found["StateReasonCode"] == "InvalidImage"
    assert found["StateReason"] == f"{uri} is damaged: what came for the layer {registry.damaged} is another"
    good = {f"layer-{digest.removeprefix('sha256:')}" for digest in little.layers()[:-1]}
    assert {path.name.split(".")[0] for path in left_of_images(cache)} <= good
    # The manifest itself.
    registry.damaged = None
    blob = registry.blobs[little.digest]
    registry.blobs[little.digest] = blob + b" "
    by_digest = f"{registry.host}/team/app@{little.digest}"
    with refused("InvalidParameterValueException", 400, f"The image manifest, config or layer media type for the source image {by_digest} is not supported."):
        create(client, by_digest)
    registry.blobs[little.digest] = blob
    client.update_function_code(FunctionName=name, ImageUri=uri)
    wait_active(client, name)
    assert caller(client)(name, {"a": 1}).payload["event"] == {"a": 1}


def test_what_no_layer_may_hold_is_refused_and_leaves_nothing(alone, base, layout):
    cache = base / f"cache-{uuid.uuid4().hex[:8]}"
    _, client = alone(cache=cache)
    bad = {
        "device": (layer({}, special=[("x", tarfile.CHRTYPE)]), "is a device, a pipe or of a kind that is not known"),
        "outside": (layer({"../x": "1"}), "leads out of it"),
        "nonsense": (b"nonsense" * 1000, "a layer of it: it is damaged"),
    }
    for tag, (content, reason) in bad.items():
        name = create(client, layout(Image([content], Cmd=["/x"]), tag=tag), wait=False)["FunctionName"]
        found = failed(client, name)
        assert found["StateReasonCode"] == "InvalidImage" and reason in found["StateReason"], found
    assert left_of_images(cache) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted as root")
def test_a_full_disk_is_said_and_harms_nothing(alone, base, little, layout):
    cache = base / f"cache-{uuid.uuid4().hex[:8]}"
    (cache / "images").mkdir(parents=True)
    small = f'mount -t tmpfs -o size=24m,mode=0755 none {cache}/images; exec "$@"'
    _, client = alone(cache=cache, before=["unshare", "--mount", "sh", "-c", small, "sh"])
    packed, unpacked = (Image([layer({"x": os.urandom(size) if size < 30 << 20 else bytes(size)})], Cmd=["/x"]) for size in (28 << 20, 64 << 20))
    for tag, large in {"packed": packed, "unpacked": unpacked}.items():
        name = create(client, layout(large, tag=tag), wait=False)["FunctionName"]
        found = failed(client, name)
        assert found["StateReasonCode"] == "InternalError" and "No space left on device" in found["StateReason"], found
    # What fits still goes.
    client.update_function_code(FunctionName=name, ImageUri=layout(little, tag="little"))
    wait_active(client, name)
    assert caller(client)(name, {"a": 1}).payload["event"] == {"a": 1}


def test_what_the_cache_has_lost_is_fetched_again(alone, base, little, registry):
    cache = base / f"cache-{uuid.uuid4().hex[:8]}"
    server, client = alone(cache=cache)
    name = create(client, registry.push(little))["FunctionName"]
    # The name means another image by now; the function keeps its own.
    registry.push(Image([layer({"x": "1"})], Cmd=["/x"]))
    server.stop()
    for lost in (cache / "images").iterdir():
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    _, client = alone(cache=cache)
    assert caller(client)(name, {"a": 1}).payload["event"] == {"a": 1}


def test_a_base_image_is_a_runtime(start, base, base_image, layout, registry):
    server = start()
    client = make_client(server)
    call, make, hearth = caller(client), Functions(client).make, command_line(server.url, base)
    uri = registry.push(base_image, "lambda/python", "3.8")
    settings = {"Runtime": "python3.8", "Handler": "app.handler"}
    name = make({"app.py": LOOK}, **settings)
    with refused("InvalidRuntimeException", 502, "Runtime python3.8 is not installed on this host; see hearth runtimes."):
        call(name, {})

    def listed():
        return {each["runtime"]: each for each in json.loads(hearth("runtimes", "--json").stdout)["runtimes"]}

    assert "python3.8" not in listed()
    digest = base_image.digest.removeprefix("sha256:")
    said = hearth("runtimes", "add", "python3.8", uri).stdout
    assert said == f"python3.8 is {uri} (sha256:{digest})\n"
    assert listed()["python3.8"] == {"runtime": "python3.8", "source": "oci", "digest": digest, "from": uri}
    assert re.search(rf"^python3.8 +- +oci +{re.escape(uri)}$", hearth("runtimes", "list").stdout, re.M)

    seen = call(name, {}).payload
    assert (seen["_HANDLER"], seen["LAMBDA_TASK_ROOT"]) == ("app.handler", "/var/task")
    assert seen["AWS_EXECUTION_ENV"] == "AWS_Lambda_image_of_test", "by its own bootstrap, unmodified"
    line = f"INIT_START Runtime Version: python:3.8\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:{digest}"
    eventually("INIT_START names the image", lambda: line in log_of(server, name))
    assert call(name, {"change": 1}).payload == 403, "a function changes no runtime"

    # Layers and a wrapper work as on AWS: its own bootstrap starts the wrapper.
    wrapper = {"app.py": LOOK, "wrap": '#!/bin/sh\nexport WRAPPED=yes\nexec "$@"\n'}
    wrapped = make(wrapper, **settings, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}})
    assert call(wrapped, {}).payload["WRAPPED"] == "yes"

    # The name means something else; nothing changes before it is said.
    edition = Image([system(), python_base(), layer({"etc/edition": "2"})], **BASE)
    registry.push(edition, "lambda/python", "3.8")
    assert listed()["python3.8"]["digest"] == digest
    updated = json.loads(hearth("runtimes", "update", "--json").stdout)["runtimes"]
    assert [each["digest"] for each in updated] == [edition.digest.removeprefix("sha256:")]
    assert call(make({"app.py": LOOK}, **settings), {"read": "/etc/edition"}).payload == "2"

    # After another start it is still there.
    server.stop()
    server = start()
    hearth, client = command_line(server.url, base), make_client(server)
    assert listed()["python3.8"]["source"] == "oci"
    assert caller(client)(name, {"read": "/etc/edition"}).payload == "2"
    hearth("runtimes", "remove", "python3.8")
    assert "python3.8" not in listed()
    assert "was not added" in hearth("runtimes", "remove", "python3.8", status=1).stderr
    with refused("InvalidRuntimeException", 502, "Runtime python3.8 is not installed on this host; see hearth runtimes."):
        client.invoke(FunctionName=Functions(client).make({"app.py": LOOK}, **settings))


def test_layers_come_together_and_how_far_they_are_is_shown(alone, registry):
    server, _ = alone()
    files = [{"var/runtime/bootstrap": "#!/bin/sh\n"}, *({f"opt/{name}": os.urandom(1 << 20)} for name in "abc")]
    image = Image([layer(one) for one in files], Entrypoint=["/var/runtime/bootstrap"])
    uri = registry.push(image, "lambda/python", "3.8")
    # Nobody gets his layer before two others ask for theirs; the last one waits until how far it is was seen.
    large, together, seen = image.layers()[1:], threading.Barrier(3), threading.Event()

    def before(digest):
        if digest in large:
            together.wait(30)
        if digest == large[-1]:
            seen.wait(30)

    registry.before = before
    terminal, inside = os.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    adding = subprocess.Popen(
        [BINARY, "runtimes", "add", "python3.8", uri],
        stdin=inside, stdout=inside, stderr=inside, env=environment(AWS_ENDPOINT_URL=server.url, TERM="xterm"),
    )
    os.close(inside)
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 4096):
            shown += piece
            if b"3 of 4 parts, 2 of 3 MB" in shown:
                seen.set()
    os.close(terminal)
    assert adding.wait(30) == 0 and seen.is_set() and not together.broken, shown
    assert f"python3.8 is {uri}".encode() in shown


def test_functions_stay_on_the_version_of_their_runtime_that_they_are_to_run_on(start, base, registry):
    """Of a runtime that is updated: `$LATEST` goes along, or when it is updated, or not at all; what is published stays."""
    server = start()
    client = make_client(server)
    functions, call, hearth = Functions(client), caller(client), command_line(server.url, base)
    editions = [Image([system(), python_base(), layer({"etc/edition": str(number)})], **BASE) for number in range(4)]
    digest = lambda number: editions[number].digest.removeprefix("sha256:")
    arn = lambda number: f"arn:aws:lambda:us-east-1::runtime:{digest(number)}"
    uri = registry.push(editions[0], "lambda/python", "3.8")
    hearth("runtimes", "add", "python3.8", uri)
    make = lambda: functions.make({"app.py": LOOK}, Runtime="python3.8", Handler="app.handler")
    manage = client.put_runtime_management_config

    def runs_on(name, number, **qualifier):
        assert call(name, {"read": "/etc/edition"}, **qualifier).payload == str(number)
        found = client.get_function_configuration(FunctionName=name, **qualifier)
        assert found["RuntimeVersionConfig"] == {"RuntimeVersionArn": arn(number)}
        line = f"Runtime Version ARN: {arn(number)}"
        eventually("INIT_START names it", lambda: line in log_of(server, name))

    def update(number):
        registry.push(editions[number], "lambda/python", "3.8")
        (made,) = json.loads(hearth("runtimes", "update", "--json").stdout)["runtimes"]
        assert made["digest"] == digest(number)

    def kept():
        (found,) = [one for one in json.loads(hearth("runtimes", "--json").stdout)["runtimes"] if one["runtime"] == "python3.8"]
        return {place for place, _ in enumerate(editions) if digest(place) in found.get("kept", ())}

    auto, by_update, manual = make(), make(), make()
    assert functions.publish(auto) == "1"
    manage(FunctionName=by_update, UpdateRuntimeOn="FunctionUpdate")
    manage(FunctionName=manual, UpdateRuntimeOn="Manual", RuntimeVersionArn=arn(0))
    with refused("InvalidParameterValueException", 400, re.compile("is no version of python3.8 that is kept")):
        manage(FunctionName=manual, UpdateRuntimeOn="Manual", RuntimeVersionArn=arn(1))
    for name in (auto, by_update, manual):
        runs_on(name, 0)
    # Neither is news: code and configuration are the same.
    assert functions.publish(auto) == "1"

    update(1)
    runs_on(auto, 1)
    runs_on(auto, 0, Qualifier="1")
    runs_on(by_update, 0)
    runs_on(manual, 0)
    client.update_function_configuration(FunctionName=by_update, Description="new")
    wait_updated(client, by_update)
    runs_on(by_update, 1)
    client.update_function_configuration(FunctionName=manual, Description="new")
    wait_updated(client, manual)
    runs_on(manual, 0)
    assert kept() == {0}

    # What nobody needs goes with the update after.
    update(2)
    assert kept() == {0, 1}
    client.update_function_configuration(FunctionName=by_update, Description="newer")
    wait_updated(client, by_update)
    server.stop()
    server = start()
    client = make_client(server)
    functions.client, call, hearth, manage = client, caller(client), command_line(server.url, base), client.put_runtime_management_config
    runs_on(auto, 0, Qualifier="1")
    runs_on(manual, 0)
    runs_on(by_update, 2)
    update(3)
    assert kept() == {0, 2}

    # Whoever needs a version keeps the runtime; who follows it does not.
    said = hearth("runtimes", "remove", "python3.8", status=1).stderr
    assert all(name in said for name in (f"{auto}:1", by_update, manual)) and f"{auto}," not in said
    runs_on(auto, 3)
    manage(FunctionName=auto, Qualifier="1", UpdateRuntimeOn="Auto")
    runs_on(auto, 3, Qualifier="1")
    for name in (by_update, manual):
        manage(FunctionName=name, UpdateRuntimeOn="Auto")
        runs_on(name, 3)
    hearth("runtimes", "remove", "python3.8")


def test_what_cannot_be_a_runtime_is_refused_and_named(hearth, layout):
    uri = layout(Image([layer({"x": "1"})]))
    assert f"{uri} is no image of a runtime: it has no program at /var/runtime/bootstrap" in hearth("runtimes", "add", "python3.8", uri, status=1).stderr
    assert "There is no runtime" in hearth("runtimes", "add", "python9", uri, status=1).stderr
    assert "there is no image" in hearth("runtimes", "add", "python3.8", "oci:/nowhere", status=1).stderr
