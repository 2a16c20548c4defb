"""Node.js functions under Hearth's bootstrap and under AWS's clients: version 3 before Node.js 24, version 4 since."""

import dataclasses

import pytest

from clients import Case
from test_python import CONTEXT

GENERATIONS = ("node", "node24")
JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
CALLBACK = "exports.handler = (event, context, callback) => {\n%s\n};\n"


def asynchronous(body, before="", **rest):
    return Case({"index.js": f"{before}\nexports.handler = async (event, context) => {{\n{body}\n}};\n"}, **rest)


def module(body, before="", **rest):
    return Case({"index.mjs": f"{before}\nexport const handler = async (event, context) => {{\n{body}\n}};\n"}, **rest)


def calling_back(body, before="", **rest):
    return Case({"index.js": before + "\n" + CALLBACK % body}, **rest)


def plain(body, before="", **rest):
    return Case({"index.js": f"{before}\nexports.handler = (event, context) => {{\n{body}\n}};\n"}, **rest)


def streaming(body, before="", **rest):
    text = f"{before}\nexport const handler = awslambda.streamifyResponse(async (event, stream, context) => {{\n{body}\n}});\n"
    return Case({"index.mjs": text}, **rest)


def chosen(*expressions):
    """Each event chooses one of these as the answer."""
    cases = " ".join(f"case {i}: return {text};" for i, text in enumerate(expressions))
    return asynchronous(f"switch (event) {{ {cases} }}", events=[(i, {}) for i in range(len(expressions))])


def thrown(*expressions, **rest):
    """Each event chooses one of these to be thrown."""
    cases = " ".join(f"case {i}: throw {text};" for i, text in enumerate(expressions))
    return asynchronous(f"switch (event) {{ {cases} }}", events=[(i, {}) for i in range(len(expressions))], **rest)


TWO = [(1, {}), (2, {})]
VALUES = (
    "{ a: [1, 2.5, null, true], b: undefined }",
    "'é\\u2028\\x7f\\ud800'",
    "null",
    "undefined",
    "''",
    "0",
    "NaN",
    "[undefined, () => 1, Symbol('s'), Infinity]",
    "new Date(0)",
    "Buffer.from('a')",
    "new Map([[1, 2]])",
    "new Error('returned')",
    "{ toJSON() { return 'own'; } }",
    "{ then: 1 }",
    "new Uint8Array(3)",
)
ERRORS = (
    "new Error('first\\nsecond é')",
    "new TypeError()",
    "Object.assign(new Error('x'), { code: 'E_CODE', more: { deep: [1] } })",
    "new (class Own extends Error { constructor(m) { super(m); this.name = 'OwnName'; } })('m')",
    "new (class Unnamed extends Error {})('m')",
    "'text'",
    "17",
    "undefined",
    "null",
    "{ a: 1 }",
    "[1]",
    "Object.assign(new Error('x'), { stack: 'short' })",
    "Object.assign(new Error('x'), { stack: '' })",
    "Object.assign(new Error('x'), { stack: undefined })",
    "Object.assign(new Error('x'), { message: 5 })",
    "{ name: 'N', message: 'M', stack: 'N: M\\n    at somewhere' }",
    "new Error('deleted \\x7f')",
    "new Error('caused', { cause: new Error('cause') })",
    "new AggregateError([new Error('a'), 1], 'many')",
    "(() => { const e = new Error('cycle'); e.self = e; return e; })()",
    "(() => { const e = new Error('x'); e.toJSON = () => ({ told: 1 }); return e; })()",
    "(() => { const e = new Error('x'); Object.defineProperty(e, 'name', { get() { throw 1; } }); return e; })()",
)
LOGGED = (
    "'one'",
    "'%s and %d', 'a', 1, 'rest'",
    "",
    "undefined",
    "'two\\nlines é\\u2028'",
    "{ a: { b: { c: { d: 1 } } } }",
    "[1, 'a']",
    "{ level: 'odd', message: 'm' }",
    "null, 1",
    "1n",
    "(() => { const a = {}; a.a = a; return a; })()",
    "new Map([[1, { a: 2 }]])",
    "'x'.repeat(100_000)",
    "Symbol('s')",
)
LOGS = "\n".join(f"console.log({text});" for text in LOGGED)
LOGGED_ERRORS = """
const error = Object.assign(new RangeError('bad'), { code: 'C' });
error.stack = 'RangeError: bad\\n    at here';
console.error(error);
console.error('with text', error);
console.error(error, 'and more');
console.error({ nested: error });
console.error('%s', error, new Error('second'));
console.error(Object.assign(new Error('no stack'), { stack: undefined }));
console.error('text', Object.assign(new Error('no stack'), { stack: undefined }));
console.error(Object.assign(Object.create(Error.prototype), { message: 'bare', constructor: undefined }));
"""
LEVELS = "['trace', 'debug', 'info', 'log', 'warn', 'error', 'fatal'].forEach((level) => console[level](level));"

CASES = {
    # Answers.
    "an answer": asynchronous("return { event, key: event.key };"),
    "an answer of a module": module("return { event, key: event.key };"),
    "many events": asynchronous("return event;", events=[({"n": i}, {}) for i in range(5)]),
    "answers of every kind": chosen(*VALUES),
    "answers that are no JSON": chosen("() => 1", "Symbol('s')", "10n", "(() => { const a = {}; a.a = a; return a; })()", "{ toJSON() { throw new Error('own'); } }", "'next'"),
    "a large event": asynchronous("return event.length;", events=[("x" * 3_000_000, {})]),
    "a large answer": asynchronous("return 'é'.repeat(1_000_000);"),
    "a large answer, then a small one": asynchronous("return event === 1 ? 'x'.repeat(5_000_000) : 'small';", events=TWO),
    "events of every kind": asynchronous(
        "return [event, typeof event];",
        events=[(text.encode(), {}) for text in ("null", "true", "1.50", '"é"', "[]", '{"a":{"b":1}}', "1e400", "-0", "12345678901234567890", ' {"a":1,"a":2}\n', r'"\ud83d\ude00\u0000"')],
    ),
    "an event that is no JSON": asynchronous("return event;", events=[(b"{bad", {}), (b"1", {})]),
    "an event with a byte order mark": asynchronous("return event;", events=[(b"\xef\xbb\xbf{}", {}), (b"1", {})]),
    "an event that is not UTF-8": asynchronous("return event;", events=[(b'"\xff"', {}), (b"1", {})]),
    "an answer that is refused": asynchronous("return event;", events=[("refused", {}), ("next", {})]),
    "events of characters of every width": asynchronous("return [event, event.length];", events=[("é€😀", {}), ("x" * 70_000 + "😀", {})]),
    "a thenable": plain("return { then(resolve) { resolve('then'); } };"),
    "a thenable that fails": plain("return { then(_, reject) { reject(new Error('then')); } };"),
    "a promise that is late": asynchronous("await new Promise((resolve) => setTimeout(resolve, 20)); return 'late';"),
    "a value that is returned without promise": plain("return 'lost';", events=TWO),
    "nothing that is returned": plain("", events=TWO),
    "work behind an answer": asynchronous("setImmediate(() => console.log('immediate', event)); process.nextTick(() => console.log('tick', event)); return event;", events=TWO),
    "state stays between events": asynchronous("return ++n;", "let n = 0;", events=TWO),
    # The handler's forms.
    "a callback": calling_back("callback(null, { event });", events=TWO),
    "a callback with an error": calling_back("callback(new Error('called back'));", events=TWO),
    "a callback with a text as error": calling_back("callback('text');"),
    "a callback without arguments": calling_back("callback();"),
    "a callback that is late": calling_back("setTimeout(() => callback(null, 'late'), 20);", events=TWO),
    "a callback that waits for an empty loop": calling_back("setTimeout(() => console.log('first'), 30); callback(null, 1);", events=TWO),
    "a callback that does not wait": calling_back(
        "context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => {}, 20_000); callback(null, event); console.log('after');", events=TWO
    ),
    "a callback twice": calling_back("callback(null, 1); callback(null, 2);", events=TWO),
    "a callback and a promise": Case({"index.js": "exports.handler = async (event, context, callback) => { callback(null, 'callback'); return 'promise'; };"}),
    "a callback and an exception": calling_back("callback(null, 1); throw new Error('after');"),
    "a callback with what is no JSON": calling_back("context.callbackWaitsForEmptyEventLoop = false; callback(null, 10n);", events=TWO),
    "a late callback with what is no JSON": calling_back("callback(null, 10n);", events=TWO),
    "a callback of the invocation before": calling_back("if (event === 1) { saved = callback; return; } saved(null, 'stale'); context.succeed(event);", "let saved;", events=TWO),
    "context.succeed": plain("context.succeed(event);", events=TWO),
    "context.fail": plain("context.fail(event === 1 ? new Error('f') : undefined);", events=TWO),
    "context.done": plain("event === 1 ? context.done(null, 'd') : context.done(new Error('d'));", events=TWO),
    "context.succeed, then context.fail": plain("context.succeed(1); context.fail(new Error('late'));"),
    "context.succeed does not wait": plain("setTimeout(() => {}, 20_000); context.succeed(event);", events=TWO),
    "context.succeed after the end": plain("setTimeout(() => context.succeed?.('x'), 10); return 1;"),
    "a handler with four parameters": Case({"index.js": "exports.handler = async (a, b, c, d) => [typeof c, typeof d];"}),
    "a handler with rest parameters": Case({"index.js": "exports.handler = async (...all) => all.length;"}),
    "a handler that is a class": Case({"index.js": "exports.handler = class { constructor() { console.log('made'); } };"}),
    "a handler's own this": Case({"index.js": "exports.handler = async function () { return [typeof this, this === undefined, typeof this?.handler]; };"}),
    # Finding the handler.
    "a module": module("return import.meta.url.startsWith('file://');"),
    "a module by package.json": Case({"index.js": "export const handler = async () => typeof require;", "package.json": '{"type":"module"}'}),
    "a module by a folder's package.json": Case({"a/index.js": "export const handler = async () => 1;", "a/package.json": '{"type":"module"}', "package.json": "{}"}, "a/index.handler"),
    "a package.json that is broken": Case({"index.js": "exports.handler = async () => 1;", "package.json": "{bad"}),
    "CommonJS by its name": Case({"index.cjs": "exports.handler = async () => typeof require;", "package.json": '{"type":"module"}'}),
    "JavaScript before a module": Case({"index.js": "exports.handler = async () => 'js';", "index.mjs": "export const handler = async () => 'mjs';", "index.cjs": "exports.handler = async () => 'cjs';"}),
    "a module before CommonJS by name": Case({"index.mjs": "export const handler = async () => 'mjs';", "index.cjs": "exports.handler = async () => 'cjs';"}),
    "await at the top of a module": module("return value;", "const value = await new Promise((resolve) => setTimeout(() => resolve('top'), 10));"),
    "a default export": Case({"index.mjs": "export default async () => 'default';"}, "index.default"),
    "a handler in a default export": Case({"index.mjs": "export default { handler: async () => 'inside' };"}),
    "exports that are assigned": Case({"index.js": "module.exports = { handler: async () => 'assigned' };"}),
    "exports that are computed": Case({"index.js": "module['exp' + 'orts'] = { ['hand' + 'ler']: async () => 'computed' };"}),
    "a function as exports": Case({"index.js": "module.exports = async () => 1; module.exports.handler = async () => 'member';"}),
    "a file in folders": Case({"a/b/index.js": "exports.handler = async () => __filename.split('/').slice(-3);"}, "a/b/index.handler"),
    "a file with dashes": Case({"my-file.js": "exports.my_handler = async () => 1;"}, "my-file.my_handler"),
    "a nested export": Case({"index.js": "exports.a = { b: { handler: async () => 'nested' } };"}, "index.a.b.handler"),
    "a nested export that is missing": Case({"index.js": "exports.a = {};"}, "index.a.b.handler"),
    "a nested export of a module": Case({"index.mjs": "export const a = { handler: async () => 'nested' };"}, "index.a.handler"),
    "a package": Case({"node_modules/pack/index.js": "exports.handler = async () => 'pack';"}, "pack.handler"),
    "a folder as module": Case({"pack/index.js": "exports.handler = async () => 'folder';"}, "pack.handler"),
    "a dependency": Case({"index.js": "const dep = require('dep'); exports.handler = async () => dep;", "node_modules/dep/index.js": "module.exports = 'dep';"}),
    "a dependency of a module": Case({"index.mjs": "import dep from 'dep'; export const handler = async () => dep;", "node_modules/dep/package.json": '{"main":"m.js"}', "node_modules/dep/m.js": "module.exports = 'dep';"}),
    "a file of JSON": Case({"index.js": "exports.handler = async () => require('./data.json');", "data.json": '{"a":1}'}),
    "a file of the function by its path": Case({"index.js": "exports.handler = async () => require(process.env.LAMBDA_TASK_ROOT + '/other.js');", "other.js": "module.exports = 1;"}),
    "a byte order mark in code": Case({"index.js": "\ufeffexports.handler = async () => 'bom';"}),
    "characters of every width in code": module("return 'é€😀';"),
    "no main module": Case({"index.js": "exports.handler = async () => [require.main === module, typeof require.main, typeof module.parent];"}),
    "a file that is missing": Case({}, "nope.handler"),
    "a handler that is missing": Case({"index.js": "exports.x = 1;"}),
    "a handler that is missing in a module": Case({"index.mjs": "export const x = 1;"}),
    "a handler that is no function": Case({"index.js": "exports.handler = 3;"}),
    "a handler that is false": Case({"index.js": "exports.handler = 0;"}),
    "a handler without file": Case({"index.js": ""}, "handler"),
    "a handler in a folder above": Case({"index.js": ""}, "../index.handler"),
    # Errors of init.
    "a dependency that is missing": Case({"index.js": "require('missing');"}),
    "a dependency that is missing deeper": Case({"index.js": "require('./other');", "other.js": "require('./nowhere.js');"}),
    "a dependency of a module that is missing": Case({"index.mjs": "import 'missing';"}),
    "an export of a module that is missing": Case({"index.mjs": "import { a } from './other.mjs';", "other.mjs": "export const b = 1;"}),
    "a syntax error": Case({"index.js": "exports.handler = async ( => 1;"}),
    "a syntax error of a module": Case({"index.mjs": "export const handler = async ( => 1;"}),
    "a syntax error in a dependency": Case({"index.js": "require('./other');", "other.js": "const = 1;"}),
    "an exception of init": Case({"index.js": "console.log('before');\nfunction f() { throw new Error('no\\nway é'); }\nf();"}),
    "an exception of a module's init": Case({"index.mjs": "console.log('before');\nthrow Object.assign(new TypeError('no'), { code: 1 });"}),
    "a text that is thrown in init": Case({"index.js": "throw 'text';"}),
    "a rejection of a module's init": Case({"index.mjs": "await Promise.reject(new Error('awaited'));"}),
    "an exit of init": Case({"index.js": "console.log('x');\nprocess.exit(4);"}),
    # Errors of the handler.
    "errors of every kind": thrown(*ERRORS),
    "an exception": asynchronous("inner();", "function inner() { throw new RangeError('inner'); }", events=TWO),
    "an exception of a module": module("inner();", "function inner() { throw new RangeError('inner'); }"),
    "an exception of what is not asynchronous": plain("throw new Error('sync');", events=TWO),
    "a promise that is rejected": plain("return Promise.reject(new Error('rejected'));", events=TWO),
    "a missing member": asynchronous("return event.a.b;"),
    "an exception in a dependency": Case({"index.js": "const { f } = require('./other');\nexports.handler = async () => f();", "other.js": "exports.f = () => { null.x; };"}),
    "an exception after a wait": asynchronous("await new Promise((resolve) => setTimeout(resolve, 5)); throw new Error('later');"),
    "deep recursion": asynchronous("const f = () => f(); f();"),
    "an exception, then an answer": asynchronous("if (event === 1) throw new Error(event); return 'well';", events=TWO),
    "an exception that nobody catches": asynchronous("await new Promise(() => setTimeout(() => { throw new Error('uncaught'); }, 5));", events=TWO),
    "a text that nobody catches": asynchronous("await new Promise(() => setTimeout(() => { throw 'uncaught'; }, 5));"),
    "a rejection that nobody catches": asynchronous("Promise.reject(new Error('unhandled')); await new Promise((resolve) => setTimeout(resolve, 2000));", events=TWO),
    "a rejection with a text": asynchronous("Promise.reject('unhandled'); await new Promise((resolve) => setTimeout(resolve, 2000));"),
    "a rejection with nothing": asynchronous("Promise.reject(); await new Promise((resolve) => setTimeout(resolve, 2000));"),
    "a rejection of a callback handler": calling_back("Promise.reject(new Error('unhandled')); setTimeout(() => callback(null, 1), 2000);"),
    "an own listener for rejections": asynchronous("Promise.reject(new Error('own')); await new Promise((resolve) => setTimeout(resolve, 50)); return 1;", "process.removeAllListeners('unhandledRejection'); process.on('unhandledRejection', () => console.log('own listener'));"),
    "a promise that never settles": asynchronous("await new Promise(() => {});", events=TWO),
    "an exit": asynchronous("console.log('bye'); process.exit(3);"),
    "an exit with success": asynchronous("process.exit(0);"),
    "an exit code that is set": asynchronous("process.exitCode = 5; return 1;"),
    "an abrupt end": asynchronous("process.kill(process.pid, 'SIGKILL'); await new Promise((resolve) => setTimeout(resolve, 2000));"),
    "a warning of Node.js": asynchronous("process.emitWarning('careful'); await new Promise((resolve) => setTimeout(resolve, 20)); return 1;", variables={"NODE_NO_WARNINGS": "1"}),
    # The context.
    "the context": asynchronous(
        "return [context, Object.keys(context), typeof context.getRemainingTimeInMillis(), context.getRemainingTimeInMillis() > 50_000, typeof context.done, typeof context.succeed, typeof context.fail];",
        events=[({}, {}), ({}, CONTEXT)],
    ),
    "a context that is changed": asynchronous("context.functionName = 'mine'; context.more = 1; return [context.functionName, context.more, context.callbackWaitsForEmptyEventLoop];", events=TWO),
    "the client context": asynchronous(
        "return [context.clientContext, context.identity];", events=[({}, CONTEXT), ({}, {"Lambda-Runtime-Client-Context": "{}"}), ({}, {"Lambda-Runtime-Client-Context": "5"})]
    ),
    "a client context that is no JSON": asynchronous("return 1;", events=[({}, {"Lambda-Runtime-Client-Context": "{bad"}), ({}, {})]),
    "an identity that is no JSON": asynchronous("return 1;", events=[({}, {"Lambda-Runtime-Cognito-Identity": "{bad"}), ({}, {})]),
    "no time left": asynchronous("return context.getRemainingTimeInMillis() < 0;", events=[({}, {"Lambda-Runtime-Deadline-Ms": "1000"})]),
    "the context without ARN": asynchronous("return context.invokedFunctionArn;", events=[({}, {"Lambda-Runtime-Invoked-Function-Arn": ""})]),
    "the trace": asynchronous("return process.env._X_AMZN_TRACE_ID ?? null;", events=[({}, {}), ({}, {"Lambda-Runtime-Trace-Id": "Root=1-2-3"}), ({}, {"Lambda-Runtime-Trace-Id": None})]),
    "variables stay": asynchronous("return [process.env.AWS_LAMBDA_RUNTIME_API !== '', process.env._HANDLER, process.cwd() === process.env.LAMBDA_TASK_ROOT];"),
    "the global object": asynchronous("return [typeof awslambda, Object.keys(globalThis.awslambda ?? {}).sort(), typeof awslambda?.HttpResponseStream?.from];"),
    "no global object": asynchronous("return typeof awslambda;", variables={"AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA": "1"}),
    "the store of invocations": asynchronous(
        "const store = globalThis.awslambda.InvokeStore; if (!store) return null; store.set('mine', event);"
        " try { store.set(Symbol.for('_AWS_LAMBDA_REQUEST_ID'), 1); } catch (error) { console.log(error.message); }"
        " return [store.getRequestId(), store.getXRayTraceId(), store.getTenantId() ?? null, store.get('mine'), store.hasContext(), Object.keys(store.getContext())];",
        "console.log(globalThis.awslambda.InvokeStore?.getRequestId(), globalThis.awslambda.InvokeStore?.hasContext());",
        events=TWO,
    ),
    "the global request": asynchronous("return [globalThis[Symbol.for('aws.lambda.runtime.requestId')] ?? null, globalThis[Symbol.for('aws.lambda.runtime.tenantId')] ?? null];", events=[({}, {}), ({}, CONTEXT)]),
    # Output.
    "the console": asynchronous(LOGS),
    "errors in the console": asynchronous(LOGGED_ERRORS),
    "levels": asynchronous(LEVELS),
    "other ways of the console": asynchronous("console.dir({ a: 1 }); console.table([{ a: 1 }]); console.assert(false, 'no'); console.group('g'); console.log('inside'); console.groupEnd(); console.count(); console.timeStamp?.();"),
    "the console of init": asynchronous("console.log('handler');", "console.log('init'); console.error('wrong');"),
    "the console between invocations": asynchronous("setTimeout(() => console.log('of', event), 1); await new Promise((resolve) => setTimeout(resolve, 20)); return 1;", events=TWO),
    "standard output": asynchronous("process.stdout.write('one\\n'); console.log('two'); process.stdout.write('three'); process.stderr.write('four\\n');"),
    "output of a child": asynchronous("console.log('before'); require('child_process').execFileSync('echo', ['child'], { stdio: 'inherit' }); console.log('after');"),
    "output of descriptors": asynchronous("require('fs').writeSync(1, 'raw\\n'); console.log('p');"),
    "many lines": asynchronous("for (let i = 0; i < 2000; i++) console.log(i);"),
    "standard input": asynchronous("return require('fs').readFileSync(0, 'utf8');"),
    "the console of a thread": asynchronous("const { Worker } = require('worker_threads'); await new Promise((resolve) => new Worker('console.log(\"thread\")', { eval: true, execArgv: [] }).on('exit', () => setTimeout(resolve, 50))); return 1;"),
    # Formats and levels of the configuration.
    "lines as JSON": asynchronous(LOGS, variables=JSON, events=[({}, {}), ({}, CONTEXT)]),
    "errors in lines as JSON": asynchronous(LOGGED_ERRORS, variables=JSON),
    "JSON in init": asynchronous("return 1;", "console.log('init', { a: 1 });", variables=JSON),
    "errors of every kind as JSON": thrown(*(error for error in ERRORS if "toJSON" not in error), variables=JSON),
    "an error of init as JSON": Case({"index.js": "throw new Error('init é');"}, variables=JSON),
    "a rejection as JSON": asynchronous("Promise.reject(new Error('unhandled')); await new Promise((resolve) => setTimeout(resolve, 2000));", variables=JSON),
    **{
        f"level {level} of {form}": asynchronous(LEVELS, variables={"AWS_LAMBDA_LOG_LEVEL": level, "AWS_LAMBDA_LOG_FORMAT": form})
        for form, level in [("JSON", "TRACE"), ("json", "debug"), ("JSON", "INFO"), ("Text", "WARN"), ("JSON", "ERROR"), ("JSON", "FATAL"), ("JSON", "odd")]
    },
    # Responses as streams.
    "a stream": streaming("stream.write('a'); stream.write(Buffer.from('é')); stream.write({ json: 1 }); stream.end();", events=TWO),
    "a stream's end with a chunk": streaming("stream.end('all');"),
    "a stream without chunks": streaming("stream.end();", events=TWO),
    "a stream's type": streaming("stream.setContentType('text/plain'); stream.write('a'); try { stream.setContentType('x/y'); } catch (error) { console.log(error.name, error.message); } stream.end();"),
    "a stream with a prelude": streaming("const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: 'b' } }); http.write('body'); http.end();"),
    "a stream of a pipeline": streaming("await pipeline(Readable.from(['a', 'b', 'c']), stream);", "import { pipeline } from 'stream/promises'; import { Readable } from 'stream';"),
    "a large stream": streaming("for (let i = 0; i < 20; i++) if (!stream.write('x'.repeat(100_000))) await new Promise((resolve) => stream.once('drain', resolve)); stream.end();"),
    "a stream that is slow": streaming("for (const part of 'abc') { stream.write(part); await new Promise((resolve) => setTimeout(resolve, 10)); } stream.end();"),
    "a stream that fails before it begins": streaming("throw new RangeError('early');", events=TWO),
    "a stream that fails in its middle": streaming("stream.write('half'); throw new RangeError('middle');", events=TWO),
    "a stream that fails with a text": streaming("stream.write('half'); throw 'text';"),
    "a stream with a returned value": streaming("stream.end('x'); return 'ignored';"),
    "a stream without promise": Case({"index.js": "exports.handler = awslambda.streamifyResponse((event, stream) => { stream.end('x'); });"}),
    "a stream's context": streaming("stream.end(JSON.stringify([Object.keys(context), context.awsRequestId]));"),
    "an event of a stream that is no JSON": streaming("stream.end('x');", events=[({}, {})], variables={"AWS_LAMBDA_LOG_LEVEL": "ERROR"}),
}


# What waits for an empty event loop: since Node.js 24 nothing does.
WAITING = {
    "work after an answer without promise": plain("setTimeout(() => console.log('worked'), 10); return 1;"),
    "a stream, then work": streaming("stream.end('x'); setTimeout(() => console.log('worked', event), 20);", events=TWO),
}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_both_clients_do_the_same(same, generation, name):
    same(generation, CASES[name])


# What writes log records, with a pipe of their own for them.
FRAMED = [
    "an exception", "an exception of init", "a rejection that nobody catches", "the console", "errors in the console", "levels",
    "the console of init", "output of descriptors", "lines as JSON", "errors in lines as JSON", "JSON in init",
    "an error of init as JSON", "a stream that fails in its middle",
]


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("name", FRAMED)
def test_both_clients_frame_their_records_alike(same, generation, name):
    same(generation, dataclasses.replace(CASES[name], framed=True))


@pytest.mark.parametrize("name", WAITING)
def test_before_node_24_both_clients_wait_for_an_empty_event_loop(same, name):
    same("node", WAITING[name])
