"""Everything at once, and what is left of it: nothing. `stress.py` says what is done and what holds meanwhile.

`HEARTH_E2E_STRESS` is how long, in seconds (15; the long form has 1800). `HEARTH_E2E_SEED` repeats its choices.
"""

import collections
import contextlib
import os
import pathlib
import random
import re
import time

import pytest

from hearth import children, eventually, inits, launcher, resident, runs_a_function
from stress import Stress
from test_leftovers import census, files
from test_pools import groups_of, read_metrics

SECONDS = float(os.environ.get("HEARTH_E2E_STRESS", "15"))
FUNCTIONS = 50
# The same with fewer functions goes before what is measured, so that what is made once is there.
REHEARSAL, REHEARSED = 5, 12
# What a server may hold more than before, bytes: what it keeps of past events and invocations, and what the allocator does.
MEMORY = 64 << 20
# Trees that were in use when their package was deleted stay until the cache needs their room.
CACHED = ("code/", "layers/")
# Descriptors that the server holds of each prepared sandbox at most, and others that come and go.
DESCRIPTORS_EACH, DESCRIPTORS = 8, 8


class Held:
    """What a server without functions holds."""

    def __init__(self, server):
        groups, mounts, boxes = census(server)
        of_boxes = {str(folder) for box in boxes for pid in (box, *children(box)) for folder in groups_of(server, pid)}
        self.boxes = len(boxes)
        # A group above one of a sandbox is its, too.
        self.groups = [group for group in groups if not any(f"{own}/".startswith(f"{group}/") for own in of_boxes)]
        self.mounts = len(mounts)
        folders = lambda name: any((top / name).is_dir() for top in (server.data, server.cache))
        self.files = {name for name in files(server) if not name.startswith(CACHED) and not folders(name)}
        self.processes = {"server": server.process.pid, "launcher": launcher(server)}
        self.descriptors = {name: descriptors(pid) for name, pid in self.processes.items()}
        self.memory = {name: resident(pid) for name, pid in self.processes.items()}
        self.children = len(children(server.process.pid))

    def is_prepared_alone(self):
        return not self.groups and self.mounts == self.boxes

    def __str__(self):
        counts = {name: sum(found.values()) for name, found in self.descriptors.items()}
        return f"{self.boxes} sandboxes, {len(self.groups)} other groups, {self.mounts} mounts, descriptors {counts}, memory {self.memory}, {len(self.files)} files"


def descriptors(pid):
    """How many there are of each kind of a process."""
    found = collections.Counter()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[re.sub(r"[0-9a-f]{16,}|\d+", "N", os.readlink(fd))] += 1
        except OSError:
            pass
    return found


def at_rest(server):
    """Once no environment is left, and nothing that is taken down later: what is still there is prepared for others."""
    eventually("the end of every environment", lambda: not any(runs_a_function(box) for box in inits(server)), patience=60)
    seen = [Held(server)]

    def still():
        time.sleep(1)
        seen.append(Held(server))
        return seen[-1].is_prepared_alone() and (seen[-1].boxes, seen[-1].files) == (seen[-2].boxes, seen[-2].files)

    with contextlib.suppress(AssertionError):
        eventually("rest", still, patience=60)
    assert seen[-1].is_prepared_alone(), seen[-1]
    return seen[-1]


def received(server):
    """Events that were accepted."""
    return sum(value for name, value in read_metrics(server).items() if name.startswith("aws_lambda_async_events_received_total{"))


def rehearse(server, seed):
    stress = Stress(server, f"{seed} rehearsal", "rehearsal", REHEARSED)
    stress.prepare()
    stress.run(REHEARSAL)
    assert not stress.faults, "\n".join([*stress.faults[:5], server.said()[-4000:]])
    stress.settle()
    stress.clear()


def balance(stress):
    """What clients counted is what the platform has written, event by event and invocation by invocation."""
    books = stress.books()
    runs = 0
    for key, (reports, told) in books.items():
        answered, accepted, events = stress.answered[key], stress.accepted[key], stress.events(*key)
        wrong = {request: (asked, reports.get(request)) for request, asked in answered.items() if not agrees(*asked, reports.get(request))}
        assert not wrong, f"{key}: answered, and reported otherwise: {wrong}"
        assert set(events) == set(accepted), f"{key}: accepted, and not kept: {set(events) ^ set(accepted)}"
        for request, event in events.items():
            ran = [attempt for attempt in event["attempts"] if attempt["outcome"] in ("succeeded", "failed")]
            assert len(reports.get(request, [])) == len(ran), f"{key}: {event}, reported {reports.get(request)}"
            assert event["state"] != "succeeded" or accepted[request] in told, f"{key}: {event}, and its function was not heard"
            runs += len(ran)
        strangers = set(reports) - set(answered) - set(accepted)
        assert not strangers, f"{key}: reported, and neither answered nor accepted: {strangers}"
    return runs


def agrees(do, took, reports):
    """Whether one report says of a call what its caller has seen. The invocation goes on a little after the answer."""
    if reports is None or len(reports) != 1:
        return False
    [(status, duration)] = reports
    return status == REPORTED[do] and duration <= took + AFTERWARDS


# Seconds that an invocation may last beyond its answer, on a busy machine.
AFTERWARDS = 5
# How a report says that a call ended.
REPORTED = {"echo": "success", "rest": "success", "fail": "error", "exit": "error", "kill": "error", "memory": "error", "sleep": "timeout"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to look into control groups and namespaces")
@pytest.mark.timeout(900 + 2 * SECONDS)
def test_everything_at_once_mixes_nothing_up_and_leaves_nothing(start):
    seed = int(os.environ.get("HEARTH_E2E_SEED", random.randrange(10**6)))
    print(f"HEARTH_E2E_SEED={seed}")
    server = start("--async-retry-base-delay", "100ms", "--pools-memory", "64MiB")
    rehearse(server, seed)
    before = at_rest(server)
    received_before = received(server)

    stress = Stress(server, seed, "stress", FUNCTIONS)
    stress.prepare()
    stress.run(SECONDS)
    print(dict(sorted(stress.counts.items())), f"{len(stress.environments)} processes in {len(stress.streams)} environments")
    assert not stress.faults, "\n".join([*stress.faults[:5], server.said()[-4000:]])
    audit = stress.settle()
    runs = balance(stress)
    print(f"{runs} runs of events; {audit}")
    assert received(server) - received_before == stress.counts["events"]
    stress.clear()

    after = at_rest(server)
    print(f"before: {before}\nafter:  {after}")
    assert after.children == before.children
    assert after.files <= before.files, sorted(after.files - before.files)[:20]
    for process in after.processes:
        more = after.descriptors[process] - before.descriptors[process]
        allowed = DESCRIPTORS + max(0, after.boxes - before.boxes) * DESCRIPTORS_EACH
        assert sum(after.descriptors[process].values()) <= sum(before.descriptors[process].values()) + allowed, (process, more)
        assert after.memory[process] <= before.memory[process] + MEMORY, process
    for what in ("answers", "throttles", "events", "errors: fail", "errors: exit", "errors: kill", "errors: memory"):
        assert stress.counts[what] > 0, f"no {what}"
