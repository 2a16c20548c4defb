"""Golden files: what a failing call answered and what the log said of it, byte for byte, save what differs from run to run."""

import json
import os
import pathlib
import re

FOLDER = pathlib.Path(__file__).parent / "golden"
UPDATE = os.environ.get("HEARTH_UPDATE_GOLDEN") == "1"

# What differs from run to run, and what stands for it.
MASKS = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}[^\"\s]*"), "<trace>"),
    (re.compile(r"\bf-[0-9a-f]{12}"), "<function>"),
    (re.compile(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}"), "<stream>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"(\"left\": ?)\d+"), r"\1<n>"),
    (re.compile(r"(Duration|Max Memory Used): [\d.]+"), r"\1: <n>"),
    (re.compile(r"\"((?:billed)?[dD]uration(?:Ms)?|initDurationMs|billedDurationMs|maxMemoryUsedMB|instanceMaxMemory|producedBytes)\":[\d.]+"), r'"\1":<n>'),
    (re.compile(r"Runtime Version: (\w+)[:.\w]*"), r"Runtime Version: \1:<version>"),
    (re.compile(r"\"runtimeVersion\":\"(\w+)[^\"]*\""), r'"runtimeVersion":"\1:<version>"'),
    (re.compile(r"runtime:[0-9a-f]{64}"), "runtime:<digest>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\+0x[0-9a-f]+"), "<address>"),
    (re.compile(r"(thread 'main') \(\d+\)"), r"\1"),
    (re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"\b1[5-9]\d{11}\b"), "<ms>"),
    (re.compile(r"goroutine \d+"), "goroutine <n>"),
]
# Frames of interpreters and clients differ with their versions.
FOREIGN = re.compile(
    r"node:internal|node:events|_hearth_runtime|awslambdaric|aws-lambda-ric|runpy|importlib|/var/runtime|/opt/python-own"
    r"|com\.amazonaws|java\.base|jdk\.|sun\.|github\.com/aws|/usr/lib/go|/usr/local/go|runtime\.(main|goexit|gopanic)"
)


# One in a list, in a line of text.
LISTED = re.compile(r',"    at (?:[^"\\]|\\.)*"')


def masked(text):
    for pattern, stands in MASKS:
        text = pattern.sub(stands, text)
    return text


def own_frames(value):
    """Without frames of others, in lists of frames."""
    if isinstance(value, dict):
        return {key: own_frames(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [own_frames(inner) for inner in value if not FOREIGN.search(json.dumps(inner))]
    return value


def payload(body):
    """Of an answer: bytes as they are; where they hold frames, written anew without those of others."""
    text = body.decode()
    if not FOREIGN.search(text):
        return text
    return json.dumps(own_frames(json.loads(text)), separators=(",", ":"), ensure_ascii=False) + " (frames of others left out)"


def record(message):
    """A log record, without lines that are frames of others."""
    try:
        parsed = json.loads(message)
    except ValueError:
        kept, skipping = [], False
        for line in re.split(r"(?<=[\r\n])", message):
            bare = line.replace("\u00a0", " ")
            is_frame = re.match(r"\s*(File |at )", bare)
            # The source of a Python frame is below it.
            skipping = bool(FOREIGN.search(bare)) if is_frame else skipping and bare.startswith("    ")
            if not skipping:
                kept.append(line)
        return LISTED.sub(lambda frame: "" if FOREIGN.search(frame[0]) else frame[0], "".join(kept))
    return json.dumps(own_frames(parsed), separators=(",", ":"), ensure_ascii=False) if FOREIGN.search(message) else message


def written(answers, log):
    """The text of a golden file: each answer, then the log."""
    parts = []
    for answer in answers:
        parts.append(f"{answer.status} {answer.headers['content-type']} {answer.error or '-'}\n{payload(answer.bytes)}\n")
    # A record that was a frame of others is none.
    kept = [found for message in log if (found := record(message)) or not message]
    parts.append("log\n" + "".join(message.replace("\r", "\\r\n").replace("\t", "\\t") + "\n" for message in kept))
    return masked("----\n".join(parts))


def check(name, text):
    """Holds a text against its file, or writes that. Lines may come in another order: what a runtime logs and what it prints
    go through two pipes."""
    path = FOLDER / name
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: run it with HEARTH_UPDATE_GOLDEN=1"
    same = sorted(text.splitlines()) == sorted(path.read_text().splitlines())
    assert same, f"{path} (HEARTH_UPDATE_GOLDEN=1 writes it):\n{text}"
