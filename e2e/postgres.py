"""A PostgreSQL of a test's own: Debian's binaries, a folder and a Unix socket, no port."""

import os
import pathlib
import shutil
import signal
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
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(mode=0o755)
        self.process = None
        # PostgreSQL refuses to be root.
        self.user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            os.chown(self.folder, NOBODY, NOBODY)
        self.run("initdb", "--no-sync", "--auth=trust", "--username=hearth", "--encoding=UTF8", "-D", self.folder / "data")
        self.start()

    def run(self, name, *arguments):
        command = [binaries() / name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment(LC_ALL="C"), **self.user)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}"]
        flags = [part for setting in settings for part in ("-c", setting)]
        command = [binaries() / "postgres", "-D", self.folder / "data", *flags]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment(LC_ALL="C"), **self.user
            )
        eventually("the database accepts", self.accepts)

    def accepts(self):
        command = [binaries() / "pg_isready", "-q", "-h", self.folder, "-U", "hearth"]
        return subprocess.run(command, env=environment(), cwd="/").returncode == 0

    def database(self):
        """The URL of a new one."""
        name = f"d{uuid.uuid4().hex[:8]}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgres:///{name}?host={urllib.parse.quote(str(self.folder))}&user=hearth"

    def sql(self, text, database="postgres"):
        return self.run("psql", "-qAt", "-h", self.folder, "-U", "hearth", "-d", database, "-c", text)

    def crash(self):
        """At once, with every process of it, as when its host fails."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.crash()
        shutil.rmtree(self.folder)
