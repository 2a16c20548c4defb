"""What became slower since the last committed run. Each figure is taken as a ratio to a calibration of its own run, since
machines differ; what is worse is told, and never a failure."""

# Of a ratio, by which it is worse, before it is named: what two runs on one quiet machine differ by.
NOTED = 1.25
LANGUAGES = ("Python", "Node.js", "Rust")


def fork_exec(results):
    return results["machine"]["forkExecUs"]


def echo(results, callers, figure):
    return results["echo"][callers][figure]


def warm(results, label, callers, figure):
    return results["hearth"]["warm"][label][callers][figure] / echo(results, callers, figure)


def cold(results, label, way):
    return results["hearth"]["cold"][label][way]["p50Us"] / fork_exec(results)


# Less is better.
TIMES = {
    **{f"warm {label}, p50 of one caller": lambda all, label=label: warm(all, label, "c1", "p50Us") for label in LANGUAGES},
    **{f"cold {label}, prepared": lambda all, label=label: cold(all, label, "prepared") for label in LANGUAGES},
    **{f"cold {label}, from nothing": lambda all, label=label: cold(all, label, "fromNothing") for label in LANGUAGES},
    "streaming, write to read": lambda all: all["hearth"]["streaming"]["pieceP50Us"] / echo(all, "c1", "p50Us"),
    "a sandbox from nothing": lambda all: all["confinement"]["sandbox"]["p50Us"] / all["confinement"]["forkExec"]["p50Us"],
    "a URL, to Invoke": lambda all: all["urls"]["Hearth"]["urlP50Us"] / all["urls"]["Hearth"]["invokeP50Us"],
    "a web application, to itself without Hearth": lambda all: all["web"]["adapterP50Us"] / all["web"]["directP50Us"],
    "first calls at once, p99": lambda all: all["fleet"]["firstCalls"]["p99Ms"] / fork_exec(all),
    "warm beside cold starts, p99 to alone": lambda all: all["fleet"]["beside"]["besideP99Us"] / all["fleet"]["beside"]["aloneP99Us"],
    "memory of an idle environment": lambda all: all["fleet"]["idle"]["allMb"],
    "an idle server's memory": lambda all: all["fleet"]["rest"]["ownMb"],
}
# More is better.
RATES = {
    **{f"warm {label}, 32 callers": lambda all, label=label: warm(all, label, "c32", "perSecond") for label in LANGUAGES},
    "environments started": lambda all: all["fleet"]["started"]["perSecond"] * fork_exec(all),
    "events accepted, of what the disk takes": lambda all: all["events"]["hearth"]["accept"]["ofDisk"],
    "events to their end": lambda all: all["events"]["hearth"]["sustained"]["perSecond"] / echo(all, "c32", "perSecond"),
    "lines of log appended": lambda all: all["logs"]["Hearth"]["appendedPerSecond"] / echo(all, "c32", "perSecond"),
    "lines of log looked through": lambda all: all["logs"]["Hearth"]["scannedPerSecond"] / echo(all, "c32", "perSecond"),
}


def said(before, now):
    """Lines for people. What one of the runs did not measure is left out."""
    worse = {}
    for figures, less_is_better in ((TIMES, True), (RATES, False)):
        for name, figure in figures.items():
            try:
                then, new = figure(before), figure(now)
            except KeyError:
                continue
            worse[name] = new / then if less_is_better else then / new
    named = sorted(((by, name) for name, by in worse.items() if by > NOTED), reverse=True)
    if not named:
        return [f"Nothing of {len(worse)} figures is worse by more than a factor {NOTED} than in the last committed run."]
    return [f"Worse than in the last committed run, of {len(worse)} figures:", *(f"  {name}: by a factor {by:.2f}" for by, name in named)]
