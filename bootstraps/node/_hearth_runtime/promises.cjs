// Invocations since Node.js 24: what a handler returns is awaited, and there is no other way to answer.

'use strict';

const context = require('./context.cjs');
const { described, fault } = require('./errors.cjs');
const handlers = require('./handler.cjs');
const { logError, patchConsole } = require('./log.cjs');

const CALLBACKS =
  'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.';

/** What AWS's SDK and others find as `awslambda.InvokeStore`. */
class InvokeStore {
  static PROTECTED_KEYS = {
    REQUEST_ID: Symbol.for('_AWS_LAMBDA_REQUEST_ID'),
    X_RAY_TRACE_ID: Symbol.for('_AWS_LAMBDA_X_RAY_TRACE_ID'),
    TENANT_ID: Symbol.for('_AWS_LAMBDA_TENANT_ID'),
  };

  isProtectedKey(key) {
    return Object.values(InvokeStore.PROTECTED_KEYS).includes(key);
  }

  getContext() {
    return this.current;
  }

  hasContext() {
    return this.current !== undefined;
  }

  get(key) {
    return this.current?.[key];
  }

  set(key, value) {
    if (this.isProtectedKey(key)) throw new Error(`Cannot modify protected Lambda context field: ${String(key)}`);
    this.current ??= {};
    this.current[key] = value;
  }

  run(values, then) {
    this.current = values;
    return then();
  }

  getRequestId() {
    return this.get(InvokeStore.PROTECTED_KEYS.REQUEST_ID) ?? '-';
  }

  getXRayTraceId() {
    return this.get(InvokeStore.PROTECTED_KEYS.X_RAY_TRACE_ID);
  }

  getTenantId() {
    return this.get(InvokeStore.PROTECTED_KEYS.TENANT_ID);
  }
}

const endOfTurn = () => new Promise((resolve) => setImmediate(resolve));

function stringified(result) {
  let text;
  try {
    text = JSON.stringify(result === undefined ? null : result);
  } catch {
    throw fault('JSONStringifyError', 'Unable to stringify response body');
  }
  // As AWS's client says it when there is no JSON for a value.
  if (typeof text !== 'string') throw new TypeError('Wrong arguments');
  return text;
}

class BufferedInvokeProcessor {
  constructor(connection, handler) {
    this.connection = connection;
    this.handler = handler;
  }

  /** Answers, and asks for the next event; resolves to that. */
  async processInvoke(members, event) {
    try {
      const result = await this.handler(event, members);
      await endOfTurn();
      const text = stringified(result);
      return this.postAndAsk(members, 'response', text);
    } catch (error) {
      await endOfTurn();
      logError('Invoke Error', error);
      return this.postAndAsk(members, 'error', JSON.stringify(described(error)));
    }
  }

  postAndAsk({ awsRequestId }, path, text) {
    return asked((taken) => this.connection.postAndAsk(`invocation/${awsRequestId}/${path}`, text, taken));
  }
}

/** A promise of an event that is not yet parsed. */
const asked = (ask) => new Promise((resolve) => ask((headers, text) => resolve({ headers, text })));

async function run(connection, name) {
  const store = new InvokeStore();
  handlers.setGlobals({ InvokeStore: store });
  patchConsole(() => ({ requestId: store.getRequestId(), tenantId: store.getTenantId() || undefined }));
  const processor = await init(connection, name);
  const { REQUEST_ID, X_RAY_TRACE_ID } = InvokeStore.PROTECTED_KEYS;
  for (let next = asked((taken) => connection.ask(taken)); ; ) {
    const { headers, text } = await next;
    const members = { ...context.ofHeaders(headers), ...context.ofEnvironment() };
    context.setTrace(headers);
    const event = JSON.parse(text);
    const values = { [REQUEST_ID]: members.awsRequestId, [X_RAY_TRACE_ID]: members.xRayTraceId };
    next = store.run(values, () => processor.processInvoke(members, event));
  }
}

async function init(connection, name) {
  try {
    const place = handlers.parse(name);
    const module = await handlers.loaded(handlers.loadByImport, place);
    const handler = handlers.checked(resolved(module, place.exported), name);
    const { streaming, highWaterMark } = handlers.metadata(handler);
    if (handler.length >= 3 && !streaming) throw fault('CallbackHandlerDeprecated', CALLBACKS);
    if (!streaming) return new BufferedInvokeProcessor(connection, handler);
    return require('./streaming.cjs').sinceNode24(connection, handler, highWaterMark, asked);
  } catch (error) {
    logError('Init Error', error);
    const text = described(error);
    const type = { 'Lambda-Runtime-Function-Error-Type': text.errorType };
    await new Promise((resolve) => connection.post('init/error', JSON.stringify(text), type, resolve));
    throw error;
  }
}

function resolved(module, name) {
  const find = (from) =>
    name.split('.').reduce((nested, key) => (nested && typeof nested === 'object' ? nested[key] : undefined), from);
  return find(module) || (typeof module === 'object' && module && 'default' in module ? find(module.default) : undefined);
}

module.exports = { run };
