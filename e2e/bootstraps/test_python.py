"""Python functions under Hearth's bootstrap and under AWS's client."""

import dataclasses

import pytest

from clients import Case

CONTEXT = {
    "Lambda-Runtime-Client-Context": '{"custom":{"k":"é"},"env":{"a":"b"},"client":{"installation_id":"i",'
    '"app_title":"t","app_version_name":"n","app_version_code":"c","app_package_name":"p"}}'.encode().decode("latin-1"),
    "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"a","cognitoIdentityPoolId":"b"}',
    "Lambda-Runtime-Aws-Tenant-Id": "tenant",
}


def function(body, before="", **rest):
    indented = "\n".join("    " + line for line in body.strip().splitlines())
    return Case({"index.py": f"{before}\ndef handler(event, context):\n{indented}\n"}, **rest)


def returns(*expressions, before="", variables=None):
    """Each event chooses one of these."""
    chosen = "\n".join(f"if event == {i}: return {text}" for i, text in enumerate(expressions))
    events = [(i, {}) for i in range(len(expressions))]
    return function(chosen, before, events=events, variables=variables or {})


JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
NEWER = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}
VALUES = (
    "{'a': [1, 2.5, None, True]}",
    "'é\\u2028\\x7f'",
    "None",
    "b'bytes'",
    "bytearray(b'bytes')",
    "(1, (2,))",
    "{1: 2, None: 3, True: 4, 1.5: 5}",
    "{(1, 2): 3}",
    "{1, 2}",
    "float('nan')",
    "[float('inf'), -float('inf')]",
    "10 ** 30",
    "decimal.Decimal('1.50')",
    "[decimal.Decimal('1E+2'), decimal.Decimal('Infinity'), {'a': decimal.Decimal('-0.10')}]",
    "{decimal.Decimal(1): 2}",
    "[decimal.Decimal(text) for text in ('NaN', '-NaN', 'sNaN', '-0', '1E-30')]",
    "[Pair(1, [Pair(2, decimal.Decimal('3.10'))]), {'p': Pair(None, '')}]",
    "datetime.datetime(2020, 1, 1)",
    "(each for each in [1])",
    "cycle()",
    "collections.OrderedDict(b=1, a=2)",
    "Text('subclass')",
    "Number(3)",
    "Colour.RED",
)
BEFORE = """
import collections, datetime, decimal, enum
Pair = collections.namedtuple("Pair", "first second")
class Text(str): pass
class Number(int): pass
class Colour(enum.IntEnum):
    RED = 7
def cycle():
    a = []
    a.append(a)
    return a
"""

CASES = {
    "an answer": function("return {'event': event, 'key': event['key']}"),
    "many events": function("return event", events=[({"n": i}, {}) for i in range(5)]),
    "answers of every kind": returns(*VALUES, before=BEFORE),
    "a lone surrogate": returns("'x\\ud800'"),
    "answers of every kind since 3.12": returns(*VALUES, before=BEFORE, variables=NEWER),
    "answers of every kind in an image": returns(*VALUES, before=BEFORE, variables={"AWS_EXECUTION_ENV": ""}),
    "an answer that is deep": function("for _ in range(3000): event = [event]\nreturn event"),
    "a large event": function("return len(event)", events=[("x" * 3_000_000, {})]),
    "a large answer": function("return 'é' * 1_000_000"),
    "events of every kind": function(
        "return [event, type(event).__name__]",
        events=[(text.encode(), {}) for text in ("null", "true", "1.50", '"é"', "[]", '{"a":{"b":1}}', "1e400", "-0", "12345678901234567890")],
    ),
    "an event with a byte order mark": function("return event", events=[(b"\xef\xbb\xbf{\"a\": 1}", {}), ("\ufeff1".encode("utf-16"), {})]),
    "events with space around": function("return event", events=[(text.encode(), {}) for text in (" 1", "\r\n\t[1 , 2]\n", "{ }", "")]),
    "events with escapes": function("return event", events=[(text.encode(), {}) for text in (r'"\ud83d\ude00"', r'"\u0000\/\b"', r'{"a":1,"a":2}', r'"\ud800"')]),
    "events of characters of every width": function("return [event, len(event)]", events=[("é€😀", {}), ("x" * 70_000 + "😀", {})]),
    "an event that is not UTF-8": function("return event", events=[(b"\xff", {}), (b"", {}), ("next", {})]),
    # Finding the handler.
    "a module in a folder": Case({"a/b.py": "def handler(e, c): return __name__"}, "a/b.handler"),
    "a module in a package": Case({"a/b.py": "def handler(e, c): return __name__"}, "a.b.handler"),
    "a package": Case({"a/__init__.py": "def handler(e, c): return __name__"}, "a.handler"),
    "a class as handler": Case({"index.py": "class handler:\n def __new__(cls, e, c): return 'made'"}),
    "a callable object as handler": Case({"index.py": "class H:\n def __call__(self, e, c): return 1\nhandler = H()"}),
    "a module that is missing": Case({}, "nope.handler"),
    "a handler that is missing": Case({"index.py": "x = 1"}),
    "a handler in an object": Case({"index.py": "class H: pass\nh = H()"}, "index.h.f"),
    "a handler that is not callable": Case({"index.py": "handler = 3"}),
    "a handler with one parameter": Case({"index.py": "def handler(event): pass"}),
    "a handler that is asynchronous": Case({"index.py": "import warnings\nwarnings.simplefilter('ignore')\nasync def handler(e, c): pass"}),
    "a handler without module": Case({"index.py": ""}, "handler"),
    "no handler": Case({"index.py": ""}, ""),
    "a handler in a built-in module": Case({}, "sys.exit"),
    # Errors of init.
    "an import that is missing": Case({"index.py": "import missing.module\n"}),
    "an import of a missing name": Case({"index.py": "from os import missing\n"}),
    "a syntax error": Case({"index.py": "def handler(event, context)\n    pass\n"}),
    "an indentation error": Case({"index.py": "def handler(event, context):\npass"}),
    "a syntax error in an import": Case({"index.py": "import other\n", "other.py": "a = = 1\n"}),
    "an exception of init": Case({"index.py": "def f():\n  raise ValueError('no\\nway é')\nprint('before')\nf()\n"}),
    "a loop of imports": Case({"index.py": "import other\n", "other.py": "from index import handler\n"}),
    "an exit of init": Case({"index.py": "import sys\nprint('x')\nsys.exit(4)\n"}),
    "an interrupt of init": Case({"index.py": "class Stop(BaseException): pass\nraise Stop('x')\n"}),
    # Errors of the handler.
    "an exception": function("inner()", "def inner():\n    raise LookupError('first\\nsecond é')\n"),
    "an exception since 3.12": function("raise LookupError('é')", variables=NEWER),
    "an exception while another is handled": function("try:\n    {}['x']\nexcept KeyError as e:\n    raise ValueError('chained') from e"),
    "an exception without message": function("raise ValueError()"),
    "an exception of its own class": function("raise Own(1, 'two')", "class Own(Exception): pass\n"),
    "an exception that has a long line": function("raise ValueError(\n    'a'\n    'b'\n)"),
    "a missing key": function("return event['missing']"),
    "an exception in a dependency": Case({"index.py": "import other\ndef handler(e, c): other.f()\n", "other.py": "def f():\n  1/0\n"}),
    "an exception group": function("raise ExceptionGroup('many', [ValueError(1), TypeError(2)])"),
    "deep recursion": function("return handler(event, context)"),
    "an exception, then an answer": function("if event: raise ValueError(event)\nreturn 'well'", events=[(1, {}), (0, {})]),
    "an exit": function("import sys\nprint('bye')\nsys.exit(3)"),
    "an exit with success": function("import sys\nsys.exit(0)"),
    "an exit with a message": function("import sys\nsys.exit('message')"),
    "an end without clean-up": function("import os\nprint('partial', end='')\nos._exit(9)"),
    "an exception that is none": function("raise Stop('x')", "class Stop(BaseException): pass\n"),
    "a warning of Python": function("warnings.warn('careful')", "import warnings\n"),
    # The context.
    "the context": function(
        "return [repr(context), sorted(n for n in dir(context) if n[0] != '_'), context.memory_limit_in_mb,"
        " 50_000 < context.get_remaining_time_in_millis() <= 60_000, type(context.get_remaining_time_in_millis()).__name__]",
        events=[({}, {}), ({}, CONTEXT)],
    ),
    "the context without ARN": function("return repr(context)", events=[({}, {"Lambda-Runtime-Invoked-Function-Arn": ""})]),
    "the client context": function(
        "c = context.client_context\nreturn [repr(c), c.custom, c.env, repr(c.client), c.client and c.client.app_title]",
        events=[({}, CONTEXT), ({}, {"Lambda-Runtime-Client-Context": "{}"}), ({}, {"Lambda-Runtime-Client-Context": '{"client":{}}'})],
    ),
    "no client context": function("return [context.client_context, repr(context.identity), context.tenant_id]"),
    "a client context that is not JSON": function("return 1", events=[({}, {"Lambda-Runtime-Client-Context": "{bad"}), ({}, {})]),
    "a client context that is no object": function("return 1", events=[({}, {"Lambda-Runtime-Client-Context": text}) for text in ("[]", "5", "null", '{"client":1}')]),
    "an identity that is no object": function("return repr(context.identity)", events=[({}, {"Lambda-Runtime-Cognito-Identity": text}) for text in ("[]", "null", "{}")]),
    "a trace in the client context": function(
        "return [context.w3c(), repr(context.client_context)]",
        events=[
            ({}, {"Lambda-Runtime-Client-Context": '{"w3c":%s,"custom":{}}' % text})
            for text in ('{"traceparent":"a","tracestate":1,"baggage":"b","other":"c"}', "null", '"a"', "{}")
        ],
    ),
    "neither event nor client context is JSON": function("return 1", events=[(b"\xff", {"Lambda-Runtime-Client-Context": "{bad"})]),
    "an identity that is not JSON": function("return 1", events=[({}, {"Lambda-Runtime-Cognito-Identity": "{bad"})]),
    "no time left": function("return context.get_remaining_time_in_millis()", events=[({}, {"Lambda-Runtime-Deadline-Ms": "1000"})]),
    "the context's log": function("context.log('a')\ncontext.log({'b': 1})\ncontext.log('c\\n')"),
    "the trace": function(
        "return os.environ.get('_X_AMZN_TRACE_ID')",
        "import os",
        events=[({}, {}), ({}, {"Lambda-Runtime-Trace-Id": "Root=1-2-3"}), ({}, {"Lambda-Runtime-Trace-Id": None})],
    ),
    "variables stay": function("import os\nreturn [os.environ['AWS_LAMBDA_RUNTIME_API'] != '', os.environ['_HANDLER'], os.getcwd() == os.environ['LAMBDA_TASK_ROOT']]"),
    # Output.
    "print": function("print('a', 1, sep='-')\nprint('b', end='')\nprint('é\\u2028')\nprint()\nprint('x', flush=True)"),
    "standard error": function("sys.stderr.write('one\\n')\nprint('two', file=sys.stderr)\nprint('three')\nsys.stderr.write('four')", "import sys"),
    "output of a child": function("print('before')\nsubprocess.run(['echo', 'child'])\nprint('after')", "import subprocess"),
    "output of descriptors": function("os.write(1, b'raw\\n')\nprint('p')\nsys.stdout.buffer.write(b'buffer\\n')\nsys.stdout.flush()", "import os, sys"),
    "output of init": function("print('handler')", "print('init')"),
    "many lines": function("print('\\n'.join(map(str, range(2000))))"),
    "what a stream is": function("return [sys.stdout.encoding, sys.stdout.errors, sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.writable(), sys.stdin.read()]", "import sys"),
    "several lines at once": function("sys.stdout.writelines(['a\\n', 'b\\n'])", "import sys"),
    # The `logging` module.
    "levels": function("for level in ('debug', 'info', 'warning', 'error', 'critical'): getattr(logging, level)(level)", "import logging"),
    "a level of one's own": function("logging.info('root')\nlog.debug('own %s', 1)\nlog.info('line\\nline é')", "import logging\nlogging.getLogger().setLevel('INFO')\nlog = logging.getLogger('my.log')\nlog.setLevel('DEBUG')"),
    "logging in init": function("pass", "import logging\nlogging.warning('init')"),
    "basicConfig does nothing": function("logging.info('x')\nlogging.warning('y')", "import logging\nlogging.basicConfig(level='INFO', format='%(message)s')"),
    "a handler's format": function("h = logging.getLogger().handlers\nreturn [len(h), h[0].formatter._fmt, h[0].formatter.datefmt, h[0].level, logging.getLogger().level, type(h[0]).__name__]", "import logging"),
    "an own handler": function("logging.warning('x')", "import logging, sys\nlogging.getLogger().handlers.clear()\nlogging.getLogger().addHandler(logging.StreamHandler(sys.stdout))"),
    "logging of a thread": function("t = threading.Thread(target=lambda: logging.warning('t'))\nt.start()\nt.join()", "import logging, threading"),
    "dictConfig": function("logging.getLogger().info('x')", "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})"),
    "a format of one's own with its end of line": function("logging.warning('x')", "import logging\nlogging.getLogger().handlers[0].setFormatter(logging.Formatter('%(levelname)s %(aws_request_id)s %(tenant_id)s %(message)s\\n'))", events=[({}, {}), ({}, CONTEXT)]),
    "another time zone": function("logging.warning(logging.Formatter.converter.__name__)", "import logging", variables={"TZ": "Asia/Tokyo"}),
    # Formats and levels of the configuration.
    "records as JSON": function("for level in ('debug', 'info', 'warning', 'error', 'critical'): getattr(logging, level)('%s é', level)\nprint('plain')", "import logging", variables=JSON, events=[({}, {}), ({}, CONTEXT)]),
    "records of every kind as JSON": function(
        "logging.error({'a': 1, 'o': object})\nlogging.error('%(a)s', {'a': 1})\nlogging.error('two\\nlines')\n"
        "logging.error('x', extra={'more': [1], 'odd': {1, 2}, 'none': None})\nlogging.log(45, 'between')\nlogging.getLogger('a.b').error(7)",
        "import logging",
        variables=JSON,
    ),
    "an exception in a record as JSON": function("try:\n    1/0\nexcept Exception:\n    logging.exception('failed')", "import logging", variables=JSON),
    "an exception as JSON": function("raise LookupError('first\\nsecond é')", variables=JSON),
    "an exception as JSON since 3.12": function("raise LookupError('é')", variables=JSON | NEWER),
    "an error of init as JSON": Case({"index.py": "import missing\n"}, variables=JSON),
    "an exception of init as JSON": Case({"index.py": "raise ValueError('é')\n"}, variables=JSON),
    **{
        f"level {level} of {form}": function(
            "for level in ('debug', 'info', 'warning', 'error', 'critical'): getattr(logging, level)(level)\nreturn logging.getLogger().level",
            "import logging",
            variables={"AWS_LAMBDA_LOG_LEVEL": level, "AWS_LAMBDA_LOG_FORMAT": form},
        )
        for form, level in [("JSON", "TRACE"), ("json", "debug"), ("JSON", "INFO"), ("JSON", "WARN"), ("Text", "ERROR"), ("JSON", "FATAL"), ("JSON", "odd"), ("", "trace")]
    },
    "state stays between events": function("global n\nn += 1\nreturn n", "n = 0", events=[({}, {}), ({}, {})]),
}


# A record without an end of line.
UNENDED = {
    "an exception in the log": function("try:\n    1/0\nexcept Exception:\n    logging.exception('failed')", "import logging"),
    "a format of one's own": function("logging.warning('x')", "import logging\nlogging.getLogger().handlers[0].setFormatter(logging.Formatter('%(levelname)s %(aws_request_id)s %(message)s'))"),
}


@pytest.mark.parametrize("name", CASES)
def test_both_clients_do_the_same(same, name):
    same("python", CASES[name])


# What writes log records, with a pipe of their own for them.
FRAMED = [
    "an exception of init", "an exception", "an exception without message", "the context's log", "print", "output of init",
    "levels", "a level of one's own", "logging in init", "a format of one's own with its end of line", "records as JSON",
    "records of every kind as JSON", "an exception in a record as JSON", "an exception as JSON", "an error of init as JSON",
]


@pytest.mark.parametrize("name", [*FRAMED, *UNENDED])
def test_both_clients_frame_their_records_alike(same, name):
    same("python", dataclasses.replace({**CASES, **UNENDED}[name], framed=True))


# Decision 5: where Hearth's bootstrap differs.


@pytest.mark.parametrize("name", UNENDED)
def test_a_record_ends_its_line(run, name):
    aws, hearth = run("python", "aws", UNENDED[name]), run("python", "hearth", UNENDED[name])
    assert hearth["log"] == [*aws["log"], ""]
    assert hearth["answers"] == aws["answers"]


def test_an_event_is_read_as_json_whatever_its_type(run):
    case = function("return [type(event).__name__, event]", events=[([1], {"Content-Type": "application/octet-stream"})])
    assert run("python", "hearth", case)["answers"][0]["body"] == '["list", [1]]'
    assert run("python", "aws", case)["answers"][0]["body"] == '["bytes", "[1]"]'


def test_a_refused_answer_does_not_end_the_process(run):
    case = function("return event", events=[(b'"refused"', {}), (b'"next"', {})])
    hearth = run("python", "hearth", case)
    assert [answer["body"] for answer in hearth["answers"]] == ['"refused"', '"next"']
    assert hearth["status"] is None
    assert run("python", "aws", case)["status"] == 1


def test_a_preview_of_a_runtime_is_not_warned_of(run):
    case = function("return 1", variables={"AWS_EXECUTION_ENV": "AWS_Lambda_python3.15"})
    assert run("python", "hearth", case)["log"] == [""]
    assert "preview" in run("python", "aws", case)["log"][0]


def test_the_oldest_runtime_names_no_request_in_errors(run):
    case = function("raise ValueError('x')", variables={"AWS_EXECUTION_ENV": "AWS_Lambda_python3.8"})
    (answer,) = run("python", "hearth", case)["answers"]
    assert [name for name, _ in answer["body"]] == ["errorMessage", "errorType", "stackTrace"]


def test_a_lone_surrogate_since_3_12_is_an_error_and_the_process_lives(run):
    case = returns("'x\\ud800'", "'next'", variables=NEWER)
    hearth = run("python", "hearth", case)
    assert [answer["path"].rpartition("/")[2] for answer in hearth["answers"]] == ["error", "response"]
    assert dict(hearth["answers"][0]["body"])["errorType"] == "Runtime.MarshalError"
    assert hearth["status"] is None
    assert run("python", "aws", case)["status"] == 1


def test_an_event_that_is_not_json_is_named_so_by_both(run):
    case = function("return event", events=[(b"{bad", {})])
    for client in ("aws", "hearth"):
        body = dict(run("python", client, case)["answers"][0]["body"])
        assert body["errorType"] == "Runtime.UnmarshalError"
        assert body["errorMessage"].startswith("Unable to unmarshal input: Expecting property name enclosed in double quotes")
