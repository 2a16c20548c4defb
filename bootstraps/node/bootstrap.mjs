// Hearth's Runtime API client for Node.js: takes events, calls the handler, posts what it returns.
//
// It speaks HTTP/1.1 over one kept socket by hand: Node's own HTTP client costs three times as much a call. What
// functions can see follows AWS's runtime: the context, error payloads, log lines.

import net from 'node:net';
import fs from 'node:fs';
import path from 'node:path';
import util from 'node:util';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const TASK_ROOT = process.env.LAMBDA_TASK_ROOT;
const [HOST, PORT] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const NODE_MAJOR = Number(process.versions.node.split('.')[0]);

let requestId;
/** What a callback's answer waits with for an empty event loop. */
let whenIdle = () => {};

/** One kept connection to the Runtime API. Requests follow one another. */
class Connection {
  constructor() {
    this.buffer = Buffer.alloc(0);
    this.socket = net.connect({ host: HOST, port: Number(PORT), noDelay: true });
    this.socket.on('data', (data) => {
      this.buffer = this.buffer.length ? Buffer.concat([this.buffer, data]) : data;
      this.advance();
    });
    this.socket.on('error', (error) => this.fail(error));
    this.socket.on('close', () => this.fail(new Error('the Runtime API closed the connection')));
  }

  request(method, target, headers = {}, body = Buffer.alloc(0)) {
    let head = `${method} /2018-06-01/runtime/${target} HTTP/1.1\r\nHost: ${HOST}:${PORT}\r\nContent-Length: ${body.length}\r\n`;
    for (const [name, value] of Object.entries(headers)) head += `${name}: ${value}\r\n`;
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.socket.write(Buffer.concat([Buffer.from(`${head}\r\n`, 'latin1'), body]));
    });
  }

  advance() {
    if (!this.head) {
      const end = this.buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      const [status, ...lines] = this.buffer.toString('latin1', 0, end).split('\r\n');
      const headers = {};
      for (const line of lines) {
        const colon = line.indexOf(':');
        headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
      }
      this.head = { status: Number(status.split(' ')[1]), headers, length: Number(headers['content-length'] ?? 0) };
      this.buffer = this.buffer.subarray(end + 4);
    }
    if (this.buffer.length < this.head.length) return;
    const { status, headers, length } = this.head;
    const body = this.buffer.subarray(0, length);
    this.buffer = this.buffer.subarray(length);
    this.head = undefined;
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting?.resolve({ status, headers, body });
  }

  fail(error) {
    this.waiting?.reject(error);
    this.waiting = undefined;
  }
}

/** An error of init or of the answer that has a type of AWS's own. */
class Fault extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

function write(text) {
  // Synchronous, so that what was logged before the answer is there when the answer is.
  let bytes = Buffer.from(text);
  while (bytes.length) {
    try {
      bytes = bytes.subarray(fs.writeSync(1, bytes));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

function log(level, message) {
  const line = `${new Date().toISOString()}\t${requestId}\t${level}\t${message}`;
  write(`${line.replace(/\n/g, '\r')}\n`);
}

function patchConsole() {
  const at = (level) => (...args) => log(level, util.format(...args));
  console.log = at('INFO');
  console.debug = at('DEBUG');
  console.info = at('INFO');
  console.warn = at('WARN');
  console.error = at('ERROR');
  console.trace = at('TRACE');
  console.fatal = at('FATAL');
}

/** What a caller sees of an error (spec 2.2). */
function describe(error) {
  if (error instanceof Error || util.types.isNativeError(error)) {
    return {
      errorType: error.name?.replaceAll('\x7F', '%7F') ?? 'Error',
      errorMessage: error.message?.replaceAll('\x7F', '%7F') ?? '',
      trace: (error.stack ?? '').replaceAll('\x7F', '%7F').split('\n'),
    };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function loggable(error) {
  const fields = { errorType: describe(error).errorType, errorMessage: describe(error).errorMessage };
  if (error instanceof Error) {
    for (const key of Object.keys(error)) if (key !== 'name' && key !== 'message') fields[key] = error[key];
    fields.stack = (error.stack ?? '').split('\n');
  } else {
    fields.trace = [];
  }
  return JSON.stringify(fields);
}

async function postError(connection, target, error, title) {
  const described = describe(error);
  log('ERROR', `${title}\t${loggable(error)}`);
  const headers = { 'Content-Type': 'application/json', 'Lambda-Runtime-Function-Error-Type': headerSafe(described.errorType) };
  await connection.request('POST', target, headers, Buffer.from(JSON.stringify(described)));
}

function headerSafe(text) {
  return String(text).replace(/[^\x20-\x7e]/g, '?');
}

const HANDLER = /^([^.]*)\.(.*)$/;

async function loadHandler(name) {
  if (name.includes('..')) throw new Fault('Runtime.MalformedHandlerName', `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  const file = path.basename(name);
  const folder = name.slice(0, name.length - file.length);
  const match = HANDLER.exec(file);
  if (!match) throw new Fault('Runtime.MalformedHandlerName', 'Bad handler');
  const [, moduleName, exported] = match;
  const module = await loadModule(folder, moduleName);
  let handler = module;
  for (const part of exported.split('.')) handler = handler?.[part];
  if (handler === undefined) throw new Fault('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${name} is not a function`);
  if (NODE_MAJOR >= 24 && handler.length > 2) {
    throw new Fault('Runtime.CallbackHandlerDeprecated', 'AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later.');
  }
  return handler;
}

async function loadModule(folder, moduleName) {
  const base = path.resolve(TASK_ROOT, folder, moduleName);
  const require = createRequire(path.join(TASK_ROOT, 'index.js'));
  const there = (file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile();
  try {
    if (there(base)) return require(base);
    if (there(`${base}.js`)) {
      return isModule(path.dirname(base)) ? await importFile(`${base}.js`) : require(`${base}.js`);
    }
    if (there(`${base}.mjs`)) return await importFile(`${base}.mjs`);
    if (there(`${base}.cjs`)) return require(`${base}.cjs`);
    return require(require.resolve(moduleName, { paths: [TASK_ROOT, path.join(TASK_ROOT, folder)] }));
  } catch (error) {
    if (error instanceof SyntaxError) {
      const fault = new Fault('Runtime.UserCodeSyntaxError', `SyntaxError: ${error.message}`);
      fault.stack = error.stack;
      throw fault;
    }
    if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
      const fault = new Fault('Runtime.ImportModuleError', `Error: ${error.message}`);
      fault.stack = error.stack;
      throw fault;
    }
    throw error;
  }
}

async function importFile(file) {
  return import(pathToFileURL(file).href);
}

function isModule(folder) {
  for (let at = folder; ; at = path.dirname(at)) {
    const file = path.join(at, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8')).type === 'module';
      } catch {
        return false;
      }
    }
    if (at === path.dirname(at)) return false;
  }
}

function contextOf(headers, settle) {
  const json = (name) => (headers[name] ? JSON.parse(Buffer.from(headers[name], 'latin1').toString('utf8')) : undefined);
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: json('lambda-runtime-client-context'),
    identity: json('lambda-runtime-cognito-identity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  if (NODE_MAJOR < 24) {
    context.done = (error, result) => settle(error, result, true);
    context.succeed = (result) => settle(null, result, true);
    context.fail = (error) => settle(error ?? new Error('handled'), undefined, true);
  }
  return context;
}

/** Runs the handler; resolves to its result. A promise, a callback and `context.done` all end it, the first wins. */
function call(handler, event, headers) {
  return new Promise((resolve, reject) => {
    let context;
    const settle = (error, result, now) => {
      const end = () => (error === null || error === undefined ? resolve(result) : reject(error));
      // A callback's answer waits for an empty event loop, unless the function says otherwise.
      if (now || !context.callbackWaitsForEmptyEventLoop) end();
      else process.once('beforeExit', (whenIdle = end));
    };
    context = contextOf(headers, settle);
    const returned = handler(event, context, (error, result) => settle(error, result, false));
    if (typeof returned?.then === 'function') returned.then(resolve, reject);
    else if (NODE_MAJOR >= 24) resolve(returned);
  });
}

function stringify(result) {
  try {
    return Buffer.from(JSON.stringify(result === undefined ? null : result) ?? 'null');
  } catch {
    throw new Fault('Runtime.MarshalError', 'Unable to stringify response body');
  }
}

async function serve(connection, handler) {
  for (;;) {
    const { status, headers, body } = await connection.request('GET', 'invocation/next');
    if (status !== 200) throw new Error(`the Runtime API answered ${status}`);
    requestId = headers['lambda-runtime-aws-request-id'];
    const trace = headers['lambda-runtime-trace-id'];
    if (trace) process.env._X_AMZN_TRACE_ID = trace;
    else delete process.env._X_AMZN_TRACE_ID;
    const target = `invocation/${requestId}/`;
    process.off('beforeExit', whenIdle);
    try {
      connection.socket.unref();
      const result = await call(handler, JSON.parse(body.toString('utf8')), headers).finally(() => connection.socket.ref());
      await connection.request('POST', `${target}response`, { 'Content-Type': 'application/json' }, stringify(result));
    } catch (error) {
      await postError(connection, `${target}error`, error, 'Invoke Error');
    }
  }
}

async function main() {
  patchConsole();
  const connection = new Connection();
  const crash = (title) => (error) => {
    const target = requestId ? `invocation/${requestId}/error` : 'init/error';
    let fault = error;
    if (title === 'Unhandled Promise Rejection') {
      fault = new Fault('Runtime.UnhandledPromiseRejection', error?.toString());
      fault.reason = error;
      fault.stack = [`Runtime.UnhandledPromiseRejection: ${error?.toString()}`, ...(new Error().stack ?? '').split('\n').slice(1)].join('\n');
    }
    connection.fail(new Error('the runtime is ending'));
    const last = new Connection();
    postError(last, target, fault, title).finally(() => process.exit(129));
  };
  process.on('uncaughtException', crash('Uncaught Exception'));
  process.on('unhandledRejection', crash('Unhandled Promise Rejection'));
  let handler;
  try {
    handler = await loadHandler(process.env._HANDLER ?? '');
  } catch (error) {
    await postError(connection, 'init/error', error, 'Uncaught Exception');
    process.exit(1);
  }
  await serve(connection, handler);
}

main();
