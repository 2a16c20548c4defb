import asyncio
import fcntl
import mmap
import os
import select
import shutil
import socket
import sqlite3
import ssl
import struct
import subprocess
import tempfile
import threading
import time

# Threads, processes, pipes.
results = []
threads = [threading.Thread(target=lambda: results.append(time.sleep(0))) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(results) == 8
assert subprocess.run(["/bin/echo", "x"], capture_output=True, start_new_session=True).stdout == b"x\n"
assert os.popen("echo y").read() == "y\n"


async def child():
    process = await asyncio.create_subprocess_exec("/bin/true")
    return await process.wait()


assert asyncio.run(child()) == 0

# Sockets, names, options.
server = socket.create_server(("127.0.0.1", 0), reuse_port=True)
client = socket.create_connection(server.getsockname())
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT):
    client.setsockopt(socket.IPPROTO_TCP, option, 10)
client.sendall(b"hello")
assert server.accept()[0].recv(9) == b"hello"
assert socket.getaddrinfo("localhost", 80)
assert socket.if_nameindex()
one, two = socket.socketpair()
one.sendmsg([b"x"])
assert two.recvmsg(9)[0] == b"x"
request = struct.pack("16sH14x", b"lo", 0)
fcntl.ioctl(client, 0x8913, request)
ssl.create_default_context()

# Files, databases, memory.
with tempfile.TemporaryDirectory(dir="/tmp") as folder:
    os.mkfifo(f"{folder}/fifo")
    with open(f"{folder}/a", "w") as file:
        file.write("x")
        fcntl.flock(file, fcntl.LOCK_EX)
        os.posix_fallocate(file.fileno(), 0, 4096)
    shutil.copy2(f"{folder}/a", f"{folder}/b")
    os.symlink("a", f"{folder}/link")
    os.rename(f"{folder}/b", f"{folder}/c")
    database = sqlite3.connect(f"{folder}/database")
    database.execute("pragma journal_mode = wal")
    database.execute("create table numbers (n)")
    database.commit()
    database.close()
mapping = mmap.mmap(-1, 1 << 20)
mapping.madvise(mmap.MADV_DONTNEED)
poll = select.epoll()
poll.register(server, select.EPOLLIN)
os.memfd_create("x")
os.sched_getaffinity(0)
os.nice(1)
for name in ("meminfo", "cpuinfo", "stat", "self/status", "self/cgroup", "sys/vm/overcommit_memory", "loadavg", "uptime"):
    with open(f"/proc/{name}") as file:
        assert file.read(), name
print("works")
