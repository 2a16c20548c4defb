// The console, in AWS's formats (spec 3.4).

'use strict';

const fs = require('node:fs');
const util = require('node:util');
const { SINCE_24, loggable, thrown } = require('./errors.cjs');

const JSON_FORMAT = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];

/** Where records go as frames, so that one may have many lines; else they go to descriptor 1. */
const LOG_FD = parseInt(process.env._LAMBDA_TELEMETRY_LOG_FD);
const FRAMED = LOG_FD >= 0;
delete process.env._LAMBDA_TELEMETRY_LOG_FD;

/** Lines name the request that `current` tells: `{ requestId, tenantId }`. */
function patchConsole(current) {
  const line = JSON_FORMAT ? jsonLine : textLine;
  const put = FRAMED ? writeFrame : writeLine;
  const least = Math.max(0, LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
  LEVELS.forEach((level, index) => {
    console[level.toLowerCase()] =
      index < least ? () => {} : (message, ...rest) => put(line(current(), level, message, rest), index + 1);
  });
  console.log = console.info;
}

function textLine({ requestId }, level, message, rest) {
  return `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(message, ...rest)}`;
}

function jsonLine({ requestId, tenantId }, level, message, rest) {
  const members = { timestamp: new Date().toISOString(), level, requestId, tenantId };
  if (rest.length === 0) {
    try {
      return JSON.stringify({ ...members, message }, (_, value) => (value instanceof Error ? ofError(value) : value));
    } catch {
      return JSON.stringify({ ...members, message: util.format(message) });
    }
  }
  members.message = util.format(message, ...rest);
  const error = (SINCE_24 ? rest : [message, ...rest]).find((each) => each instanceof Error);
  return JSON.stringify(error ? { ...members, ...told(error), stackTrace: told(error).stackTrace ?? [] } : members);
}

const ofError = (error) => ({ ...told(error), ...error });

function told(error) {
  return {
    errorType: error.constructor?.name ?? 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : error.stack,
  };
}

/** An error that ends an invocation or the process. */
function logError(title, error) {
  if (JSON_FORMAT) console.error(thrown(error));
  else console.error(title, `\t${loggable(thrown(error))}`);
}

function writeLine(text) {
  // A carriage return stays inside an event.
  write(1, Buffer.from(`${text.replaceAll('\n', '\r')}\n`));
}

function writeFrame(text, level) {
  const message = Buffer.from(JSON_FORMAT ? text : `${text}\n`);
  const head = Buffer.alloc(16);
  head.writeUInt32BE((0xa55a0002 | !JSON_FORMAT | (level << 2)) >>> 0, 0);
  head.writeUInt32BE(message.length, 4);
  head.writeBigUInt64BE(BigInt(Date.now()) * 1000n, 8);
  write(LOG_FD, Buffer.concat([head, message]));
}

/** Synchronous, so that what was logged before an answer is there when the answer is. */
function write(fd, bytes) {
  while (bytes.length) {
    try {
      bytes = bytes.subarray(fs.writeSync(fd, bytes));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

module.exports = { logError, patchConsole };
