"""A made-up Internet: a network namespace with addresses of every kind, joined to another one that stands for the host.

Nothing here touches the network of the machine that tests. Run as a program, it serves what the world offers."""

import contextlib
import ctypes
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import uuid

HOST, HOST6 = "192.0.2.1", "2001:db8::1"
GATEWAY, GATEWAY6 = "192.0.2.2", "2001:db8::2"
PUBLIC, PUBLIC6 = "203.0.113.10", "2001:db8:1::10"
PRIVATE, PRIVATE6 = "10.9.0.5", "fd00:9::5"
METADATA = "169.254.169.254"
SHARED = "100.64.0.9"
NAMED = "172.16.5.5"
ADDRESSES = [PUBLIC, PUBLIC6, PRIVATE, PRIVATE6, METADATA, SHARED, NAMED]
NAMES = {"public.example": [PUBLIC, PUBLIC6], "db.internal": [NAMED], "inside.example": [PRIVATE]}
# Never answered.
SILENT = "silent.example"
# What is sent to it comes back; each connection begins with where it came to.
ECHO = 7000
# Nobody listens there.
CLOSED = 7001


def run(*command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


class World:
    def __init__(self, folder):
        mark = uuid.uuid4().hex[:8]
        self.host, self.world = f"e2e-host-{mark}", f"e2e-world-{mark}"
        self.folder = pathlib.Path(folder)
        self.serving = []

    def __enter__(self):
        for name in (self.host, self.world):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.world)
        for name, v4, v6, other, other6 in (
            (self.host, HOST, HOST6, GATEWAY, GATEWAY6),
            (self.world, GATEWAY, GATEWAY6, HOST, HOST6),
        ):
            run("ip", "-n", name, "address", "add", f"{v4}/24", "dev", "eth0")
            run("ip", "-n", name, "address", "add", f"{v6}/64", "dev", "eth0", "nodad")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", other)
            run("ip", "-n", name, "route", "add", "default", "via", other6)
        for address in ADDRESSES:
            run("ip", "-n", self.world, "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        # Whoever can be reached answers; the host, too, on every address that it has.
        for name in (self.host, self.world):
            serving = subprocess.Popen(
                [sys.executable, __file__], stdout=subprocess.PIPE, preexec_fn=lambda name=name: enter(name)
            )
            assert serving.stdout.readline() == b"ready\n"
            self.serving.append(serving)
        self.resolvers = self.folder / "resolv.conf"
        self.resolvers.write_text(f"nameserver {PUBLIC}\n")
        self.resolvers.chmod(0o644)
        # Devices of some machines are root's alone.
        self.tunnels = self.folder / "tun"
        run("mknod", self.tunnels, "c", 10, 200)
        self.tunnels.chmod(0o666)
        return self

    def __exit__(self, *_):
        for serving in self.serving:
            serving.kill()
            serving.wait()
        for name in (self.host, self.world):
            run("ip", "netns", "delete", name)

    def before(self):
        """A command that becomes another one, on this host."""
        mounts = f"mount --bind {self.resolvers} /etc/resolv.conf; mount --bind {self.tunnels} /dev/net/tun; "
        script = f'set -e; {mounts}exec nsenter --net=/run/netns/{self.host} -- "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh"]

    def devices(self):
        return subprocess.run(["ip", "-n", self.host, "-o", "link"], capture_output=True, text=True, check=True).stdout


def enter(name):
    """This thread's sockets are made there from now on."""
    with open(f"/run/netns/{name}") as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")


class Relay:
    """A port of this machine that leads to one of the made-up host's loopback."""

    def __init__(self, world, port):
        self.world, self.target = world, port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        enter(self.world.host)
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(one, other), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pump(one, other):
    with contextlib.suppress(OSError):
        while chunk := one.recv(65536):
            other.sendall(chunk)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def echo_stream(connection):
    connection.sendall(connection.getsockname()[0].removeprefix("::ffff:").encode() + b"\n")
    pump(connection, connection)
    connection.close()


def echo_datagrams(family, address):
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, ECHO))
    while True:
        payload, who = server.recvfrom(65535)
        server.sendto(payload, who)


def answer(question):
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    name, (kind, _) = ".".join(labels).lower(), struct.unpack_from("!HH", question, at + 1)
    if name == SILENT:
        return None
    records = b""
    found = [address for address in NAMES.get(name, []) if kind == (28 if ":" in address else 1)]
    for address in found:
        data = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        records += struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data
    code = 0 if name in NAMES else 3
    header = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0)
    return header + question[12 : at + 5] + records


def serve_names():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((PUBLIC, 53))
    while True:
        question, who = server.recvfrom(4096)
        if (said := answer(question)) is not None:
            server.sendto(said, who)


def serve_names_by_stream():
    listener = socket.create_server((PUBLIC, 53))
    while True:
        connection, _ = listener.accept()
        with connection:
            length = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))[0]
            said = answer(connection.recv(length, socket.MSG_WAITALL))
            connection.sendall(struct.pack("!H", len(said)) + said)


def has(address):
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def main():
    tasks = [(echo_datagrams, socket.AF_INET, "0.0.0.0")]
    if has(PUBLIC):
        # Bound to it: what answers is to come from where it was asked.
        tasks = [(echo_datagrams, socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in ADDRESSES]
        tasks += [(serve_names,), (serve_names_by_stream,)]
    listener = socket.create_server(("::", ECHO), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    for task, *arguments in tasks:
        threading.Thread(target=task, args=arguments, daemon=True).start()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo_stream, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    os.setpgrp()
    main()
