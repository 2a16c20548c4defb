"""Container images made by hand: layers, OCI layout folders, and a small registry that serves one and can misbehave."""

import base64
import contextlib
import gzip
import hashlib
import http.client
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import urllib.parse

import served
from hearth import eventually

OCI = "application/vnd.oci.image"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
OTHER_MACHINE = {"amd64": "arm64", "arm64": "amd64"}[MACHINE]

# As an unmodified base image of AWS has them.
ENTRYPOINT = """#!/bin/sh
if [ $# -ne 1 ]; then
  echo "entrypoint requires the handler name to be the first argument" 1>&2
  exit 142
fi
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then
  exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap
else
  exec /var/runtime/bootstrap
fi
"""
# What base images have for other places than Lambda.
EMULATOR = """#!/bin/sh
echo "the emulator is for other places than this" 1>&2
exit 1
"""
BOOTSTRAP = """#!/bin/bash
export AWS_EXECUTION_ENV=AWS_Lambda_image_of_test
if [ -z "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
  exec /var/lang/bin/python3 /var/runtime/bootstrap.py
else
  exec "$AWS_LAMBDA_EXEC_WRAPPER" /var/lang/bin/python3 /var/runtime/bootstrap.py
fi
"""
CLIENT = """import http.client, importlib, json, os, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None):
    connection.request(method, "/2018-06-01/runtime" + path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    return answer.headers, answer.read()
module, name = os.environ["_HANDLER"].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)
while True:
    headers, event = call("GET", "/invocation/next")
    path = "/invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        call("POST", path + "/response", handler(json.loads(event), None))
    except Exception as error:
        call("POST", path + "/error", {"errorType": type(error).__name__, "errorMessage": str(error)})
"""


def layer(files, links=(), hard=(), special=()):
    """A tar of `{path: content}`; `None` makes a folder. What begins as a program does is executable."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(path, kind, mode=0o644, content=b"", target=""):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
            entry.mtime = 1_700_000_000
            tar.addfile(entry, io.BytesIO(content))

        for path, content in files.items():
            if content is None:
                add(path, tarfile.DIRTYPE, 0o755)
                continue
            mode = None
            if isinstance(content, pathlib.Path):
                mode = stat.S_IMODE(content.stat().st_mode)
                content = content.read_bytes()
            content = content.encode() if isinstance(content, str) else content
            add(path, tarfile.REGTYPE, mode or (0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644), content)
        for path, target in links:
            add(path, tarfile.SYMTYPE, target=target)
        for path, target in hard:
            add(path, tarfile.LNKTYPE, target=target)
        for path, kind in special:
            add(path, kind)
    return out.getvalue()


def sha256(blob):
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


class Image:
    """Blobs by digest, and the digest of the manifest."""

    def __init__(self, layers, machine=MACHINE, packing="gzip", **config):
        self.blobs = {}
        kinds = {"gzip": "tar+gzip", "zstd": "tar+zstd", None: "tar"}
        packed = [pack(each, packing) for each in layers]
        document = {"os": "linux", "architecture": machine, "config": config, "rootfs": {"type": "layers"}}
        self.manifest = self.document(
            f"{OCI}.manifest.v1+json",
            config=self.describe(f"{OCI}.config.v1+json", json.dumps(document).encode()),
            layers=[self.describe(f"{OCI}.layer.v1.{kinds[packing]}", each) for each in packed],
        )

    def describe(self, kind, blob, **more):
        self.blobs[sha256(blob)] = blob
        return {"mediaType": kind, "digest": sha256(blob), "size": len(blob)} | more

    def document(self, kind, **members):
        blob = json.dumps({"schemaVersion": 2, "mediaType": kind} | members).encode()
        return self.describe(kind, blob)

    @property
    def digest(self):
        return self.manifest["digest"]

    def layers(self):
        """Digests of the layers."""
        return [each["digest"] for each in json.loads(self.blobs[self.digest])["layers"]]

    def index(self, *others):
        """An index of this and other images, each for the platform that its configuration says."""
        entries = []
        for image in (self, *others):
            config = json.loads(image.blobs[json.loads(image.blobs[image.manifest["digest"]])["config"]["digest"]])
            entries.append(image.manifest | {"platform": {"os": config["os"], "architecture": config["architecture"]}})
            self.blobs |= image.blobs
        return self.document(f"{OCI}.index.v1+json", manifests=entries)

    def write(self, folder, tag="latest"):
        """As an OCI layout folder. Answers its name for Hearth."""
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        for digest, blob in self.blobs.items():
            (folder / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(blob)
        entry = self.manifest | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"oci:{folder}:{tag}"


def pack(blob, packing):
    if packing == "gzip":
        return gzip.compress(blob, 1, mtime=0)
    if packing == "zstd":
        return subprocess.run(["zstd", "-1", "-c"], input=blob, stdout=subprocess.PIPE, check=True).stdout
    return blob


def with_libraries(programs):
    """`{path in the image: file of the host}` of programs and what they are linked to."""
    found = {}
    for target, program in programs.items():
        found[target] = pathlib.Path(program).resolve()
        said = subprocess.run(["ldd", found[target]], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", said):
            found[library.lstrip("/")] = pathlib.Path(library).resolve()
    return found


def system():
    """A layer with a shell and a few tools: what is under everything else."""
    tools = {f"usr/bin/{name}": shutil.which(name) for name in ("bash", "cat", "env", "ls", "stat", "id", "printenv", "touch")}
    files = with_libraries(tools)
    links = [("bin", "usr/bin"), ("usr/bin/sh", "bash")]
    # Where the host has them, libraries lie behind links.
    loaders = {"lib", "lib64"}
    plain = {}
    for path, file in files.items():
        first = path.split("/")[0]
        if first in loaders and pathlib.Path("/", first).is_symlink():
            path = f"usr/{path}"
            if (first, f"usr/{first}") not in links:
                links.append((first, f"usr/{first}"))
        plain[path] = file
    return layer({"etc": None, "etc/passwd": "root:x:0:0::/root:/bin/sh\n"} | plain, links)


def python_base():
    """A layer laid out as AWS's base images of Python are: the host's interpreter at /var/lang."""
    program = pathlib.Path("/usr/bin/python3").resolve()
    standard = pathlib.Path(
        subprocess.run([program, "-ISc", "import os; print(os.path.dirname(os.__file__))"], capture_output=True, text=True, check=True).stdout.strip()
    )
    wanted = {f"var/lang/bin/{program.name}": program}
    unwanted = {"test", "idlelib", "tkinter", "lib2to3", "ensurepip", "pydoc_data", "__pycache__", "dist-packages", "config-3"}
    for file in sorted(standard.rglob("*")):
        below = file.relative_to(standard)
        if file.is_file() and not any(part in unwanted or part.startswith("config-") for part in below.parts):
            wanted[f"var/lang/lib/{standard.name}/{below}"] = file
    libraries = {}
    for path, file in wanted.items():
        if path.endswith(".so") or path.endswith(program.name):
            linked = with_libraries({path: file})
            libraries |= {f"usr/{name}" if not name.startswith(("usr/", "var/")) else name: found for name, found in linked.items()}
    files = wanted | libraries | {
        "var/runtime/bootstrap": BOOTSTRAP,
        "var/runtime/bootstrap.py": CLIENT,
        "lambda-entrypoint.sh": ENTRYPOINT,
        "usr/local/bin/aws-lambda-rie": EMULATOR,
        "var/task": None,
        "opt": None,
    }  # fmt: skip
    return layer(files, [("var/lang/bin/python3", program.name)])


# What the configuration of AWS's base images says.
BASE = {
    "Env": [
        "LANG=en_US.UTF-8",
        "TZ=:/etc/localtime",
        "PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        "LAMBDA_TASK_ROOT=/var/task",
        "LAMBDA_RUNTIME_DIR=/var/runtime",
    ],
    "WorkingDir": "/var/task",
    "Entrypoint": ["/lambda-entrypoint.sh"],
}


class Registry:
    """Serves images as `{(repository, tag): digest}` and blobs, by the API of Docker's registry. Its ways to misbehave are
    members that a test sets."""

    def __init__(self, context=None):
        self.tags, self.blobs = {}, {}
        # `name:password` that tokens are given for, and by which of the two ways.
        self.password = None
        self.basic = False
        # What is exchanged for a token, instead.
        self.identity = None
        # Bytes of a blob after which an answer breaks off, each time it begins anew.
        self.break_after = None
        self.ranges = True
        self.redirect = False
        # Digest of a blob in which a byte is wrong.
        self.damaged = None
        # Paths that are answered by this status, as often as it says.
        self.failing = {}
        # Called with a blob's digest before it is answered.
        self.before = None
        self.seen = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"registry": self}))
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def push(self, image, repository="team/app", tag="1", manifest=None):
        self.blobs |= image.blobs
        self.tags[repository, tag] = (manifest or image.manifest)["digest"]
        return f"{self.host}/{repository}:{tag}"

    def small(self):
        """Blobs that come whole whatever happens: configurations."""
        return {digest for digest, blob in self.blobs.items() if len(blob) < 4096}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Handler(served.Handler):
    registry = None

    def do_GET(self):
        registry = self.registry
        registry.seen.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if self.path.startswith("/token"):
            return self.token()
        if self.path.startswith("/cdn/"):
            assert "Authorization" not in self.headers or self.headers["Host"] == registry.host
            return self.blob(self.path.removeprefix("/cdn/"))
        if not self.permitted():
            return None
        for path, (status, times) in list(registry.failing.items()):
            if path in self.path and times > 0:
                registry.failing[path] = (status, times - 1)
                return self.answer(status, b"{}")
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", self.path)
        if not found:
            return self.answer(404, b"{}")
        repository, kind, which = found.groups()
        if kind == "blobs":
            if registry.redirect:
                return self.answer(307, b"", Location=f"http://{registry.host}/cdn/{which}")
            return self.blob(which)
        digest = which if which.startswith("sha256:") else registry.tags.get((repository, which))
        if digest not in registry.blobs:
            return self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        blob = registry.blobs[digest]
        return self.answer(200, blob, **{"Content-Type": json.loads(blob)["mediaType"], "Docker-Content-Digest": digest})

    def do_POST(self):
        registry, length = self.registry, int(self.headers["Content-Length"])
        registry.seen.append((self.path, None, self.headers.get("Authorization")))
        form = urllib.parse.parse_qs(self.rfile.read(length).decode())
        expected = {"grant_type": ["refresh_token"], "refresh_token": [registry.identity], "service": ["test"], "scope": ["repository:team/app:pull"]}
        if self.path != "/token" or not expected.items() <= form.items():
            return self.answer(401, b"{}")
        return self.answer(200, b'{"access_token": "good"}')

    def permitted(self):
        registry, given = self.registry, self.headers.get("Authorization")
        if registry.password is None:
            return True
        basic = "Basic " + base64.b64encode(registry.password.encode()).decode()
        if given == (basic if registry.basic else "Bearer good"):
            return True
        realm = f'Bearer realm="http://{registry.host}/token",service="test",scope="repository:team/app:pull"'
        self.answer(401, b"{}", **{"WWW-Authenticate": 'Basic realm="test"' if registry.basic else realm})
        return False

    def token(self):
        basic = "Basic " + base64.b64encode((self.registry.password or "").encode()).decode()
        if self.headers.get("Authorization") != basic or "service=test" not in self.path:
            return self.answer(401, b"{}")
        return self.answer(200, b'{"token": "good"}')

    def blob(self, digest):
        registry = self.registry
        if digest not in registry.blobs:
            return self.answer(404, b"{}")
        blob = registry.blobs[digest]
        if registry.before:
            registry.before(digest)
        if digest == registry.damaged:
            blob = blob[:-1] + bytes([blob[-1] ^ 1])
        break_after = None if digest in registry.small() else registry.break_after
        return self.part(blob, registry.ranges, break_after)


class DockerRegistry:
    """Docker's own registry, as Debian has it, with images that only those may read who know the password."""

    # What `htpasswd -nbB me secret` prints.
    USERS = "me:$2b$04$FLzSy1PfKSJT9VynGIzRquUiw6B/UHxDR3IuNCiMU8a/mjsRfYwsS\n"
    BASIC = "Basic " + base64.b64encode(b"me:secret").decode()

    def __init__(self, folder):
        (folder / "users").write_text(self.USERS)
        settings = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "test", "path": str(folder / "users")}},
        }
        (folder / "config.yml").write_text(json.dumps(settings))
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        listening = lambda: re.search(r"listening on (127\.0\.0\.1:\d+)", self.log.read_text())
        self.host = eventually("the registry listens", listening)[1]

    def close(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, body=b"", **headers):
        connection = http.client.HTTPConnection(self.host, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Authorization": self.BASIC} | headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status < 300, (method, path, answer.status, said)
            return answer.headers

    def push(self, image, repository, tag):
        for digest, blob in image.blobs.items():
            if digest == image.digest:
                continue
            place = self.request("POST", f"/v2/{repository}/blobs/uploads/")["Location"]
            path = place.removeprefix(f"http://{self.host}")
            self.request("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", blob, **{"Content-Type": "application/octet-stream"})
        manifest = image.blobs[image.digest]
        self.request("PUT", f"/v2/{repository}/manifests/{tag}", manifest, **{"Content-Type": json.loads(manifest)["mediaType"]})
        return f"{self.host}/{repository}:{tag}"


class Proxy:
    """Leads to `{HOST:PORT as it is asked for: HOST:PORT as it is}`, and only for those who know the password."""

    PROOF = "Basic " + base64.b64encode(b"me:secret").decode()

    def __init__(self, places):
        self.places, self.seen = places, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (ProxyHandler,), {"proxy": self}))
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://me:secret@{self.address}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class ProxyHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def log_message(self, *_):
        pass

    def place(self, name):
        self.proxy.seen.append((self.command, name))
        if self.headers.get("Proxy-Authorization") != self.proxy.PROOF:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        host, port = self.proxy.places[name].split(":")
        return host, int(port)

    def do_CONNECT(self):
        place = self.place(self.path)
        if not place:
            return
        with socket.create_connection(place) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
            back.start()
            pump(self.connection, there)
            back.join()
        self.close_connection = True

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        place = self.place(url.netloc)
        if not place:
            return
        passed = {name: value for name, value in self.headers.items() if name in ("Range", "User-Agent")}
        connection = http.client.HTTPConnection(*place, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", url.path, headers=passed)
            answer = connection.getresponse()
            body = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Range", "Content-Type"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def pump(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
