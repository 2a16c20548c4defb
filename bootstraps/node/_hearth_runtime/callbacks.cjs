// Invocations before Node.js 24. A handler answers by a promise, a callback, `context.done`, or not at all: then the
// answer is `null` once nothing is left to do.

'use strict';

const context = require('./context.cjs');
const { described, fault } = require('./errors.cjs');
const handlers = require('./handler.cjs');
const { logError, patchConsole } = require('./log.cjs');

const REQUEST = Symbol.for('aws.lambda.runtime.requestId');
const TENANT = Symbol.for('aws.lambda.runtime.tenantId');
const WHEN_IDLE = Symbol.for('aws.lambda.beforeExit');

/** What runs when nothing is left to do. */
const whenIdle = (then) => {
  globalThis[WHEN_IDLE] = then;
};
const stringified = (result) => {
  try {
    return JSON.stringify(result === undefined ? null : result);
  } catch {
    throw new Error('Unable to stringify response body');
  }
};

class Runtime {
  constructor(connection, handler) {
    this.connection = connection;
    this.handler = handler;
    this.streaming = undefined;
  }

  next() {
    setImmediate(() => this.handleOnce());
  }

  async handleOnce() {
    // Out of the connection's turn: what a handler throws, and the frames below it, are its own.
    const { headers, text } = await new Promise((resolve) => {
      this.connection.ask((headers, text) => resolve({ headers, text }));
    });
    this.id = headers['lambda-runtime-aws-request-id'];
    globalThis[REQUEST] = this.id;
    globalThis[TENANT] = headers['lambda-runtime-aws-tenant-id'];
    if (this.streaming) return this.streaming(this, headers, text);
    const { id } = this;
    // Late answers to this invocation are not the next one's.
    const { callback, members, posted } = answers(this, id);
    try {
      whenIdle(() => {
        posted();
        this.post(id, null);
        this.next();
      });
      const event = JSON.parse(text);
      const result = this.handler(event, given(members, headers), callback);
      if (isPromise(result)) result.then(members.succeed, members.fail).catch(members.fail);
    } catch (error) {
      callback(error);
    }
  }

  post(id, result) {
    const text = stringified(result);
    // As AWS's client says it when there is no JSON for a value.
    if (typeof text !== 'string') throw new TypeError('Wrong arguments');
    this.connection.post(`invocation/${id}/response`, text);
  }

  postError(id, error) {
    logError('Invoke Error', error);
    this.connection.post(`invocation/${id}/error`, JSON.stringify(described(error)));
  }
}

/** Members of a context, and the rest of it. */
function given(members, headers) {
  context.setTrace(headers);
  return Object.assign(members, context.ofEnvironment(), context.ofHeaders(headers));
}

const isPromise = (value) => value && value.then && typeof value.then === 'function';

/** The ways to answer one invocation; the first that is gone to its end counts. */
function answers(runtime, id) {
  let finished = false;
  let isPosted = false;
  let waits = true;

  const complete = (result) => {
    if (isPosted) {
      console.error('Invocation has already been reported as done. Cannot call complete more than once per invocation.');
      return;
    }
    isPosted = true;
    runtime.post(id, result);
    runtime.next();
  };
  const failed = (error) => {
    runtime.postError(id, error);
    runtime.next();
  };
  const isGiven = (error) => error !== undefined && error !== null;
  const once = (answer) =>
    function (...values) {
      if (finished) return;
      answer(...values);
      finished = true;
    };

  const done = (error, result) => {
    whenIdle(() => {});
    if (isGiven(error)) failed(error);
    else complete(result);
  };
  const callback = (error, result) => {
    whenIdle(() => {});
    if (isGiven(error)) failed(error);
    else if (waits) whenIdle(() => setImmediate(() => complete(result)));
    else complete(result);
  };
  const members = {
    get callbackWaitsForEmptyEventLoop() {
      return waits;
    },
    set callbackWaitsForEmptyEventLoop(value) {
      waits = value;
    },
    succeed: once((result) => done(null, result)),
    fail: once((error) => (isGiven(error) ? done(error, null) : done('handled'))),
    done: once(done),
  };
  return { callback: once(callback), members, posted: () => (isPosted = true) };
}

/** An error that nobody caught is the invocation's, before the first one of init; it ends the process. */
function crash(connection, runtime, title, error, code) {
  logError(title, error);
  const text = JSON.stringify(described(error));
  if (runtime?.id) {
    connection.postAndExit(`invocation/${runtime.id}/error`, text, code);
  } else {
    const type = { 'Lambda-Runtime-Function-Error-Type': described(error).errorType };
    connection.post('init/error', text, type, () => process.exit(code));
  }
}

function rejection(reason, promise) {
  const error = fault('UnhandledPromiseRejection', reason);
  return Object.assign(error, { reason, promise });
}

async function run(connection, name) {
  patchConsole(() => ({ requestId: globalThis[REQUEST], tenantId: globalThis[TENANT] ?? undefined }));
  let runtime;
  process.on('uncaughtException', (error) => crash(connection, runtime, 'Uncaught Exception', error, 129));
  process.on('unhandledRejection', (reason, promise) => {
    crash(connection, runtime, 'Unhandled Promise Rejection', rejection(reason, promise), 128);
  });
  whenIdle(() => {});
  process.on('beforeExit', () => globalThis[WHEN_IDLE]());
  try {
    const place = handlers.parse(name);
    handlers.setGlobals();
    const handler = handlers.checked(resolved(await handlers.loaded(handlers.load, place), place.exported), name);
    const { streaming, highWaterMark } = handlers.metadata(handler);
    runtime = new Runtime(connection, handler);
    if (streaming) runtime.streaming = require('./streaming.cjs').beforeNode24(highWaterMark, whenIdle, given);
  } catch (error) {
    crash(connection, runtime, 'Uncaught Exception', error, 129);
    return;
  }
  runtime.next();
}

const resolved = (module, name) => name.split('.').reduce((nested, key) => nested && nested[key], module);

module.exports = { run };
