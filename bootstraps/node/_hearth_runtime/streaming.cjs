// Responses that are sent while they are made (`awslambda.streamifyResponse`): one chunked post, whose trailers tell an
// error (spec 4.3).

'use strict';

const { Writable } = require('node:stream');
const { described, fault } = require('./errors.cjs');
const { logError } = require('./log.cjs');

const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body';

/** A handler's stream. `answered` is a promise of the platform's answer to it. */
class ResponseStream extends Writable {
  constructor(connection, id, highWaterMark) {
    super({ highWaterMark, decodeStrings: true });
    this.connection = connection;
    this.target = `invocation/${id}/response`;
    this.contentType = 'application/octet-stream';
    this.isWritten = false;
    this.answered = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Who awaits it is told all the same.
    this.answered.catch(() => {});
    this.on('error', this.reject);
    // It is the function's turn until this is answered.
    connection.socket.ref();
    connection.onLost = this.reject;
  }

  setContentType(type) {
    if (this.isWritten) throw fault('InvalidStreamingOperation', 'Cannot set content-type, too late.');
    this.contentType = type;
  }

  write(chunk, encoding, then) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    const first = !this.isWritten && this._onBeforeFirstWrite;
    if (typeof first === 'function') first((text) => super.write(text));
    this.isWritten = true;
    return super.write(chunk, encoding, then);
  }

  _construct(then) {
    then();
  }

  _write(chunk, _, then) {
    const head = this.begin();
    const size = Buffer.from(`${chunk.length.toString(16)}\r\n`);
    // A chunk without bytes would be the end.
    if (chunk.length === 0) this.send(head, then);
    else this.send(Buffer.concat([head, size, chunk, Buffer.from('\r\n')]), then);
  }

  _final(then) {
    let text = '0\r\n';
    if (this.failure) {
      const told = described(this.failure.error);
      text += `${ERROR_TYPE}: ${String(told.errorType).replace(/[^\t\x20-\x7e]/g, '?')}\r\n`;
      text += `${ERROR_BODY}: ${Buffer.from(JSON.stringify(told)).toString('base64')}\r\n`;
    }
    this.send(Buffer.concat([this.begin(), Buffer.from(`${text}\r\n`)]), then);
  }

  _destroy(error, then) {
    // What is half said cannot be taken back on this connection.
    if (this.isBegun && !this.writableFinished) {
      this.reject(error ?? new Error('the response was destroyed'));
      this.connection.socket.destroy();
      this.connection.connect();
    }
    then(error);
  }

  /** The head, when nothing was sent yet. */
  begin() {
    if (this.isBegun) return Buffer.alloc(0);
    this.isBegun = true;
    this.connection.waiting.push(this.resolve);
    return this.connection.head(this.target, {
      'Lambda-Runtime-Function-Response-Mode': 'streaming',
      Trailer: `${ERROR_TYPE}, ${ERROR_BODY}`,
      'Content-Type': this.contentType,
      'Transfer-Encoding': 'chunked',
    });
  }

  send(bytes, then) {
    this.connection.socket.write(bytes, then);
  }

  fail(error, then) {
    // Whoever ended it has had the last word.
    if (!this.writableEnded) this.failure = { error };
    this.end(then);
  }
}

const isPromise = (value) => value && typeof value.then === 'function';

/** Runs a handler to the end of its response. What it throws is told in the trailers; `wrong` makes errors of texts. */
async function streamed(stream, returned, wrong) {
  if (!isPromise(returned)) throw wrong('Streaming does not support non-async handlers.');
  if ((await returned) !== undefined) console.warn('Streaming handlers ignore return values.');
  await stream.answered;
  if (!stream.writableFinished) throw wrong('Response stream is not finished.');
}

/** How a `Runtime` of callbacks handles an event. */
function beforeNode24(highWaterMark, whenIdle, given) {
  return async (runtime, headers, text) => {
    const stream = new ResponseStream(runtime.connection, runtime.id, highWaterMark);
    let waits = true;
    const members = {
      get callbackWaitsForEmptyEventLoop() {
        return waits;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        waits = value;
      },
    };
    const next = () => {
      runtime.connection.onLost = undefined;
      runtime.next();
    };
    try {
      whenIdle(next);
      given(members, headers);
      const event = JSON.parse(text);
      await streamed(stream, runtime.handler(event, stream, members), (text) => text);
      runtime.connection.socket.unref();
      whenIdle(() => {});
      if (waits) whenIdle(() => setImmediate(next));
      else next();
    } catch (error) {
      logError('Invoke Error', error);
      stream.fail(error, next);
    }
  };
}

class StreamingInvokeProcessor {
  constructor(connection, handler, highWaterMark, asked) {
    Object.assign(this, { connection, handler, highWaterMark, asked });
  }

  async processInvoke(members, event) {
    const stream = new ResponseStream(this.connection, members.awsRequestId, this.highWaterMark);
    try {
      await streamed(stream, this.handler(event, stream, members), (text) => new Error(text));
    } catch (error) {
      await new Promise((resolve) => setImmediate(resolve));
      logError('Invoke Error', error);
      await new Promise((resolve) => stream.fail(error, resolve));
    }
    this.connection.onLost = undefined;
    return this.asked((taken) => this.connection.ask(taken));
  }
}

const sinceNode24 = (...parts) => new StreamingInvokeProcessor(...parts);

module.exports = { beforeNode24, sinceNode24 };
