"""Attempts to leave a sandbox, each by its name: `attempts.py NAME WORLD`, where WORLD is a JSON object of what lies
outside and is to be reached. Prints one line: `out: …` when the attempt got out, `held: …` with what stopped it, or
`absent: …` when this kernel does not have what it needs. Runs inside the sandbox, as the function does."""

import ctypes
import errno
import fcntl
import json
import os
import platform
import socket
import struct
import sys

ARM = platform.machine() == "aarch64"
LIBC = ctypes.CDLL(None, use_errno=True)
ATTEMPTS = {}
# What a kernel says about what it was built without.
ABSENT = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}


class Held(Exception):
    pass


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def call(x86_64, aarch64, *arguments):
    """A system call by number; its result, or the error."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    converted += [ctypes.c_long(0)] * (6 - len(converted))
    result = LIBC.syscall(ctypes.c_long(aarch64 if ARM else x86_64), *converted)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def reaches(function, refusals):
    """Whether a call gets as far as the kernel's own code: any answer but the filter's."""
    try:
        return f"answered {function()}"
    except OSError as e:
        if e.errno in refusals:
            raise
        return f"reached the kernel, which said {e.strerror}"


def read(path, secret):
    with open(path) as file:
        text = file.read().strip()
    if text != secret:
        raise Held("something else is there")
    return path


# Files of the host, by twenty routes.


@attempt
def file_by_absolute_path(world):
    return read(world["file"], world["secret"])


@attempt
def file_by_parents_of_the_root(world):
    return read("/../../../.." + world["file"], world["secret"])


@attempt
def file_by_parents_of_a_root_descriptor(world):
    root = os.open("/", os.O_RDONLY)
    for _ in range(8):
        root = os.open("..", os.O_RDONLY, dir_fd=root)
    return read(f"/proc/self/fd/{root}{world['file']}", world["secret"])


@attempt
def file_by_own_root_in_proc(world):
    return read("/proc/self/root" + world["file"], world["secret"])


@attempt
def file_by_own_thread_root_in_proc(world):
    return read(f"/proc/thread-self/root{world['file']}", world["secret"])


@attempt
def file_by_own_directory_in_proc(world):
    return read("/proc/self/cwd/../../../.." + world["file"], world["secret"])


@attempt
def file_by_root_of_init(world):
    return read("/proc/1/root" + world["file"], world["secret"])


@attempt
def file_by_directory_of_init(world):
    return read("/proc/1/cwd/../.." + world["file"], world["secret"])


@attempt
def file_by_root_of_a_host_process(world):
    return read(f"/proc/{world['host_pid']}/root{world['file']}", world["secret"])


@attempt
def file_by_namespace_of_a_host_process(world):
    namespace = os.open(f"/proc/{world['host_pid']}/ns/mnt", os.O_RDONLY)
    call(308, 268, namespace, 0x00020000)
    return read(world["file"], world["secret"])


@attempt
def file_by_link_in_the_package(world):
    return read("/var/task/link", world["secret"])


@attempt
def file_by_link_in_tmp(world):
    os.symlink(world["file"], "/tmp/link")
    return read("/tmp/link", world["secret"])


@attempt
def file_by_hard_link(world):
    beside = world["file"] + "-linked"
    os.link(world["file"], beside)
    os.unlink(beside)
    return "linked"


@attempt
def file_by_inherited_descriptor(world):
    """CVE-2024-21626: a directory of the host left open."""
    for name in os.listdir("/proc/self/fd"):
        try:
            inside = os.open("../" * 12 + world["file"][1:], os.O_RDONLY, dir_fd=int(name))
            if os.read(inside, 100).decode().strip() == world["secret"]:
                return f"descriptor {name}"
        except OSError:
            pass
    raise Held("no descriptor leads there")


@attempt
def file_by_descriptor_of_init(world):
    names = os.listdir("/proc/1/fd")
    return f"init has {names}"


@attempt
def file_by_handle(world):
    """As the tool that reads a host's files by their numbers ("shocker") did."""
    kind, handle = world["handle"]
    handle = bytes.fromhex(handle)
    buffer = ctypes.create_string_buffer(struct.pack("Ii", len(handle), kind) + handle)
    mount = os.open("/usr/lib", os.O_RDONLY)
    inside = call(304, 265, mount, buffer, os.O_RDONLY)
    text = os.read(inside, 100).decode().strip()
    if text != world["secret"]:
        raise Held("something else is there")
    return "opened by its number"


@attempt
def program_of_init(world):
    """CVE-2019-5736: the host's binary, reached as the program of a process that is inside."""
    with open("/proc/1/exe", "rb") as file:
        return f"read {file.read(4)}"


@attempt
def mapped_files_of_init(world):
    folder = "/proc/1/map_files"
    with open(f"{folder}/{sorted(os.listdir(folder))[0]}", "rb") as file:
        return f"read {file.read(4)}"


@attempt
def memory_of_init(world):
    with open("/proc/1/maps") as file:
        return f"its map begins with {file.readline().split()[0]}"


@attempt
def environment_of_init(world):
    with open("/proc/1/environ", "rb") as file:
        return f"{len(file.read())} bytes"


@attempt
def shared_memory_folder(world):
    return read(world["shm_file"], world["secret"])


# Devices and mounts.


@attempt
def device_node(world):
    os.mknod("/tmp/kmsg", 0o020666, os.makedev(1, 11))
    with open("/tmp/kmsg", "rb"):
        return "opened the kernel's log"


@attempt
def devices_are_replaced(world):
    """CVE-2025-31133: the devices that cover others are replaced by links."""
    os.symlink("/proc/sys/kernel/core_pattern", "/dev/core")
    os.unlink("/dev/core")
    return "made a link in /dev"


@attempt
def consoles_are_there(world):
    """CVE-2025-52565: what is mounted on a console."""
    found = [name for name in os.listdir("/dev") if name in ("console", "pts", "ptmx", "tty", "kmsg", "mem")]
    if not found:
        raise Held("no such device")
    return f"found {found}"


def mount(source, target, kind, flags=0):
    b = lambda text: ctypes.c_char_p(text.encode()) if text else ctypes.c_void_p(0)
    call(165, 40, b(source), b(target), b(kind), flags, 0)
    return f"mounted on {target}"


@attempt
def mount_a_tmpfs(world):
    return mount("tmpfs", "/tmp", "tmpfs")


@attempt
def mount_by_descriptor(world):
    context = call(430, 430, ctypes.c_char_p(b"tmpfs"), 0)
    return f"opened {context}"


@attempt
def unmount_what_covers_proc(world):
    """CVE-2025-52881: writes are led past what covers /proc."""
    call(166, 39, ctypes.c_char_p(b"/proc/kallsyms"), 2)
    return "uncovered the symbols of the kernel"


@attempt
def remount_root_writable(world):
    return mount(None, "/", None, 0x1000 | 0x20)


@attempt
def write_to_the_package(world):
    with open("/var/task/written", "w"):
        pass
    os.unlink("/var/task/written")
    return "wrote to /var/task"


@attempt
def set_user_id_program(world):
    if os.popen("/var/task/setuid-id -u").read().strip() != "0":
        raise Held("still who it was")
    return "became root"


# /proc, /sys and control groups.


def write_back(path, text=None):
    """Writes what is there: when that is allowed, anything else would be too."""
    descriptor = os.open(path, os.O_RDWR)
    os.write(descriptor, text if text is not None else os.read(descriptor, 4096))
    return f"wrote to {path}"


@attempt
def write_core_pattern(world):
    return write_back("/proc/sys/kernel/core_pattern")


@attempt
def write_setting_of_the_network(world):
    return write_back("/proc/sys/net/ipv4/ip_default_ttl")


@attempt
def write_to_own_proc(world):
    return write_back("/proc/self/coredump_filter", b"0x33")


@attempt
def read_what_proc_covers(world):
    found = []
    for name in ("cmdline", "kallsyms", "interrupts", "key-users", "locks", "softirqs", "diskstats"):
        try:
            with open(f"/proc/{name}") as file:
                if file.read(1):
                    found.append(name)
        except OSError:
            pass
    if not found:
        raise Held("all empty")
    return f"read {found}"


@attempt
def see_init_in_proc(world):
    if "1" not in os.listdir("/proc"):
        raise Held("not listed")
    return "listed"


@attempt
def system_folder_is_there(world):
    found = os.listdir("/sys")
    if not found:
        raise Held("empty")
    return f"{len(found)} entries"


@attempt
def join_a_control_group(world):
    descriptor = os.open(world["cgroup"] + "/cgroup.procs", os.O_WRONLY)
    os.write(descriptor, b"0")
    return "moved"


@attempt
def mount_control_groups(world):
    return mount("none", "/tmp", "cgroup2")


# Neighbours.


@attempt
def see_a_neighbour_in_proc(world):
    if str(world["neighbour"]) not in os.listdir("/proc"):
        raise Held("not listed")
    return "listed"


@attempt
def signal_a_neighbour(world):
    os.kill(world["neighbour"], 0)
    return "could signal it"


@attempt
def signal_init(world):
    os.kill(1, 0)
    return "could signal it"


@attempt
def trace_a_neighbour(world):
    call(101, 117, 0x4206, world["neighbour"], 0, 0)
    return "traced it"


@attempt
def trace_init(world):
    call(101, 117, 0x4206, 1, 0, 0)
    return "traced it"


@attempt
def read_memory_of_a_neighbour(world):
    place = ctypes.create_string_buffer(1)
    here, there = struct.pack("NN", ctypes.addressof(place), 1), struct.pack("NN", 4096, 1)
    ask = lambda: call(310, 270, world["neighbour"], ctypes.c_char_p(here), 1, ctypes.c_char_p(there), 1, 0)
    return reaches(ask, {errno.EPERM, errno.EACCES, errno.ESRCH})


@attempt
def take_a_descriptor_of_init(world):
    pidfd = call(434, 434, 1, 0)
    return f"took {call(438, 438, pidfd, 3, 0)}"


@attempt
def shared_memory_of_system_v(world):
    identifier = call(29, 194, world["shm_key"], 0, 0)
    return f"found segment {identifier}"


@attempt
def abstract_socket(world):
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0" + world["abstract"])
    return client.recv(9).decode()


@attempt
def port_on_the_hosts_loopback(world):
    return socket.create_connection(("127.0.0.1", world["port"]), 5).recv(9).decode()


@attempt
def metadata_address(world):
    return socket.create_connection(("169.254.169.254", world["port"]), 5).recv(9).decode()


@attempt
def metadata_address_by_datagram(world):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(5)
        datagrams.connect(("169.254.169.254", world["port"]))
        datagrams.send(b"x")
        return datagrams.recv(9).decode()


@attempt
def address_of_the_host(world):
    return socket.create_connection(("203.0.113.77", world["port"]), 5).recv(9).decode()


@attempt
def keyring(world):
    text = ctypes.c_char_p(b"user")
    name = ctypes.c_char_p(b"hearth-escape")
    return f"key {call(248, 217, text, name, name, 1, -2 & 0xffffffff)}"


# The kernel's surface.


@attempt
def raw_socket(world):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    return "opened"


@attempt
def packet_socket(world):
    socket.socket(17, socket.SOCK_RAW, 0)
    return "opened"


@attempt
def netlink_kobject_uevent(world):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
    return "opened"


@attempt
def netlink_netfilter(world):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    return "opened"


@attempt
def vsock(world):
    socket.socket(40, socket.SOCK_STREAM)
    return "opened"


@attempt
def kernel_cryptography(world):
    socket.socket(38, socket.SOCK_SEQPACKET)
    return "opened"


@attempt
def other_socket_families(world):
    """Every family but local, IPv4, IPv6 and netlink: is any known to the kernel and not refused?"""
    opened, missing = [], 0
    for family in set(range(50)) - {0, 1, 2, 10, 16}:
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(family, kind)
                opened.append(family)
            except OSError as e:
                missing += e.errno in ABSENT
    if not opened and not missing:
        raise Held("every one refused")
    return f"opened {opened}; for {missing} the kernel was asked"


@attempt
def user_namespace(world):
    call(272, 97, 0x10000000)
    return "made"


@attempt
def namespace_by_clone(world):
    pid = call(56, 220, 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


@attempt
def namespace_by_clone3(world):
    return reaches(lambda: call(435, 435, 0, 0), {errno.ENOSYS})


@attempt
def personality(world):
    call(135, 92, 0x0040000)
    return "changed"


@attempt
def io_uring(world):
    call(425, 425, 1, ctypes.create_string_buffer(120))
    return "made"


@attempt
def bpf_map(world):
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1), 72)
    call(321, 280, 0, attributes, 72)
    return "made"


@attempt
def performance_counter(world):
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0), 112)
    call(298, 241, attributes, 0, -1, -1, 0)
    return "made"


@attempt
def fault_handling_in_user_space(world):
    call(323, 282, 1)
    return "made"


@attempt
def huge_pages(world):
    return reaches(lambda: call(9, 222, 0, 2 << 20, 3, 0x40022, -1, 0), {errno.EINVAL})


@attempt
def page_merging(world):
    import mmap

    mapping = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    return f"answered {call(28, 233, address, 4096, 12)}"


@attempt
def residency_of_a_shared_file(world):
    """Which pages of a library are in memory tells what a neighbour has run."""
    library = os.open("/usr/bin/env", os.O_RDONLY)
    whole, answer = struct.pack("QQ", 0, 4096), ctypes.create_string_buffer(40)
    return reaches(lambda: call(451, 451, library, ctypes.c_char_p(whole), answer, 0), {errno.ENOSYS})


@attempt
def residency_by_reading_without_waiting(world):
    library = os.open("/usr/bin/env", os.O_RDONLY)
    place = ctypes.create_string_buffer(16)
    vector = struct.pack("NN", ctypes.addressof(place), 16)
    return f"read {call(327, 286, library, ctypes.c_char_p(vector), 1, 0, 0, 8)}"


def tcp_pair():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    return server, client


@attempt
def upper_protocol_of_tcp(world):
    """kTLS: whether the kernel has it or not, it must not be asked."""
    _, client = tcp_pair()
    return reaches(lambda: client.setsockopt(6, 31, b"tls"), {errno.ENOPROTOOPT})


@attempt
def multicast_membership(world):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
    return reaches(lambda: client.setsockopt(0, 35, group), {errno.ENOPROTOOPT})


@attempt
def netfilter_option(world):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return reaches(lambda: client.setsockopt(0, 64, b"\0" * 96), {errno.ENOPROTOOPT})


@attempt
def filter_on_a_socket(world):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    program = struct.pack("HBBI", 6, 0, 0, 0)
    buffer = ctypes.create_string_buffer(program)
    client.setsockopt(1, 26, struct.pack("HxxxxxxP", 1, ctypes.addressof(buffer)))
    return "attached"


@attempt
def out_of_band_data_on_a_local_socket(world):
    one, _other = socket.socketpair()
    one.send(b"x", socket.MSG_OOB)
    return "sent"


@attempt
def terminal_input(world):
    """The output is a terminal of the host here: puts a character into its input."""
    try:
        fcntl.ioctl(1, 0x540E, 0)
    except OSError:
        pass
    fcntl.ioctl(1, 0x5412, b"x")
    return "typed"


@attempt
def core_dump(world):
    import resource
    import signal

    pid = os.fork()
    if pid == 0:
        os.chdir("/tmp")
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (OSError, ValueError):
            pass
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    _, status = os.waitpid(pid, 0)
    if not os.WCOREDUMP(status):
        raise Held("no core was dumped")
    return "the kernel dumped a core"


@attempt
def limit_of_core_files(world):
    """With a limit of 0 instead of 1 the kernel would start the host's crash handler."""
    call(302, 261, 0, 4, ctypes.c_char_p(struct.pack("QQ", 0, 0)), 0)
    return "lowered"


def main():
    name, world = sys.argv[1], json.loads(sys.argv[2])
    try:
        print("out:", ATTEMPTS[name](world))
    except Held as e:
        print("held:", e)
    except OSError as e:
        kind = "absent" if e.errno in ABSENT or (e.errno == errno.EIO and name == "terminal_input") else "held"
        print(f"{kind}: {errno.errorcode.get(e.errno, e.errno)} {e.strerror}")


main()
