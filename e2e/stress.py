"""Many functions that are called, changed, published, deleted, made again and killed all at once, and what must hold meanwhile:
an answer is of its request, and of a version and a state of its function that there were while it was asked for; an environment
is of one of these for its whole life.

What is done follows from a seed alone: a thread of callers draws from a generator of its own, and so does a thread that changes
functions, each of which has one of these. When it is done depends on the machine."""

import collections
import contextlib
import dataclasses
import io
import json
import math
import random
import threading
import time
import zipfile
from collections.abc import Callable

import parts
from conftest import ROLE, make_client, wait_active, wait_updated
from hearth import eventually
from packages import zipped

ACCOUNTS = ("200000000001", "200000000002")
CALLERS, CHANGERS = 10, 3
# Calls of a burst.
BURST = 12
# One in so many functions has reserved concurrency from the start.
RESERVED = 3
# Versions of a function that are kept.
VERSIONS = 3
# Seconds that functions may take. Only the first are asked to sleep, which takes as long.
SHORT, LONG = 5, 60
FIXTURE = parts.FIXTURES / "stress-function"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A runtime."""

    name: str
    # Of fifty functions.
    share: int
    settings: dict
    package: Callable
    layer: Callable = None


def ruby_package():
    return {"bootstrap": RUBY_BOOTSTRAP, "function.rb": (FIXTURE / "function.rb").read_text()}


RUBY_BOOTSTRAP = """#!/bin/sh
export RUBYLIB=/opt/ruby/lib:$(echo /usr/lib/*/ruby/*.*.0)
exec /opt/ruby/bin/ruby --disable-gems /var/task/function.rb
"""
OWN = {"Runtime": "provided.al2023", "Handler": "index.handler"}
KINDS = [
    Kind("python", 18, {"Runtime": "python3.11", "MemorySize": 128}, lambda: {"index.py": (FIXTURE / "index.py").read_text()}),
    Kind("nodejs", 12, {"Runtime": "nodejs20.x", "MemorySize": 192}, lambda: {"index.js": (FIXTURE / "index.js").read_text()}),
    Kind("rust", 9, OWN | {"MemorySize": 128}, lambda: {"bootstrap": parts.rust("stress")}),
    Kind("go", 6, OWN | {"MemorySize": 128}, lambda: {"bootstrap": (parts.go_stress() / "bootstrap").read_bytes()}),
    Kind("java", 3, OWN | {"MemorySize": 512, "Handler": "hearth.Stress"}, parts.java_package, lambda: parts.layer(parts.java_layer())),
    Kind("ruby", 2, OWN | {"MemorySize": 192}, ruby_package, lambda: parts.layer(parts.ruby_layer())),
]
if not parts.RUBY.exists():
    KINDS.pop()


class Span:
    """When something was so: perhaps from `begin`, surely from `sure` to `ending`, not after `until`."""

    def __init__(self, value=None):
        self.value = value
        self.begin = time.monotonic()
        self.sure = self.ending = self.until = math.inf

    def may_be(self, begin, end):
        return self.begin <= end and begin <= self.until

    def is_surely(self, begin, end):
        return self.sure <= begin and end <= self.ending

    def end(self):
        """It is about to end."""
        self.ending = time.monotonic()

    def ended(self):
        self.ending = min(self.ending, time.monotonic())
        self.until = time.monotonic()


class Subject:
    """A function under stress, and what was so of it when. Changed by one thread, read by many."""

    def __init__(self, number, kind, account, name):
        self.kind, self.account, self.name = kind, account, name
        self.timeout = SHORT if number % 2 and kind.name != "java" else LONG
        self.generation = self.count = 0
        # Spans: of lives of the function; of what `$LATEST` and `live` were; of versions by number; of reservations.
        self.lives, self.latest, self.live, self.reservations = [], [], [], []
        self.versions = {}
        self.provisioned = None

    def stamp(self):
        self.count += 1
        return f"{self.account}/{self.name}/{self.generation}/{self.count}"

    def kept(self):
        """Numbers of versions that there are."""
        return [number for number, span in list(self.versions.items()) if span.ending == math.inf]

    def targets(self):
        """What can be called now."""
        found = [None, "$LATEST"]
        if self.live and self.live[-1].ending == math.inf:
            found.append("live")
        return found + self.kept()

    def states(self, qualifier, version, begin, end):
        """Code and setting that an answer of this version may have."""
        if version == "$LATEST":
            spans = self.latest if qualifier in (None, "$LATEST") else []
        else:
            named = qualifier == version or qualifier == "live" and any(
                span.value == version and span.may_be(begin, end) for span in list(self.live)
            )
            spans = [self.versions[version]] if named and version in self.versions else []
        return [span.value for span in list(spans) if span.may_be(begin, end)]

    def is_surely_there(self, qualifier, begin, end):
        there = any(life.is_surely(begin, end) for life in list(self.lives))
        return there and (qualifier not in self.versions or self.versions[qualifier].is_surely(begin, end))

    def may_be_reserved(self, begin, end):
        return any(span.may_be(begin, end) for span in list(self.reservations))


@dataclasses.dataclass
class Call:
    subject: Subject
    do: str
    qualifier: str
    nonce: str
    is_event: bool = False
    begin: float = 0
    end: float = 0
    status: int = 0
    headers: dict = None
    body: bytes = b""

    @property
    def request_id(self):
        return self.headers.get("x-amzn-requestid")

    @property
    def error(self):
        return self.headers.get("x-amz-function-error")

    def __str__(self):
        qualifier = f":{self.qualifier}" if self.qualifier else ""
        subject, took = self.subject, self.end - self.begin
        return (
            f"{subject.kind.name} {subject.account}/{subject.name}{qualifier} {self.do} {self.nonce} ({took:.2f} s): "
            f"{self.status} {self.error or ''} {self.body[:600]} {self.headers}"
        )


class Stress:
    def __init__(self, server, seed, prefix, size):
        self.server, self.seed, self.prefix = server, seed, prefix
        self.clients = {account: make_client(server, account=account, max_pool_connections=8) for account in ACCOUNTS}
        self.packages, self.layers = {}, {}
        self.faults, self.counts = [], collections.Counter()
        # By account and name, by request id: what was asked for and how long it took, s; the nonce of an event.
        self.answered = collections.defaultdict(dict)
        self.accepted = collections.defaultdict(dict)
        self.environments, self.streams, self.numbers = {}, {}, collections.defaultdict(set)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.subjects = self.cast(size)

    def cast(self, size):
        """Functions of every kind. Some have the name of another, in another account."""
        kinds = [kind for kind in KINDS for _ in range(max(1, kind.share * size // 50))]
        while len(kinds) < size:
            kinds.append(KINDS[0])
        random.Random(self.seed).shuffle(kinds)
        twins = size // 10
        return [
            Subject(number, kind, ACCOUNTS[number < twins], f"{self.prefix}-{number if number >= twins else number + twins}")
            for number, kind in enumerate(kinds)
        ]

    def fault(self, text):
        with self.lock:
            self.faults.append(text)
        # The rest would be its consequences.
        self.over.set()

    def counted(self, what):
        with self.lock:
            self.counts[what] += 1

    # How it goes.

    def prepare(self):
        for kind in {subject.kind.name: subject.kind for subject in self.subjects}.values():
            self.packages[kind.name] = zipped(kind.package())
            for account in ACCOUNTS if kind.layer else ():
                published = self.clients[account].publish_layer_version(LayerName=f"{self.prefix}-{kind.name}", Content={"ZipFile": kind.layer()})
                self.layers[account, kind.name] = published["LayerVersionArn"]

    def run(self, seconds):
        changers = [Changer(self, n) for n in range(CHANGERS)]
        each(changers, lambda changer: changer.create_all())
        workers = [*changers, *(Caller(self, n) for n in range(CALLERS))]
        threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
        [thread.start() for thread in threads]
        self.over.wait(seconds)
        self.over.set()
        deadline = time.monotonic() + 180
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                self.faults.append("a call or a change had no answer for three minutes")
                return

    def settle(self):
        """Ends what would keep events waiting, and waits for their end."""
        for subject in self.subjects:
            self.clients[subject.account].delete_function_concurrency(FunctionName=subject.name)

        def over():
            audit = self.audit()
            assert audit["balanced"], audit
            return audit["queued"] + audit["running"] == 0 and audit

        return eventually("the end of every event", over, patience=300)

    def audit(self):
        return json.loads(self.server.lambda_request("GET", "/_hearth/v1/events/audit")[2])

    def clear(self):
        """Deletes functions, layers and log groups."""
        for subject in self.subjects:
            self.clients[subject.account].delete_function(FunctionName=subject.name)
        for (account, _), arn in self.layers.items():
            _, _, _, _, _, _, name, version = arn.split(":")
            self.clients[account].delete_layer_version(LayerName=name, VersionNumber=int(version))
        for account in ACCOUNTS:
            logs = make_client(self.server, "logs", account=account)
            for group in logs.describe_log_groups(limit=50)["logGroups"]:
                logs.delete_log_group(logGroupName=group["logGroupName"])

    # Calls.

    def call(self, call):
        path = f"/2015-03-31/functions/{call.subject.name}/invocations"
        if call.qualifier:
            path += f"?Qualifier={call.qualifier}"
        headers = {"x-amz-invocation-type": "Event"} if call.is_event else {}
        body = {"do": call.do, "nonce": call.nonce}
        call.begin = time.monotonic()
        answer = self.server.lambda_request("POST", path, body, headers, account=call.subject.account, timeout=150)
        call.end = time.monotonic()
        call.status, call.headers, call.body = answer
        try:
            self.check(call)
        except AssertionError as error:
            self.fault(f"{error}: {call}")

    def check(self, call):
        subject, key = call.subject, (call.subject.account, call.subject.name)
        if call.status == 202 and call.is_event:
            self.counted("events")
            with self.lock:
                self.accepted[key][call.request_id] = call.nonce
        elif call.status == 200 and not call.is_event:
            self.counted("answers" if not call.error else f"errors: {call.do}")
            is_late = self.check_answer(call)
            with self.lock:
                self.answered[key][call.request_id] = "sleep" if is_late else call.do, call.end - call.begin
        elif call.status == 429:
            self.counted("throttles")
            told = json.loads(call.body)
            assert told["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", "throttled for another reason"
            assert subject.may_be_reserved(call.begin, call.end), "throttled, though nothing was reserved"
        else:
            self.counted("not there")
            codes = ("ResourceNotFoundException", "ResourceConflictException")
            assert call.status in (404, 409) and call.headers.get("x-amzn-errortype") in codes, "refused"
            assert not subject.is_surely_there(call.qualifier, call.begin, call.end), "not there, though it was"

    def check_answer(self, call):
        """Whether it took too long, which on a busy machine all may that have little time."""
        subject, version = call.subject, call.headers["x-amz-executed-version"]
        states = subject.states(call.qualifier, version, call.begin, call.end)
        assert states, "of a version that it cannot be of"
        told = json.loads(call.body)
        if call.error and subject.timeout == SHORT and call.end - call.begin >= SHORT and ended(told) == ends(call, "sleep"):
            return True
        if call.do == "fail":
            assert call.error == "Unhandled" and told["errorMessage"] == f"asked to fail: {call.nonce}", "another error"
            return False
        if call.do in ("exit", "kill", "memory", "sleep"):
            is_javas = (subject.kind.name, call.do, told.get("errorType")) == ("java", "memory", "java.lang.OutOfMemoryError")
            assert call.error == "Unhandled" and (is_javas or ended(told) == ends(call, call.do)), "another end"
            return False
        assert call.error is None, "an error"
        assert told["nonce"] == call.nonce and told["id"] == call.request_id, "the answer of another request"
        arn = f"arn:aws:lambda:us-east-1:{subject.account}:function:{subject.name}" + (f":{call.qualifier}" if call.qualifier else "")
        assert told["arn"] == arn and told["function"] == subject.name, "the answer of another function"
        assert told["version"] == version, "the answer of another version"
        state = told["code"], told["setting"]
        assert state in states, f"not of {states}"
        whose = (subject.account, subject.name, version, state)
        with self.lock:
            assert self.environments.setdefault(told["environment"], whose) == whose, f"its process was {self.environments[told['environment']]}'s"
            stream = (subject.account, subject.name, told["stream"])
            assert self.streams.setdefault(told["stream"], (stream, whose)) == (stream, whose), f"its environment was {self.streams[told['stream']]}'s"
            calls = self.numbers[told["environment"]]
            assert told["calls"] not in calls, "one call of an environment was answered twice"
            calls.add(told["calls"])
        return False

    # Accounts.

    def books(self):
        """What the platform has written of invocations, by account and name: for each request id how it ended and how long it took,
        s, once for each REPORT; and what events told."""
        found = {}
        for account in ACCOUNTS:
            logs = make_client(self.server, "logs", account=account, max_pool_connections=4)
            for name in {subject.name for subject in self.subjects if subject.account == account}:
                reports, told = collections.defaultdict(list), set()
                for event in written(logs, f"/aws/lambda/{name}"):
                    message = event["message"].rstrip("\n")
                    if message.startswith("REPORT RequestId: "):
                        fields = dict(field.split(": ", 1) for field in message.removeprefix("REPORT ").split("\t") if field)
                        duration = float(fields["Duration"].removesuffix(" ms")) / 1000
                        reports[fields["RequestId"]].append((fields.get("Status", "success"), duration))
                    elif message.startswith("told "):
                        told.add(message.removeprefix("told "))
                found[account, name] = reports, told
        return found

    def events(self, account, name):
        path = f"/_hearth/v1/events?function={name}&limit=10000"
        found = json.loads(self.server.lambda_request("GET", path, account=account)[2])["events"]
        return {event["id"]: event for event in found}


def written(logs, group):
    """Events of a log group, which is not there before anything ran."""
    with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            yield from page["events"]


def ends(call, do):
    """What the platform says of a call that could not answer for itself."""
    message = {
        "exit": "Runtime exited with error: exit status 3",
        "kill": "Runtime exited with error: signal: killed",
        "memory": "Runtime exited with error: signal: killed",
        "sleep": f"Task timed out after {call.subject.timeout:.2f} seconds",
    }[do]
    return "Sandbox.Timedout" if do == "sleep" else "Runtime.ExitError", f"RequestId: {call.request_id} Error: {message}"


def ended(told):
    return told.get("errorType"), told.get("errorMessage")


def each(items, act):
    """At once; the first error is raised."""
    errors = []

    def guarded(item):
        try:
            act(item)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(item,)) for item in items]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    if errors:
        raise errors[0]


class Caller:
    WAYS = {"echo": 55, "rest": 10, "burst": 6, "event": 12, "fail": 6, "exit": 4, "kill": 4, "memory": 3, "sleep": 2}

    def __init__(self, stress, n):
        self.stress, self.n = stress, n
        self.chance = random.Random(f"{stress.seed} caller {n}")
        # Each way once, before chance decides: few are asked for in a short time on a busy machine.
        self.first = self.chance.sample(list(self.WAYS), len(self.WAYS))

    def run(self):
        number = 0
        try:
            while not self.stress.over.is_set():
                number += 1
                self.step(number)
        except Exception as error:
            self.stress.fault(f"a call had no answer: {error!r}")

    def step(self, number):
        subject = self.chance.choice(self.stress.subjects)
        [way] = self.chance.choices(list(self.WAYS), self.WAYS.values())
        if self.first:
            way = self.first.pop()
            subject = self.chance.choice(self.stress.subjects[:: RESERVED if way == "burst" else 1])
        # Drawn whatever can be called now.
        place = self.chance.random()
        targets = subject.targets()
        qualifier = targets[int(place * len(targets))]
        if way == "sleep" and subject.timeout == LONG:
            way = "echo"
        nonce = f"{self.n}-{number}"
        if way == "burst":
            each(range(BURST), lambda one: self.stress.call(Call(subject, "rest", qualifier, f"{nonce}-{one}")))
        elif way == "event":
            # Some of them fail, and are tried again.
            do = "tell" if place < 0.8 else "exit"
            self.stress.call(Call(subject, do, qualifier, nonce, is_event=True))
        else:
            self.stress.call(Call(subject, way, qualifier, nonce))


class Changer:
    """Changes functions that nobody else changes."""

    WAYS = {"code": 8, "configuration": 6, "publish": 6, "point": 4, "provision": 4, "reserve": 4, "make_again": 2}

    def __init__(self, stress, n):
        self.stress = stress
        self.chance = random.Random(f"{stress.seed} changer {n}")
        self.subjects = stress.subjects[n::CHANGERS]

    def create_all(self):
        for subject in self.subjects:
            self.create(subject)
            if subject in self.stress.subjects[::RESERVED]:
                self.reserve(subject, self.chance.random())

    def run(self):
        try:
            while not self.stress.over.wait(self.chance.random() * 0.2):
                [way] = self.chance.choices(list(self.WAYS), self.WAYS.values())
                subject = self.chance.choice(self.subjects)
                getattr(self, way)(subject, self.chance.random())
                self.stress.counted(f"changes: {way}")
        except Exception as error:
            self.stress.fault(f"{way} of {subject.account}/{subject.name} ({subject.kind.name}): {error!r}")

    def client(self, subject):
        return self.stress.clients[subject.account]

    def package(self, subject, code):
        """The kind's package, with another file at its end."""
        out = io.BytesIO(self.stress.packages[subject.kind.name])
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr(zipfile.ZipInfo("code.txt", (2026, 1, 2, 3, 4, 6)), code)
        return out.getvalue()

    def create(self, subject):
        kind, client = subject.kind, self.client(subject)
        subject.generation += 1
        code, setting = subject.stamp(), subject.stamp()
        life, latest = Span(), Span((code, setting))
        subject.lives.append(life)
        subject.latest.append(latest)
        layer = self.stress.layers.get((subject.account, kind.name))
        client.create_function(
            **{"Handler": "index.handler"} | kind.settings,
            FunctionName=subject.name,
            Role=ROLE,
            Code={"ZipFile": self.package(subject, code)},
            Timeout=subject.timeout,
            Environment={"Variables": {"SETTING": setting}},
            Layers=[layer] if layer else [],
        )
        wait_active(client, subject.name)
        life.sure = latest.sure = time.monotonic()

    def updated(self, subject, state, update):
        before, latest = subject.latest[-1], Span(state)
        subject.latest.append(latest)
        before.end()
        update()
        wait_updated(self.client(subject), subject.name)
        latest.sure = time.monotonic()
        before.ended()

    def code(self, subject, _):
        code = subject.stamp()
        package = self.package(subject, code)
        update = lambda: self.client(subject).update_function_code(FunctionName=subject.name, ZipFile=package)
        self.updated(subject, (code, subject.latest[-1].value[1]), update)

    def configuration(self, subject, place):
        setting = subject.stamp()
        memory = subject.kind.settings["MemorySize"] + int(place * 64)
        variables = {"Variables": {"SETTING": setting}}
        update = lambda: self.client(subject).update_function_configuration(
            FunctionName=subject.name, Environment=variables, MemorySize=memory
        )
        self.updated(subject, (subject.latest[-1].value[0], setting), update)

    def publish(self, subject, _):
        span = Span(subject.latest[-1].value)
        number = self.client(subject).publish_version(FunctionName=subject.name)["Version"]
        if number in subject.versions:
            # Nothing has changed since.
            return
        subject.versions[number] = span
        wait_active(self.client(subject), f"{subject.name}:{number}", "published_version_active")
        span.sure = time.monotonic()
        pointed_at = subject.live[-1].value if subject.live else None
        spare = [version for version in subject.kept() if version not in (pointed_at, subject.provisioned)]
        if len(spare) > VERSIONS:
            gone = subject.versions[spare[0]]
            gone.end()
            self.client(subject).delete_function(FunctionName=subject.name, Qualifier=spare[0])
            gone.ended()

    def point(self, subject, place):
        kept = subject.kept()
        if not kept:
            return
        number, client = kept[int(place * len(kept))], self.client(subject)
        span, is_new = Span(number), not subject.live or subject.live[-1].ending != math.inf
        act = client.create_alias if is_new else client.update_alias
        if not is_new:
            subject.live.append(span)
            subject.live[-2].end()
        act(FunctionName=subject.name, Name="live", FunctionVersion=number)
        span.sure = time.monotonic()
        if is_new:
            subject.live.append(span)
        else:
            subject.live[-2].ended()

    def provision(self, subject, place):
        client, kept = self.client(subject), subject.kept()
        if subject.provisioned:
            client.delete_provisioned_concurrency_config(FunctionName=subject.name, Qualifier=subject.provisioned)
            subject.provisioned = None
        elif kept:
            number = kept[int(place * len(kept))]
            client.put_provisioned_concurrency_config(
                FunctionName=subject.name, Qualifier=number, ProvisionedConcurrentExecutions=1 + int(place * 2)
            )
            subject.provisioned = number
            if place < 0.5:
                get = lambda: client.get_provisioned_concurrency_config(FunctionName=subject.name, Qualifier=number)["Status"]
                eventually("what is provisioned", lambda: (status := get()) != "IN_PROGRESS" and status, patience=120)
                assert get() == "READY"

    def reserve(self, subject, place):
        client = self.client(subject)
        current = subject.reservations[-1] if subject.reservations and subject.reservations[-1].ending == math.inf else None
        if current:
            current.end()
            client.delete_function_concurrency(FunctionName=subject.name)
            current.ended()
        else:
            subject.reservations.append(Span())
            client.put_function_concurrency(FunctionName=subject.name, ReservedConcurrentExecutions=2 + int(place * 3))

    def make_again(self, subject, place):
        spans = [*subject.lives[-1:], *subject.latest[-1:], *subject.live[-1:], *subject.versions.values(), *subject.reservations[-1:]]
        spans = [span for span in spans if span.ending == math.inf]
        [span.end() for span in spans]
        self.client(subject).delete_function(FunctionName=subject.name)
        [span.ended() for span in spans]
        subject.provisioned = None
        time.sleep(place * 0.5)
        self.create(subject)
