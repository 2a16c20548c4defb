// The transport of AWS's clients for Node.js without its compiled part, which takes minutes to build: the same three
// calls, over Node's own HTTP client in a thread, so that `done` and `error` stop the caller as the compiled ones do.
// All that functions can see is the published client's.

import Module from 'node:module';
import { MessageChannel, Worker } from 'node:worker_threads';

const PATIENCE_MS = 60_000;

const thread = `
const http = require('node:http');
const { workerData: { address, port, flag } } = require('node:worker_threads');
const [host, number] = address.split(':');
const agent = new http.Agent({ keepAlive: true });

function request(method, path, headers, body, then) {
  const sent = http.request({ host, port: number, method, path: '/2018-06-01/runtime/' + path, headers, agent }, (answer) => {
    const parts = [];
    answer.on('data', (part) => parts.push(part));
    answer.on('end', () => then({ headers: answer.headers, body: Buffer.concat(parts).toString() }));
  });
  sent.on('error', () => process.exit(1));
  sent.end(body);
}

function post({ id, end, body, cause }) {
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
  if (cause) headers['Lambda-Runtime-Function-XRay-Error-Cause'] = Buffer.from(cause).toString('latin1');
  request('POST', 'invocation/' + id + '/' + end, headers, body, () => {
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);
  });
}

port.on('message', (message) => {
  if (message.end) post(message);
  else request('GET', 'invocation/next', {}, undefined, (answer) => port.postMessage(answer));
});
`;

const { port1: port, port2 } = new MessageChannel();
const flag = new Int32Array(new SharedArrayBuffer(4));
const workerData = { address: process.env.AWS_LAMBDA_RUNTIME_API, port: port2, flag };
// Without the caller's options, which would load this file again.
new Worker(thread, { eval: true, workerData, transferList: [port2], execArgv: [] }).unref();

function post(id, end, body, cause) {
  if (typeof id !== 'string' || typeof body !== 'string') throw new TypeError('Wrong arguments');
  Atomics.store(flag, 0, 0);
  port.postMessage({ id, end, body, cause });
  Atomics.wait(flag, 0, 0, PATIENCE_MS);
  return null;
}

/** Those that the compiled part passes on, as it does. */
function told(headers) {
  const text = (name) => Buffer.from(headers[name] ?? '', 'latin1').toString();
  const of = (name) => `lambda-runtime-${name}`;
  const members = { [of('deadline-ms')]: Number(headers[of('deadline-ms')]) };
  for (const name of ['aws-request-id', 'trace-id', 'invoked-function-arn']) members[of(name)] = text(of(name));
  for (const name of ['client-context', 'cognito-identity', 'aws-tenant-id']) {
    if (text(of(name))) members[of(name)] = text(of(name));
  }
  return members;
}

const native = {
  initializeClient() {},
  next() {
    port.ref();
    port.postMessage({});
    return new Promise((resolve) => {
      port.once('message', ({ headers, body }) => {
        port.unref();
        resolve({ bodyJson: body, headers: told(headers) });
      });
    });
  },
  done: (id, body) => post(id, 'response', body),
  error: (id, body, cause) => post(id, 'error', body, cause),
};

const load = Module._load;
Module._load = function (name, ...rest) {
  if (!String(name).endsWith('rapid-client.node')) return load.call(this, name, ...rest);
  // From here on frames of errors are as without this.
  Module._load = load;
  return native;
};
