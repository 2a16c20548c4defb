"""What lies outside of a sandbox and is to be reached: `outside.py FILE`. Makes it, says it as a JSON object on one line,
and takes it away when the input ends."""

import ctypes
import json
import os
import secrets
import socket
import struct
import sys
import threading

LIBC = ctypes.CDLL(None, use_errno=True)


def handle(path):
    """The number by which a file system knows a file."""
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(-100, path.encode(), buffer, ctypes.byref(mount), 0) != 0:
        return [0, ""]
    size, kind = struct.unpack("Ii", buffer.raw[:8])
    return [kind, buffer.raw[8 : 8 + size].hex()]


def serve(listener):
    while True:
        with listener.accept()[0] as client:
            client.sendall(b"reachable")


def serve_datagrams(server):
    while True:
        server.sendto(b"reachable", server.recvfrom(16)[1])


file, secret = sys.argv[1], secrets.token_hex(8)
with open(file, "w") as written:
    written.write(secret)
os.chmod(file, 0o644)

shm_file = f"/dev/shm/hearth-escape-{os.getpid()}"
with open(shm_file, "w") as written:
    written.write(secret)
os.chmod(shm_file, 0o644)
shm_key = 0x48000000 | os.getpid()
segment = LIBC.shmget(shm_key, 4096, 0o1000 | 0o666)

abstract = f"hearth-escape-{secret}"
local, tcp = socket.socket(socket.AF_UNIX), socket.create_server(("0.0.0.0", 0))
local.bind("\0" + abstract)
local.listen()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(tcp.getsockname())
threading.Thread(target=serve_datagrams, args=(udp,), daemon=True).start()
for listener in (local, tcp):
    threading.Thread(target=serve, args=(listener,), daemon=True).start()

world = dict(
    file=file,
    secret=secret,
    host_pid=os.getpid(),
    handle=handle(file),
    shm_file=shm_file,
    shm_key=shm_key,
    abstract=abstract,
    port=tcp.getsockname()[1],
)
print(json.dumps(world), flush=True)
sys.stdin.read()
os.unlink(shm_file)
LIBC.shmctl(segment, 0, None)
