"""Ways in which functions fail, for each runtime."""

from runtimes import NAMES, TABLE, why

CRASHING = {"extensions/broken": "#!/bin/sh\nexit 3\n"}
# Says that it is there, and ends in the first call, which has been answered by then.
ENDING = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
id=$(curl -sS -D - -o /dev/null -H "Lambda-Extension-Name: ${0##*/}" -d '{"events": ["INVOKE"]}' "$api/register" \\
    | sed -n 's/^lambda-extension-identifier: *//Ip' | tr -d '\\r')
curl -sS -o /dev/null -H "Lambda-Extension-Identifier: $id" "$api/event/next"
sleep 2
exit 4
"""
TYPED = "its language finds this before it runs"
COMPILED = "a compiled program has no modules that could be missing"
BOUNDED = "its own heap is bounded: it fails by an error of its own"


class Failure:
    """How to make a function that fails, and what to call it with."""

    def __init__(self, row, name, event=None, then="echo", files=None, layers=(), absent=None, slow=False, **settings):
        self.row, self.name, self.files, self.layers, self.settings = row, name, files, layers, settings
        self.events = [{"do": event or "echo"}] + ([{"do": then}] if then else [])
        self.absent = absent or {}
        self.slow = slow


def at_init(how):
    return {"Environment": {"Variables": {"AT_INIT": how}}}


NO_LEAVE = why("it answers to the same as an exit of its handler", "lambda_runtime", "aws-lambda-go", "java")
ONLY_BY_HAND = {name: "no client does this: see the column by hand" for name in NAMES if name != "by hand"}
INTERPRETED = why(COMPILED, "lambda_runtime", "aws-lambda-go") | why("the script is all there is", "by hand")
FAILURES = [
    Failure("error at init", "init-error", then=None, **at_init("fail")),
    Failure("end at init without a word", "init-exit", then=None, absent=NO_LEAVE, **at_init("leave")),
    Failure("init takes too long", "init-timeout", then=None, slow=True, Timeout=1, **at_init("sleep")),
    Failure("error of the handler", "handler-error", "fail"),
    Failure("time-out", "timeout", "sleep", then=None, Timeout=1),
    Failure("exit with a code", "exit-code", "exit"),
    Failure("exit without a word", "exit", "leave"),
    Failure("end by a signal", "signal", "kill"),
    Failure("out of memory", "out-of-memory", "memory", absent=why(BOUNDED, "java")),
    Failure("answer too large", "too-large", "large"),
    Failure("extension that ends at init", "extension-init", then=None, layers=[CRASHING]),
    Failure("extension that ends in a call", "extension-crash", then=None, layers=[{"extensions/ending": ENDING}]),
    Failure("module that is missing", "no-module", then=None, absent=INTERPRETED, Handler="absent.handler"),
    Failure("handler that is missing", "no-handler", then=None, absent=INTERPRETED, Handler="index.absent"),
    Failure("handler's name that is none", "bad-handler", then=None, absent=INTERPRETED, Handler="nonsense"),
    Failure(
        "answer that is no JSON", "unmarshallable", "unmarshallable",
        absent=why(TYPED, "lambda_runtime", "aws-lambda-go", "java") | why("what is sent is sent as it is", "by hand"),
    ),
    Failure("answer in an unknown mode", "bad-mode", "mode", absent=ONLY_BY_HAND),
    Failure("answer that breaks off", "truncated", "truncated", absent=ONLY_BY_HAND),
    Failure("error that is no JSON", "bad-error", "cause", absent=ONLY_BY_HAND),
    Failure("no bootstrap", "no-bootstrap", then=None, absent=ONLY_BY_HAND, files={"bootstrap": None, "other": "x"}),
    Failure("bootstrap that cannot be executed", "not-executable", then=None, absent=ONLY_BY_HAND, files={"bootstrap": "no program"}),
]  # fmt: skip
# Each with the runtimes that can fail so.
CASES = [(failure, column) for failure in FAILURES for column in TABLE.row("Failures", failure.row, failure.absent)]
