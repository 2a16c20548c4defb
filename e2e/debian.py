"""An archive of Debian's, small and signed by a key of its own, served as mirrors are; and its ways to misbehave."""

import gzip
import hashlib
import http.server
import io
import platform
import subprocess
import tarfile
import threading

import served

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
# What is around every interpreter.
SYSTEM = ("bash", "coreutils", "curl", "findutils", "grep", "gzip", "libc-bin", "mawk", "openssl", "sed", "tar", "tzdata")


def deb(files, links=(), special=(), packing="gz"):
    """A package of `{path: content}`. Its scripts would be run by whoever runs scripts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            content = content.encode() if isinstance(content, str) else content
            entry.size, entry.mode = len(content), 0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for path, target in links:
            entry = tarfile.TarInfo(f"./{path}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for path, kind in special:
            entry = tarfile.TarInfo(path)
            entry.type = kind
            tar.addfile(entry)
    data = out.getvalue()
    packed = {
        "": lambda: data,
        ".gz": lambda: gzip.compress(data, 1, mtime=0),
        ".xz": lambda: subprocess.run(["xz", "-0", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout,
        ".zst": lambda: subprocess.run(["zstd", "-1", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout,
    }[f".{packing}" if packing else ""]()
    members = {"debian-binary": b"2.0\n", "control.tar.gz": b"never read", f"data.tar{'.' if packing else ''}{packing}": packed}
    archive = b"!<arch>\n"
    for name, content in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
    return archive


class Archive:
    """Packages and suites; `publish` signs what a suite has then."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700)
        self.keyring = folder / "keyring.gpg"
        self.key = self.make_key("archive")
        self.export(self.key, self.keyring)
        # Paths of the archive, and what is there.
        self.files = {}
        # Per suite: `{name: (paragraph, deb)}`.
        self.suites = {}
        # Bytes of a package after which an answer breaks off.
        self.break_after = None
        self.seen = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"archive": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/debian"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"], check=False)

    def gpg(self, *arguments, **how):
        command = ["gpg", "--homedir", self.home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return subprocess.run(command, check=True, capture_output=True, **how).stdout

    def make_key(self, name):
        self.gpg("--quick-gen-key", f"{name} <{name}@example.test>", "ed25519", "sign", "never")
        return f"{name}@example.test"

    def export(self, key, file, armored=False):
        file.write_bytes(self.gpg("--export", *(["--armor"] if armored else []), key))
        file.chmod(0o644)

    def add(self, suite, name, package, version="1.0-1", **fields):
        path = f"pool/main/{name}_{version}_{ARCHITECTURE}.deb"
        self.files[path] = package
        lines = {"Package": name, "Version": version, "Architecture": ARCHITECTURE} | fields
        lines |= {"Filename": path, "Size": len(package), "SHA256": hashlib.sha256(package).hexdigest()}
        paragraph = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in lines.items())
        self.suites.setdefault(suite, {})[name] = paragraph
        return path

    def add_system(self, suite):
        for name in SYSTEM:
            self.add(suite, name, deb({f"usr/share/{name}/here": name}))

    def publish(self, suite, key=None, codename=None, change=None, more=""):
        listing = "\n".join(self.suites[suite].values()).encode()
        folder = f"main/binary-{ARCHITECTURE}"
        packed = gzip.compress(listing, 6, mtime=0)
        lines = ""
        for name, content in {f"{folder}/Packages": listing, f"{folder}/Packages.gz": packed}.items():
            digest = hashlib.sha256(content).hexdigest()
            lines += f" {digest} {len(content)} {name}\n"
            self.files[f"dists/{suite}/{name}"] = content
            self.files[f"dists/{suite}/{folder}/by-hash/SHA256/{digest}"] = content
        release = f"Origin: Debian\nCodename: {codename or suite}\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n{more}Acquire-By-Hash: yes\nSHA256:\n{lines}"
        signed = self.gpg("--clearsign", "--local-user", key or self.key, input=release.encode())
        self.files[f"dists/{suite}/InRelease"] = change(signed) if change else signed


class Handler(served.Handler):
    archive = None

    def do_GET(self):
        archive, path = self.archive, self.path.removeprefix("/debian/")
        archive.seen.append((path, self.headers.get("Range")))
        content = archive.files.get(path)
        if content is None:
            return self.answer(404, b"")
        return self.part(content, break_after=archive.break_after if path.endswith(".deb") else None)
