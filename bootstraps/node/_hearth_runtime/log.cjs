// The console, in AWS's formats (spec 3.4).

'use strict';

const fs = require('node:fs');
const util = require('node:util');
const { SINCE_24, loggable, thrown } = require('./errors.cjs');

const JSON_FORMAT = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];

/** Lines name the request that `current` tells: `{ requestId, tenantId }`. */
function patchConsole(current) {
  const line = JSON_FORMAT ? jsonLine : textLine;
  const least = Math.max(0, LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
  LEVELS.forEach((level, index) => {
    console[level.toLowerCase()] =
      index < least ? () => {} : (message, ...rest) => write(`${line(current(), level, message, rest)}\n`);
  });
  console.log = console.info;
}

function textLine({ requestId }, level, message, rest) {
  const text = `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(message, ...rest)}`;
  // A carriage return stays inside an event.
  return text.replaceAll('\n', '\r');
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

/** Synchronous, so that what was logged before an answer is there when the answer is. */
function write(text) {
  let bytes = Buffer.from(text);
  while (bytes.length) {
    try {
      bytes = bytes.subarray(fs.writeSync(1, bytes));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

module.exports = { logError, patchConsole };
