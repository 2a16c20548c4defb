// Hearth's Runtime API client for Node.js.
//
//   main        what is common to all versions of Node.js: console, connection, handler
//   callbacks   how invocations run before Node.js 24, promises: since then
//   connection  HTTP/1.1 over one kept socket
//   errors      errors as payloads and log lines
//   handler     finds the handler of a function
//   log         the console
//   parked      started ahead of need, it waits to be told whose it is
//   paths       where packages are that functions import
//   streaming   responses that are sent while they are made
//
// What functions can see follows AWS's runtime clients (3 before Node.js 24, 4 since): context, error payloads, log
// lines, which code runs before an answer and which after.

'use strict';

const { Connection } = require('./connection.cjs');
const { SINCE_24 } = require('./errors.cjs');

// As in AWS's runtime, no module of CommonJS is the main one.
process.mainModule = undefined;

const { run } = require(SINCE_24 ? './promises.cjs' : './callbacks.cjs');

const connection = new Connection(process.env.AWS_LAMBDA_RUNTIME_API);
// Not below this file's own frames.
const begin = () => process.nextTick(run, connection, process.env._HANDLER ?? '');

if (process.env._HEARTH_TOLD_FD) require('./parked.cjs').wait(connection, begin);
else begin();
