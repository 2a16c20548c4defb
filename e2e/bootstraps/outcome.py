"""Outcomes, without what may differ between two runs or two clients: times, places, the clients' own frames."""

import base64
import json
import re

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
# Files of the clients themselves, and of Node.js where it calls them.
OWN = re.compile(
    r"_hearth_runtime|bootstraps/python|awslambdaric|runpy|bootstraps/node|aws-lambda-ric|transport\.mjs"
    r"|node:events|node:internal/(process/|modules/run_main|modules/esm/|timers)"
)
# How deep a recursion went depends on the client's own depth.
DEPTH = re.compile(r"\[Previous line repeated \d+ more times\]")
# AWS's client says before an error of init that an update of the runtime may be its reason (decision 5).
ADVICE = re.compile(r"^(\[WARNING\]\t\S+\t\t|\{[^\n]*\"message\": \")LAMBDA_WARNING: Unhandled .*?(\r\n|\\r\"[^\n]*\n)", re.DOTALL | re.MULTILINE)
# AWS's client for Node.js says what it runs, and where it is when a module is missing.
STARTS = re.compile(r"^Executing '.*' in function directory '.*'\n")
PLACE = re.compile(r"/[^\s\"']*/(aws-lambda-ric-\d/(dist/)?index\.mjs|_hearth_runtime/handler\.cjs)(?![:\d])")
# The line of code that an error ended the process with.
SOURCE = re.compile(r"^(?:file://)?(/\S+):\d+\n.*\n *\^+\n", re.MULTILINE)
# A frame in a log line of JSON: an element of a list, or in a text.
JSON_FRAME = re.compile(r',?"(    at (?:[^"\\]|\\.)*)"|\\n(    at [^"\\]*?:\d+:\d+\)?)')


def plain(outcome, folder):
    """What is compared."""
    return {
        "answers": [plain_answer(answer, str(folder)) for answer in outcome.answers],
        "log": plain_log(outcome.output, folder),
        "frames": [(kind, plain_log(message, folder)) for kind, message in outcome.frames if not ADVICE.match(message)],
        "status": outcome.status,
    }


def plain_log(output, folder):
    text = PLACE.sub("/var/runtime/index.mjs", output.replace(str(folder), "/var/task"))
    for pattern, plain in ((ADVICE, ""), (DEPTH, "REPEATED"), (STARTS, "")):
        text = pattern.sub(plain, text)
    text = SOURCE.sub(lambda source: "" if OWN.search(source[1]) else source[0], text)
    text = JSON_FRAME.sub(lambda frame: "" if OWN.search(frame[1] or frame[2]) else frame[0], text)
    return TIME.sub("TIME", without_own_frames(text)).split("\n")


def plain_answer(answer, folder):
    path, headers, body = answer["path"], dict(answer["headers"]), answer["body"].decode(errors="replace")
    body = PLACE.sub("/var/runtime/index.mjs", body.replace(folder, "/var/task"))
    if encoded := headers.get("Lambda-Runtime-Function-Error-Body"):
        error = json.loads(base64.b64decode(encoded).decode().replace(folder, "/var/task"))
        error["trace"] = [frame for frame in error["trace"] if not OWN.search(frame)]
        headers["Lambda-Runtime-Function-Error-Body"] = error
    if path.endswith("error"):
        # The platform takes these for JSON, whatever they are called.
        headers.pop("Content-Type")
        body = json.loads(body)
        for name in ("stackTrace", "trace"):
            if name in body:
                body[name] = [DEPTH.sub("REPEATED", frame) for frame in body[name] if not OWN.search(frame)]
        body = list(body.items())
    return {"path": path, "headers": headers, "body": body}


def without_own_frames(text):
    """A log without the frames of clients in it: their lines of Python and the source below, their lines of Node."""
    lines = []
    own = False
    for line in re.split(r"(?<=[\r\n])", text):
        bare = line.replace("\u00a0", " ")
        if re.match(r"  File ", bare):
            own = bool(OWN.search(bare))
        elif not re.match(r"    ", bare):
            own = False
        if own or re.match(r"\s+at .*", bare) and OWN.search(bare):
            # The line's end closes what came before.
            if lines and line.endswith("\n") and not lines[-1].endswith("\n"):
                lines[-1] = lines[-1].rstrip("\r") + "\n"
            continue
        lines.append(line)
    return "".join(lines)
