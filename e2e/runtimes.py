"""Runtimes under test, each with one function that does what its event asks for, and the table of what was seen of them."""

import dataclasses
import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Callable

import parts
from packages import zipped

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs/runtimes.md"
UPDATE = os.environ.get("HEARTH_UPDATE_DOCS") == "1"


@dataclasses.dataclass(frozen=True)
class Column:
    """A runtime or a client of the Runtime API. What its function does: `fixtures/*-function`, `rust-bootstrap`."""

    name: str
    about: str
    # Files of the function's package.
    package: Callable
    # Zips of layers.
    layers: Callable = lambda: []
    settings: dict = dataclasses.field(default_factory=dict)


def shell():
    return {"bootstrap": SHELL}


# The Runtime API by hand, for what no client does.
SHELL = r"""#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
calls=0
case "$AT_INIT" in
    fail) curl -sS -o /dev/null -H 'Lambda-Runtime-Function-Error-Type: Runtime.Asked' \
        -d '{"errorType":"Runtime.Asked","errorMessage":"asked to fail at init"}' "$api/init/error"; exit 1 ;;
    leave) exit 0 ;;
    sleep) sleep 3600 ;;
esac
while true; do
    event=$(curl -sS -D /tmp/headers "$api/invocation/next")
    of() { sed -n "s/^$1: *//Ip" /tmp/headers | tr -d '\r'; }
    id=$(of lambda-runtime-aws-request-id)
    answer="$api/invocation/$id"
    calls=$((calls + 1))
    value=$(sed -n 's/.*"value": *\("[^"]*"\).*/\1/p' <<< "$event")
    custom=$(of lambda-runtime-client-context | sed -n 's/.*"custom": *\({[^}]*}\).*/\1/p')
    left=$(($(of lambda-runtime-deadline-ms) - $(date +%s%3N)))
    case "$event" in
        *'"fail"'*) curl -sS -o /dev/null -H 'Lambda-Runtime-Function-Error-Type: Function.Asked' \
            -d '{"errorType":"Asked","errorMessage":"asked to fail"}' "$answer/error"; continue ;;
        *'"log"'*) echo 'a plain line' ;;
        *'"exit"'*) exit 3 ;;
        *'"leave"'*) exit 0 ;;
        *'"kill"'*) kill -SEGV $$ ;;
        *'"sleep"'*) sleep 3600 ;;
        *'"memory"'*) kept=x; while true; do kept=$kept$kept; done ;;
        *'"large"'*) head -c 7340032 /dev/zero | tr '\0' x | sed 's/.*/"&"/' > /tmp/large
            curl -sS -w '%{http_code}\n' --data-binary @/tmp/large "$answer/response"; continue ;;
        *'"mode"'*) curl -sS -w '%{http_code}\n' -H 'Lambda-Runtime-Function-Response-Mode: streamed' -d '1' "$answer/response"; continue ;;
        *'"truncated"'*) exec 3<> "/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
            printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"half":' "$id" >&3
            exec 3>&-; continue ;;
        *'"cause"'*) curl -sS -o /dev/null -H 'Content-Type: application/vnd.aws.lambda.error.cause+json' \
            -H 'Lambda-Runtime-Function-Error-Type: unheard of' -d 'no JSON' "$answer/error"; continue ;;
        *'"stream"'*) curl -sS -o /dev/null -H 'Lambda-Runtime-Function-Response-Mode: streaming' \
            -H 'Transfer-Encoding: chunked' -d 'one two ' "$answer/response"; continue ;;
    esac
    printf '{"got":%s,"id":"%s","arn":"%s","function":"%s","memory":%s,"left":%s,"client":%s,"calls":%s}' "${value:-null}" "$id" \
        "$(of lambda-runtime-invoked-function-arn)" "$AWS_LAMBDA_FUNCTION_NAME" "$AWS_LAMBDA_FUNCTION_MEMORY_SIZE" \
        "$left" "${custom:-null}" "$calls" | curl -sS -o /dev/null --data-binary @- "$answer/response"
done
"""

OWN = {"Runtime": "provided.al2023"}
COLUMNS = [
    Column(
        "python",
        "`python3.11`: Hearth's bootstrap on the host's interpreter",
        lambda: parts.files(parts.FIXTURES / "python-function"),
        settings={"Runtime": "python3.11"},
    ),
    Column(
        "nodejs",
        "`nodejs20.x`: Hearth's bootstrap on the host's Node.js",
        lambda: parts.files(parts.FIXTURES / "node-function"),
        settings={"Runtime": "nodejs20.x", "MemorySize": 256},
    ),
    Column(
        "awslambdaric",
        "AWS's client for Python, `awslambdaric` 4.2.2 of PyPI, as a custom runtime",
        parts.python_package,
        lambda: [parts.layer(parts.python_layer())],
        OWN | {"MemorySize": 256},
    ),
    Column(
        "aws-lambda-ric",
        "AWS's client for Node.js, `aws-lambda-ric` 4.0.2 of npm on Node.js 22, as a custom runtime",
        parts.node_package,
        lambda: [parts.layer(parts.node_client())],
        OWN | {"MemorySize": 256},
    ),
    Column("lambda_runtime", "AWS's `lambda_runtime` 1.5 of crates.io", lambda: {"bootstrap": parts.rust("features")}, settings=OWN),
    Column(
        "aws-lambda-go",
        "AWS's `aws-lambda-go` 1.54, a module of Go",
        lambda: {"bootstrap": (parts.go_function() / "bootstrap").read_bytes()},
        settings=OWN,
    ),
    Column(
        "java",
        "AWS's `aws-lambda-java-runtime-interface-client` 2.10.1 of Maven Central under Debian's JDK, as a custom runtime",
        parts.java_package,
        lambda: [parts.layer(parts.java_layer())],
        OWN | {"MemorySize": 512, "Handler": "hearth.Function"},
    ),
    Column("by hand", "a shell script that speaks the Runtime API", shell, settings=OWN),
]
NAMES = [column.name for column in COLUMNS]


def why(reason, *columns):
    """Columns that have no test, for one reason."""
    return dict.fromkeys(columns, reason)


class Bench:
    """Functions of the columns, on one server. Packages and layers are made once."""

    def __init__(self, functions):
        self.functions = functions
        self.packages, self.layers, self.shared = {}, {}, {}
        self.lock = threading.Lock()

    def make(self, column, files=None, layers=(), **settings):
        with self.lock:
            if column.name not in self.packages:
                self.layers[column.name] = [self.layer(content) for content in column.layers()]
                self.packages[column.name] = zipped(column.package())
        package = self.packages[column.name]
        if files:
            # `None` takes a file away.
            package = zipped({path: content for path, content in (column.package() | files).items() if content is not None})
        settings = {"Layers": [*self.layers[column.name], *layers]} | column.settings | settings
        return self.functions.make(package, **settings)

    def one(self, column):
        """A function as it is, for all that ask."""
        if column.name not in self.shared:
            self.shared[column.name] = self.make(column)
        return self.shared[column.name]

    def layer(self, content):
        content = content if isinstance(content, bytes) else zipped(content)
        # A function cannot have two versions of one layer.
        name = f"bench-{hashlib.sha256(content).hexdigest()[:12]}"
        published = self.functions.client.publish_layer_version(LayerName=name, Content={"ZipFile": content})
        return published["LayerVersionArn"]


GROUPS = ["Handlers", "Answers", "Logs", "Extensions", "Failures"]


class Table:
    """Cells: what a test saw to work, or why there is none."""

    def __init__(self):
        self.rows = {}
        self.seen = set()

    def row(self, group, name, absent=None):
        """Declares a row; answers the columns to test. `absent` says why a column has no test."""
        self.rows[name] = (group, absent or {})
        return [column for column in COLUMNS if column.name not in (absent or {})]

    def count(self):
        """Cells that tests can see."""
        return sum(len(NAMES) - len(absent) for _, absent in self.rows.values())

    def text(self, worked):
        """The tables, with `worked` cells."""
        reasons, lines, last = [], [], None
        for name, (group, absent) in sorted(self.rows.items(), key=lambda row: GROUPS.index(row[1][0])):
            if group != last:
                lines += ["", f"## {group}", "", f"| | {' | '.join(NAMES)} |", f"|---|{'---|' * len(NAMES)}"]
                last = group
            cells = []
            for column in NAMES:
                if column in absent:
                    if absent[column] not in reasons:
                        reasons.append(absent[column])
                    cells.append(f"– {reasons.index(absent[column]) + 1}")
                else:
                    cells.append("✓" if (name, column) in worked else "?")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", "## Why there is no test", ""]
        lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
        return "\n".join(lines) + "\n"


TABLE = Table()


def document(worked):
    about = "\n".join(f"| {column.name} | {column.about} |" for column in COLUMNS)
    return f"""# Runtimes, and what was seen of them

Made by `e2e/test_runtime_table.py` from what its tests saw (`HEARTH_UPDATE_DOCS=1 e2e/run test_runtime_table.py`), and held against
them whenever they run. ✓: a test calls such a function and sees it work. –: there is no such test, for the reason of that number.

| | |
|---|---|
{about}
{TABLE.text(worked)}
## Runtimes that are no column

| | |
|---|---|
| other versions of Python and Node.js | Hearth's bootstraps are the same for all of them; beside AWS's clients they are tested in `e2e/bootstraps` for Node.js before 24 and since, and for Python |
| `python3.10`, `python3.12` | no registry that the tests reach carries such an interpreter: Debian's suites have 3.9, 3.11, 3.13 and later |
| `java*` as managed runtimes | AWS's client in Debian's Java (`hearth runtimes add java21 debian`): run by `e2e/test_packages.py`, and a column above as a custom runtime |
| `ruby*`, `dotnet*` of AWS's images | they run with their own bootstrap (`hearth runtimes add`); the tests reach no registry of images, and run one of the same layout that they make (`e2e/test_images.py`). AWS's client for Ruby and the SDK of .NET are in no registry that the tests reach. Ruby 3.3 of Debian's packages runs on Hearth's bootstrap (`e2e/test_packages.py`), without AWS's gems |
"""


def worked_before():
    """Cells that the document has."""
    if not DOCUMENT.exists():
        return set()
    worked = set()
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in TABLE.rows and len(cells) == len(NAMES) + 1:
            worked |= {(cells[0], column) for column, cell in zip(NAMES, cells[1:]) if cell == "✓"}
    return worked


def lines(server, name):
    log = server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode()
    return [json.loads(line)["message"] for line in log.splitlines()]
