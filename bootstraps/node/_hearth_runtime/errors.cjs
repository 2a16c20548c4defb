// Errors: what callers are told (spec 2.2) and what the log shows.

'use strict';

const { isNativeError } = require('node:util').types;

/** AWS's runtime was written anew for Node.js 24, without callbacks. */
const SINCE_24 = Number(process.versions.node.split('.')[0]) >= 24;

/** Classes of AWS's own are called so since Node.js 24, others as their type. */
const RENAMED = { HandlerNotFound: 1, MalformedHandlerName: 1, CallbackHandlerDeprecated: 1 };

/** An error that has a type of AWS's own. */
function fault(type, message) {
  const called = SINCE_24 && type in RENAMED ? `${type}Error` : type;
  const { [called]: Fault } = { [called]: class extends Error {} };
  const name = `Runtime.${type}`;
  // The first line of a stack has the name that an error has when it is made.
  if (SINCE_24) return Object.assign(new Fault(message), { name });
  Fault.prototype.name = name;
  return new Fault(message);
}

/** What stands for an error that cannot be told. */
const UNTOLD = {
  errorType: 'handled',
  errorMessage:
    'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
  trace: SINCE_24 ? [] : undefined,
};

const isText = (value) => typeof value === 'string' && value !== '';
const isError = (value) =>
  SINCE_24
    ? value instanceof Error
    : isNativeError(value) || (value && isText(value.name) && isText(value.message) && isText(value.stack));
const printable = (text) => text?.replaceAll('\x7F', '%7F');

function described(error) {
  try {
    if (!isError(error)) {
      return { errorType: typeof error, errorMessage: SINCE_24 ? String(error) : error.toString(), trace: [] };
    }
    const stack = printable(error.stack);
    return {
      errorType: printable(error.name),
      errorMessage: printable(error.message),
      // Before Node.js 24 an error without stack cannot be told.
      trace: SINCE_24 ? (stack?.split('\n') ?? []) : stack.split('\n'),
    };
  } catch {
    return UNTOLD;
  }
}

/** What was thrown, as an error. */
function thrown(value) {
  if (value instanceof Error) return value;
  return new Error(SINCE_24 ? String(value) : value);
}

/** An error as one line of JSON, with all that was attached to it. */
function loggable(error) {
  try {
    return JSON.stringify(error, (_, value) => (value instanceof Error ? withMembers(value) : value));
  } catch {
    return JSON.stringify(described(error));
  }
}

function withMembers(error) {
  const members = { errorType: error.name, errorMessage: error.message, code: error.code, ...error };
  if (typeof error.stack === 'string') members.stack = error.stack.split('\n');
  return members;
}

module.exports = { SINCE_24, described, fault, loggable, thrown };
