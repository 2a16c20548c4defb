"""Different functions that follow one another in prepared sandboxes and runtimes leave no trace of one in the other. Each function
looks wherever marks can be, and then leaves its own in every place (`fixtures/trace-function`). What environments
leave behind comes to the next at once: the host's user ids are a stack.

`HEARTH_E2E_PAIRINGS` is how many environments follow one another (200; the long form has 100000). `HEARTH_E2E_SEED` repeats the order.
"""

import concurrent.futures
import os
import random
import secrets

import pytest

import parts
from conftest import Functions, caller, make_client
from hearth import eventually
from test_pools import read_metrics, serving

PAIRINGS = int(os.environ.get("HEARTH_E2E_PAIRINGS", "200"))
# Environments that are called at once.
AT_ONCE = 8
FOLDER = parts.FIXTURES / "trace-function"
# Environments end soon after their call, and as many as are called at once are prepared.
FLAGS = ("--environments-idle-timeout", "100ms", "--pools-memory", "256MiB")
# A runtime with such a variable is started for its function alone, in a prepared sandbox that has none.
ALONE = {"LD_PRELOAD": ""}

KINDS = {
    "python": ("python3.11", "index.py", {}, 5),
    "python alone": ("python3.11", "index.py", ALONE, 4),
    "nodejs": ("nodejs20.x", "index.js", {}, 4),
    "nodejs alone": ("nodejs20.x", "index.js", ALONE, 3),
}
# What every environment lets a function leave, so that there is something to find.
LEFT = {
    "python": {
        "/tmp", "environment", "interpreter", "sockets", "memory", "memory files", "timers", "posix timers", "threads",
        "processes", "signals", "nice", "affinity", "umask", "directory", "descriptors", "locks", "name",
    },
    "nodejs": {"/tmp", "environment", "interpreter", "sockets", "timers", "memory", "processes", "signals", "nice", "umask", "directory"},
}  # fmt: skip
# And what none does, as it would outlive the environment, or be another's.
REFUSED = {"python": {"keyrings", "/var/task", "/opt", "host name"}, "nodejs": {"/var/task", "/opt"}}
# Places where a function finds its own marks after it has left them: a look that finds nothing would show nothing.
FOUND = {"names", "files", "links", "environment", "net/unix", "descriptors", "processes", "interpreter", "memory"}
# What a new process has, whatever was before it.
PORT = f":{7777:04X}"
NEW = {"umask": "0022", "nice": 0, "directory": "/var/task", "tmp": [], "blocked": "0000000000000000", "timers": "", "locks": "", "taken": []}


def new(facts):
    status = facts["status"]
    told = {name: facts[name] for name in ("nice", "directory", "tmp", "locks")}
    taken = [address for address in facts["listening"] if address.endswith(PORT)]
    return told | {"umask": status["Umask"], "blocked": status["SigBlk"], "timers": facts["posix timers"], "taken": taken}


class Traces:
    """Functions of all kinds, and what their environments said."""

    def __init__(self, server, seed):
        self.client = make_client(server)
        self.chance = random.Random(seed)
        functions = Functions(self.client)
        self.kinds = {}
        for kind, (runtime, file, variables, count) in KINDS.items():
            for _ in range(count):
                settings = {"Runtime": runtime, "MemorySize": 384, "Timeout": 60}
                who = secrets.token_hex(4)
                package = {file: (FOLDER / file).read_text() + f"\n{'#' if file.endswith('py') else '//'} {who}\n"}
                name = functions.make(package, Environment={"Variables": variables | {"WHO": who}}, **settings)
                self.kinds[name] = (kind, who)
        self.pairings, self.facts = 0, {}
        self.environments, self.chances = set(), set()

    def call(self, name):
        mark = f"trace-{secrets.token_hex(8)}"
        answer = caller(self.client)(name, {"mark": mark})
        assert answer.error is None, answer.bytes
        return name, mark, answer.payload

    def round(self, pool):
        """Each function once, in an order that is another each time."""
        names = list(self.kinds)
        self.chance.shuffle(names)
        for name, mark, told in pool.map(self.call, names):
            # One that was called before holds its own marks.
            if told["calls"] == 1:
                self.look(name, mark, told)

    def look(self, name, mark, told):
        kind, who = self.kinds[name]
        language = kind.split()[0]
        assert (told["mark"], told["function"], told["user"]) == (mark, name, who)
        assert told["found"] == [], f"{kind} {name} found what others left"
        assert told["environment"] not in self.environments and told["chance"] not in self.chances
        self.environments.add(told["environment"])
        self.chances.add(told["chance"])
        first = self.facts.setdefault(name, told["facts"])
        assert new(told["facts"]) == NEW
        # Who looks finds what is there.
        own = set(told["own"])
        assert FOUND <= own, f"own marks are not found: {FOUND - own}"
        assert told["facts"] == first, {fact: (first[fact], now) for fact, now in told["facts"].items() if first[fact] != now}
        assert LEFT[language] <= set(told["left"]), f"not left: {LEFT[language] - set(told['left'])}"
        assert REFUSED[language] <= set(told["refused"]), f"not refused: {REFUSED[language] - set(told['refused'])}"
        self.pairings += 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: what functions may do differs otherwise")
@pytest.mark.timeout(300 + PAIRINGS)
def test_functions_that_follow_one_another_leave_no_trace(start):
    seed = int(os.environ.get("HEARTH_E2E_SEED", random.randrange(10**6)))
    print(f"HEARTH_E2E_SEED={seed}")
    server = start(*FLAGS)
    traces = Traces(server, seed)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        while traces.pairings < PAIRINGS:
            traces.round(pool)
            eventually("the end of these environments", lambda: not serving(server))
    metrics = read_metrics(server)
    starts = {origin: metrics[f'hearth_cold_starts_total{{from="{origin}"}}'] for origin in ("runtime", "sandbox", "nothing")}
    print(f"{traces.pairings} environments: {starts}")
    # Some start before another is prepared again.
    assert min(starts["runtime"], starts["sandbox"]) >= PAIRINGS // 20, starts
