// A runtime that was started ahead of need waits here until it is told whose it is. Before that it does what every
// function waits for, and nothing that a function could find again.

'use strict';

const fs = require('node:fs');
const context = require('./context.cjs');

const PIECE = 1 << 16;
const EVENT =
  'HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 0\r\nLambda-Runtime-Deadline-Ms: 0\r\nContent-Length: 9\r\n\r\n{"a":[1]}';

/** Calls `begin` as the function that it is told to be. */
function wait(connection, begin) {
  const told = Number(process.env._HEARTH_TOLD_FD);
  // This module is of those that wait, alone.
  forget();
  connection.socket.once('connect', () => {
    exercise(connection);
    fs.writeSync(told, 'R');
    const identity = read(told);
    // Nobody needs it any more.
    if (!identity) process.reallyExit(0);
    fs.writeSync(told, 'T');
    fs.closeSync(told);
    become(identity);
    begin();
  });
}

function forget() {
  delete require.cache[__filename];
  for (const loaded of Object.values(require.cache)) {
    const at = loaded.children.indexOf(module);
    if (at >= 0) loaded.children.splice(at, 1);
  }
}

/** The way of an event, from the socket to the answer's text. */
function exercise(connection) {
  connection.waiting.push((status, headers, body) => {
    const members = { ...context.ofHeaders(headers), ...context.ofEnvironment() };
    members.getRemainingTimeInMillis();
    connection.request('', JSON.stringify(JSON.parse(body.toString())));
  });
  connection.received(Buffer.from(EVENT));
}

function read(told) {
  const pieces = [];
  const piece = Buffer.allocUnsafe(PIECE);
  for (let size; (size = fs.readSync(told, piece)); ) pieces.push(Buffer.from(piece.subarray(0, size)));
  return pieces.length ? JSON.parse(Buffer.concat(pieces).toString()) : undefined;
}

/** Variables are in the order in which a program is given them. */
function become({ environment, directory }) {
  const { env } = process;
  for (const name of Object.keys(env)) delete env[name];
  for (const [name, value] of environment) {
    // What takes records is known since the console was prepared, and is not told to functions.
    if (name !== '_LAMBDA_TELEMETRY_LOG_FD') env[name] = value;
  }
  process.chdir(directory);
}

module.exports = { wait };
