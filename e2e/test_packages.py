"""Runtimes of Debian's packages: from the mirror that the host's own apt has, and from an archive made here. With
`HEARTH_E2E_SUITES=1` every runtime that is known of Debian, which takes some minutes more."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import uuid

import pytest

from conftest import Functions, caller, command_line, make_client, wait_updated
from debian import Archive, deb
from hearth import eventually
from images import Proxy
from packages import python

# Whole suites are fetched here, on machines that may be busy.
pytestmark = pytest.mark.timeout(600)
ABOUT = python(
    "return [sys.version.split()[0], sys.prefix, sys.executable, boto3.__version__ > '1', any(name.endswith('.0') for name in os.listdir(ssl.get_default_verify_paths().openssl_capath)),\n"
    "        json.__spec__.cached and os.path.exists(json.__spec__.cached), subprocess.run(['sh', '-c', 'echo $0 | awk {print} | sed s/a/b/'], capture_output=True).returncode,\n"
    "        os.path.exists('/usr/bin/dpkg') or os.path.exists('/etc/debconf.conf')]",
    before="import boto3, json, os, sqlite3, ssl, subprocess, sys, ctypes, zoneinfo",
)
NODE = {"index.js": "exports.handler = async () => [process.version, process.execPath, new Intl.NumberFormat('de').format(1.5)];\n"}


@pytest.fixture(scope="module")
def cache(base):
    """For all that comes from the host's mirror. Many small files: gone before the next suite begins."""
    cache = base / "cache-packages"
    yield cache
    subprocess.run(["rm", "-rf", cache], check=True)


def listed(hearth):
    return {each["runtime"]: each for each in json.loads(hearth("runtimes", "--json").stdout)["runtimes"]}


def said_no(hearth, *arguments):
    return hearth("runtimes", *arguments, status=1).stderr


def left(cache):
    """What is in the cache of runtimes that came from packages."""
    return sorted(path.name for path in (cache / "runtimes").iterdir() if re.match(r"\.(new|old)-|(deb|system)-[^.]*$", path.name))


@pytest.fixture
def archive(base):
    folder = base / f"archive-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    archive = Archive(folder)
    yield archive
    archive.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mirrored(start, archive, base):
    """A server that knows this archive and no other, with a cache of its own; and its command line."""

    def mirrored(*flags, cache=None, **settings):
        cache = cache or base / f"cache-{uuid.uuid4().hex[:8]}"
        flags = ("--cache-dir", cache, "--runtimes-debian-mirrors", archive.url, "--runtimes-debian-keyring", archive.keyring, "--runtimes-fetch", "false", *flags)
        server = start(*flags, **settings)
        return server, command_line(server.url, base), cache

    return mirrored


def little_node(says):
    """A Node.js as far as it is looked at before it runs."""
    return deb({"usr/bin/node": "\x7fELF" + says, "etc/says": says}, packing="")


@pytest.fixture
def trixie(archive):
    """A suite with a Node.js 20 that needs two packages, each packed in another way."""
    archive.add_system("trixie")
    archive.add("trixie", "nodejs", little_node("first"), "20.1.0+dfsg-1", Depends="libnode (>= 20), debconf | nothing")
    archive.add("trixie", "libnode", deb({"lib/x/libnode": "x"}, [("usr/lib/x/link", "libnode")], packing="xz"), "20.1-1", Pre_Depends="libv")
    archive.add("trixie", "provider", deb({"sbin/v": "#!/bin/sh\n"}, packing="zst"), Provides="libv")
    archive.publish("trixie")
    return archive


def known(*names, otherwise):
    """Which are tried: all of them, or some."""
    return pytest.mark.parametrize("runtime", names if "HEARTH_E2E_SUITES" in os.environ else otherwise)


@known("python3.9", "python3.11", "python3.13", "python3.14", "python3.15", otherwise=["python3.14"])
def test_a_python_of_the_hosts_mirror_is_a_runtime_as_any_other(start, base, runtime):
    server = start()
    hearth, client = command_line(server.url, base), make_client(server)
    said = hearth("runtimes", "add", runtime, "debian", patience=600).stdout
    found = listed(hearth)[runtime]
    assert (found["source"], found["from"], found["version"].startswith(runtime.removeprefix("python"))) == ("package", "debian", True)
    assert found["sdk"].startswith("boto3 1.") and re.fullmatch("[0-9a-f]{64}", found["digest"])
    assert said == f"{runtime} is debian {found['version']} (sha256:{found['digest']})\n"
    name = Functions(client).make(ABOUT, Runtime=runtime)
    seen = caller(client)(name, {}).payload
    assert seen[:3] == [found["version"], "/var/lang", f"/var/lang/bin/{runtime}"]
    assert seen[3:5] == [True, True] and seen[5] and seen[6:] == [0, False]
    line = f"INIT_START Runtime Version: python:{found['version']}\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:{found['digest']}"
    eventually("INIT_START names it", lambda: line.encode() in server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].replace(b"\\t", b"\t"))


@known("nodejs18.x", "nodejs20.x", "nodejs24.x", otherwise=["nodejs24.x"])
def test_a_node_of_the_hosts_mirror_is_a_runtime_as_any_other(start, base, runtime):
    server = start()
    hearth, client = command_line(server.url, base), make_client(server)
    hearth("runtimes", "add", runtime, "debian", patience=600)
    found = listed(hearth)[runtime]
    seen = caller(client)(Functions(client).make(NODE, Runtime=runtime), {}).payload
    assert seen == [f"v{found['version']}", "/var/lang/bin/node", "1,5"]


RUBY = {
    "app.rb": """require 'json'
require 'tempfile'
require_relative 'lib/more'
LOG = Logger.new($stdout)

class Unusual < StandardError; end

def handler(event:, context:)
  case event['do']
  when 'fail' then raise Unusual, 'as asked: ' + event['text']
  when 'miss' then nil.nothing
  when 'leave' then exit 3
  when 'bytes' then return StringIO.new('raw')
  when 'say'
    puts "one\\ntwo"
    LOG.info('logged')
    LOG.error(Unusual.new('unusual'))
  end
  { text: event['text'], version: RUBY_VERSION, program: RbConfig.ruby, more: More.said, id: context.aws_request_id,
    left: context.get_remaining_time_in_millis.between?(1, 30_000), memory: context.memory_limit_in_mb,
    custom: context.client_context&.dig('custom'), file: Tempfile.create(&:path).start_with?('/tmp'), rest: ENV.key?('_LAMBDA_TELEMETRY_LOG_FD') }
end
""",
    "lib/more.rb": "module More\n  def self.said = 'more'\n  def self.handle(event:, context:) = [event, context.function_name]\nend\n",
}


def test_a_ruby_of_the_hosts_mirror_is_a_runtime_as_any_other(start, base):
    server = start()
    hearth, client = command_line(server.url, base), make_client(server)
    hearth("runtimes", "add", "ruby3.3", "debian", patience=600)
    version = listed(hearth)["ruby3.3"]["version"]
    functions, call = Functions(client), caller(client)
    name = functions.make(RUBY, Runtime="ruby3.3", Handler="app.handler", Timeout=30)
    context = base64.b64encode(b'{"custom": {"k": "v"}}').decode()
    answer = call(name, {"text": "é"}, ClientContext=context)
    assert answer.payload == {
        "text": "é", "version": version, "program": "/usr/bin/ruby3.3", "more": "more", "id": answer.request_id, "left": True,
        "memory": "128", "custom": {"k": "v"}, "file": True, "rest": False,
    }
    assert call(name, {"do": "bytes"}).bytes == b"raw"

    failed = call(name, {"do": "fail", "text": "é"}, LogType="Tail")
    assert failed.error == "Unhandled"
    assert failed.payload == {
        "errorMessage": "as asked: é", "errorType": "Function<Unusual>", "stackTrace": ["/var/task/app.rb:10:in `handler'"],
    }
    assert "Error raised from handler method" in failed.tail and '"errorType": "Function<Unusual>"' in failed.tail
    missed = call(name, {"do": "miss"})
    assert (missed.payload["errorType"], missed.payload["errorMessage"]) == ("Function<NoMethodError>", "undefined method `nothing' for nil")
    assert call(name, {"do": "leave"}).payload["errorType"] == "Function<SystemExit>"

    said = call(name, {"do": "say"}, LogType="Tail")
    assert "one\ntwo" in said.tail
    assert re.search(rf"I, \[[-0-9T:.]+ #\d+\]  INFO {said.request_id} -- : logged\n", said.tail), said.tail
    client.update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "ERROR"})
    wait_updated(client, name)
    said = call(name, {"do": "say"}, LogType="Tail")
    [record] = [json.loads(line) for line in said.tail.splitlines() if '"errorType"' in line]
    assert (record["level"], record["errorMessage"], record["requestId"]) == ("ERROR", "unusual", said.request_id)
    assert "logged" not in said.tail

    other = functions.make(RUBY, Runtime="ruby3.3", Handler="lib/more.More.handle")
    assert call(other, [1]).payload == [[1], other]
    broken = functions.make(RUBY, Runtime="ruby3.3", Handler="nowhere.handler")
    failed = call(broken, {})
    assert (failed.payload["errorType"], failed.payload["errorMessage"]) == ("Init<LoadError>", "cannot load such file -- nowhere")
    assert call(functions.make(RUBY, Runtime="ruby3.3", Handler="handler"), {}).payload["errorType"] == "Init<ArgumentError>"


JAVA = """package example;
import java.util.Map;
import com.amazonaws.services.lambda.runtime.Context;
public class Handler {
  public Map<String, Object> handle(Map<String, Object> event, Context context) throws Exception {
    if (event.containsKey("fail")) throw new IllegalStateException("as asked");
    System.out.println("said");
    var trusted = javax.net.ssl.TrustManagerFactory.getInstance(javax.net.ssl.TrustManagerFactory.getDefaultAlgorithm());
    trusted.init((java.security.KeyStore) null);
    int authorities = ((javax.net.ssl.X509TrustManager) trusted.getTrustManagers()[0]).getAcceptedIssuers().length;
    return Map.of("event", event, "version", System.getProperty("java.version"), "authorities", authorities > 0,
      "function", context.getFunctionName(), "heap", Runtime.getRuntime().maxMemory() >> 20, "wrapped", "" + System.getenv("WRAPPED"));
  }
}
"""


@pytest.mark.skipif(not shutil.which("javac"), reason="this host has no javac, which compiles the handler")
@known("java11", "java17", "java21", "java25", otherwise=["java21"])
def test_a_java_of_the_hosts_mirror_runs_awss_client(start, base, tmp_path, runtime):
    server = start()
    hearth, client = command_line(server.url, base), make_client(server)
    hearth("runtimes", "add", runtime, "debian", patience=600)
    found = listed(hearth)[runtime]
    client_jar = next((server.cache / "runtimes").glob("java-client-*/aws-lambda-java-core-*.jar"))
    (tmp_path / "Handler.java").write_text(JAVA)
    subprocess.run(["javac", "--release", "11", "-cp", client_jar, "-d", tmp_path, tmp_path / "Handler.java"], check=True)
    files = {"example/Handler.class": (tmp_path / "example/Handler.class").read_bytes(), "wrap": '#!/bin/sh\nexport WRAPPED=$(basename "$1")\nexec "$@"\n'}
    settings = {"Runtime": runtime, "Handler": "example.Handler::handle", "MemorySize": 512, "Timeout": 60}
    make, call = Functions(client).make, caller(client)
    name = make(files, **settings)
    seen = call(name, {"a": 1}).payload
    assert 300 < seen.pop("heap") < 400
    assert seen == {"event": {"a": 1}, "version": found["version"], "authorities": True, "function": name, "wrapped": "null"}
    failed = call(name, {"fail": 1})
    assert (failed.error, failed.payload["errorType"], failed.payload["errorMessage"]) == ("Unhandled", "java.lang.IllegalStateException", "as asked")
    wrapped = make(files, **settings, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}})
    assert call(wrapped, {}).payload["wrapped"] == "java"


def test_packages_are_what_is_needed_and_pinned_until_they_are_updated(mirrored, trixie, start, base):
    server, hearth, cache = mirrored()
    hearth("runtimes", "add", "nodejs20.x", "debian:trixie")
    first = listed(hearth)["nodejs20.x"]
    assert (first["version"], first["source"], first["from"]) == ("20.1.0", "package", "debian:trixie")
    system = next(path for path in (cache / "runtimes").glob("system-*") if path.is_dir())
    # Folders that are links into /usr lead there, whatever packages call them.
    assert (system / "usr/lib/x/libnode").read_text() == "x" and (system / "lib").readlink() == pathlib.Path("usr/lib")
    assert (system / "usr/lib/x/link").readlink() == pathlib.Path("libnode") and (system / "usr/sbin/v").exists()
    assert not [path for path, _ in trixie.seen if "debconf" in path]

    # The archive has something newer; nothing changes before it is said.
    trixie.add("trixie", "nodejs", little_node("second"), "20.2.0-1")
    trixie.publish("trixie")
    assert listed(hearth)["nodejs20.x"] == first
    before = len(trixie.seen)
    updated = json.loads(hearth("runtimes", "update", "--json").stdout)["runtimes"]
    assert [each["version"] for each in updated] == ["20.2.0"] and updated[0]["digest"] != first["digest"]
    fetched = {path.split("/")[-1] for path, _ in trixie.seen[before:] if path.endswith(".deb")}
    assert len(fetched) == 1, "what is there already is not fetched again"
    server.stop()
    server, hearth, _ = mirrored(cache=cache)
    after = listed(hearth)["nodejs20.x"]
    # The version before stays for who needs it.
    assert after.pop("kept") == [first["digest"].removeprefix("sha256:")] and after == updated[0]
    hearth("runtimes", "remove", "nodejs20.x")
    assert listed(hearth).get("nodejs20.x", {}).get("source") != "package"
    assert "was not added" in said_no(hearth, "remove", "nodejs20.x")


def test_what_no_archive_has_is_refused_and_named(mirrored, trixie):
    _, hearth, cache = mirrored()
    for runtime, source, reason in [
        ("nodejs24.x", "debian:trixie", "Debian's suite trixie: its nodejs is 20.1.0, which is not nodejs24.x"),
        ("python3.13", "debian", "Debian's suite trixie: it has no package python3.13"),
        ("nodejs24.x", "debian", f"the mirror {trixie.url} has no suite forky"),
        ("python3.12", "debian", "no suite of Debian is known to have python3.12, only python3.9, python3.11"),
        ("dotnet8", "debian", "Hearth has no bootstrap for dotnet8"),
        ("python3.13", "debian:Trixie/x", "that is no name of a suite"),
    ]:
        assert reason in said_no(hearth, "add", runtime, source), runtime
    trixie.add("trixie", "nodejs", deb({}), "20.1-1", Depends="gone (>= 2)")
    trixie.publish("trixie")
    assert "its package nodejs needs gone, which it has not" in said_no(hearth, "add", "nodejs20.x", "debian")
    assert left(cache) == []


def test_only_what_the_archives_key_signed_counts(mirrored, trixie, base):
    _, hearth, cache = mirrored()
    stranger = trixie.make_key("stranger")
    good = trixie.files["dists/trixie/InRelease"]
    add = ("add", "nodejs20.x", "debian")
    for ways, reason in [
        ({"key": stranger}, "it is by no key that this host trusts for it"),
        ({"change": lambda signed: signed.replace(b"Origin: Debian", b"Origin: Xebian")}, "what it is of was changed"),
        ({"change": lambda signed: b"Origin: Debian\nCodename: trixie\n"}, "there is none"),
        ({"codename": "bookworm"}, "what vouches for trixie is of another suite"),
    ]:
        trixie.publish("trixie", **ways)
        assert reason in said_no(hearth, *add)
    # Text around what is signed says nothing.
    trixie.files["dists/trixie/InRelease"] = b"Codename: trixie\nSHA256:\n 00 1 x\n" + good
    packages = f"dists/trixie/main/binary-{'amd64' if os.uname().machine == 'x86_64' else 'arm64'}/Packages.gz"
    listing = next(path for path in trixie.files if "by-hash" in path and trixie.files[path] == trixie.files[packages])
    for path in (packages, listing):
        trixie.files[path] = trixie.files[path][:-1] + bytes([trixie.files[path][-1] ^ 1])
    assert re.search("what came for sha256:.* is another", said_no(hearth, *add))
    assert left(cache) == [] and "nodejs20.x" not in {name for name, each in listed(hearth).items() if each["source"] == "package"}
    # Keys may be text.
    armored = trixie.folder / "keyring.asc"
    trixie.export(trixie.key, armored, armored=True)
    trixie.publish("trixie")
    _, hearth, _ = mirrored("--runtimes-debian-keyring", armored, cache=cache, data=base / f"data-{uuid.uuid4().hex[:8]}")
    hearth("runtimes", *add)


def test_a_package_that_is_not_what_its_list_says_leaves_nothing(mirrored, trixie):
    _, hearth, cache = mirrored()
    path = next(path for path in trixie.files if path.endswith(".deb") and "nodejs" in path)
    whole = trixie.files[path]
    trixie.files[path] = whole[:-1] + bytes([whole[-1] ^ 1])
    assert re.search(r"the package nodejs 20.1.0\+dfsg-1: what came for sha256:.* is another", said_no(hearth, "add", "nodejs20.x", "debian"))
    del trixie.files[path]
    assert "the package nodejs 20.1.0+dfsg-1: the mirror has it no more" in said_no(hearth, "add", "nodejs20.x", "debian")
    assert not [name for name in left(cache) if not name.startswith("deb-")], "only whole packages are kept"
    for tag, content in {
        "a device": deb({}, special=[("./x", tarfile.CHRTYPE)]),
        "outside": deb({"../x": "1"}),
        "nonsense": b"nonsense" * 100,
    }.items():
        trixie.add("trixie", "nodejs", content, f"20.1.0-{len(tag)}")
        trixie.publish("trixie")
        said = said_no(hearth, "add", "nodejs20.x", "debian")
        assert re.search("device, a pipe|leads out of it|this is no package of Debian", said), said
    trixie.add("trixie", "nodejs", whole, "20.1.0-9")
    trixie.publish("trixie")
    hearth("runtimes", "add", "nodejs20.x", "debian")


def test_a_download_of_a_package_that_breaks_off_goes_on(mirrored, trixie):
    _, hearth, _ = mirrored()
    trixie.break_after = 100_000
    content = os.urandom(350_000)
    trixie.add("trixie", "provider", deb({"x": content}, packing=""), "2.0-1", Provides="libv")
    trixie.publish("trixie")
    size = len(trixie.files[next(path for path in trixie.files if "provider_2.0" in path)])
    hearth("runtimes", "add", "nodejs20.x", "debian")
    ranges = [asked for path, asked in trixie.seen if "provider_2.0" in path]
    assert ranges == [None] + [f"bytes={at}-" for at in range(100_000, size, 100_000)]


def test_a_mirror_is_reached_through_the_proxy_that_the_environment_names(mirrored, trixie):
    proxy = Proxy({"mirror.example.test": trixie.url.split("/")[2]})
    _, hearth, _ = mirrored("--runtimes-debian-mirrors", "http://mirror.example.test/debian", http_proxy=proxy.url)
    hearth("runtimes", "add", "nodejs20.x", "debian")
    assert set(proxy.seen) == {("GET", "mirror.example.test")} and listed(hearth)["nodejs20.x"]["source"] == "package"
    proxy.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted as root")
def test_a_full_disk_is_said_and_leaves_nothing_in_the_way(mirrored, trixie, base):
    cache = base / f"cache-{uuid.uuid4().hex[:8]}"
    (cache / "runtimes").mkdir(parents=True)
    small = f'mount -t tmpfs -o size=96m,mode=0755 none {cache}/runtimes; exec "$@"'
    server, hearth, _ = mirrored(cache=cache, before=["unshare", "--mount", "sh", "-c", small, "sh"])
    whole = trixie.suites["trixie"]["nodejs"]
    for size, packing in ((120 << 20, ""), (200 << 20, "gz")):
        trixie.add("trixie", "nodejs", deb({"x": bytes(size)}, packing=packing), f"20.1.0-{size}")
        trixie.publish("trixie")
        assert "No space left on device" in said_no(hearth, "add", "nodejs20.x", "debian")
    # What fits still goes, without another start.
    trixie.suites["trixie"]["nodejs"] = whole
    trixie.publish("trixie")
    hearth("runtimes", "add", "nodejs20.x", "debian")
    assert listed(hearth)["nodejs20.x"]["version"] == "20.1.0"
