"""A PostgreSQL of a test's own: Debian's binaries, a folder and a Unix socket, no port."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import urllib.parse
import uuid

from hearth import environment, eventually

NOBODY = 65534


def binaries():
    """Of the newest version that is installed. Without it the tests fail: script/prepare installs it."""
    found = [folder.parent.parent for folder in pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    assert found, "these tests need PostgreSQL's binaries, which script/prepare installs"
    return max(found, key=lambda folder: int(folder.name)) / "bin"


class Postgres:
    """With a certificate (two files, which its user can read) it also listens on a port, to TLS alone."""

    def __init__(self, folder, certificate=None):
        self.folder = pathlib.Path(folder)
        self.certificate = certificate
        self.folder.mkdir(mode=0o755)
        self.process = None
        self.port = 5432
        # PostgreSQL refuses to be root.
        self.user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            os.chown(self.folder, NOBODY, NOBODY)
        if certificate:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        self.run("initdb", "--no-sync", "--auth=trust", "--username=hearth", "--encoding=UTF8", "-D", self.folder / "data")
        self.start()

    def run(self, name, *arguments):
        command = [binaries() / name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment(LC_ALL="C"), **self.user)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}"]
        if self.certificate:
            chain, key = (self.copy(file) for file in self.certificate)
            settings = ["listen_addresses=127.0.0.1", f"port={self.port}", settings[1], "ssl=on"]
            settings += [f"ssl_cert_file={chain}", f"ssl_key_file={key}"]
            (self.folder / "data" / "pg_hba.conf").write_text("local all all trust\nhostssl all all all trust\n")
        # What it has written outlives its process without a sync, and a busy disk holds up nobody.
        flags = [part for setting in [*settings, "fsync=off"] for part in ("-c", setting)]
        command = [binaries() / "postgres", "-D", self.folder / "data", *flags]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment(LC_ALL="C"), **self.user
            )
        eventually("the database accepts", self.accepts)

    def copy(self, file):
        """One that nobody else can read: PostgreSQL wants it so."""
        copy = self.folder / "data" / file.name
        shutil.copy(file, copy)
        copy.chmod(0o600)
        if self.user:
            os.chown(copy, NOBODY, NOBODY)
        return copy

    def accepts(self):
        command = [binaries() / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port), "-U", "hearth"]
        return subprocess.run(command, env=environment(), cwd="/").returncode == 0

    def database(self):
        """The URL of a new one."""
        name = f"d{uuid.uuid4().hex[:8]}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgres:///{name}?host={urllib.parse.quote(str(self.folder))}&user=hearth"

    def sql(self, text, database="postgres"):
        return self.run("psql", "-qAt", "-h", self.folder, "-p", self.port, "-U", "hearth", "-d", database, "-c", text)

    def crash(self):
        """At once, with every process of it, as when its host fails."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.crash()
        shutil.rmtree(self.folder)
