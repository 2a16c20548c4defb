// HTTP/1.1 over one kept socket, by hand: Node's own HTTP client costs three times as much a call. Requests are written
// at once, by one system call; answers come in the order of the requests.

'use strict';

const fs = require('node:fs');
const net = require('node:net');

const PATH = '/2018-06-01/runtime/';
/** Bytes that are read at one time. */
const PIECE = 1 << 16;
/** Milliseconds that a dying process waits for its error to be taken. */
const LAST_WAIT_MAX = 2000;

class Connection {
  constructor(address) {
    this.address = address;
    this.host = `Host: ${address}\r\n`;
    this.nextRequest = Buffer.from(`GET ${PATH}invocation/next HTTP/1.1\r\n${this.host}\r\n`);
    this.connect();
  }

  connect() {
    const [host, port] = this.address.split(':');
    const socket = net.connect({
      host,
      port: Number(port),
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(PIECE),
        callback: (size, buffer) => {
          if (this.socket === socket) this.received(buffer.subarray(0, size));
          return true;
        },
      },
    });
    socket.on('error', (error) => this.lost(socket, error));
    socket.on('close', () => this.lost(socket, new Error('the Runtime API closed the connection')));
    this.socket = socket;
    /** What to do with the answers that are still to come. */
    this.waiting = [];
    /** Bytes of a head that is not whole; a body that is not whole. */
    this.rest = undefined;
    this.partial = undefined;
    this.asked = false;
  }

  /** Asks for an event. `taken` gets its headers (lower case) and its text. */
  ask(taken) {
    this.prepare(taken);
    this.write(this.nextRequest);
  }

  /** Posts JSON. The answer decides nothing; who has to wait for it gives `then`. */
  post(path, text, headers, then) {
    this.waiting.push(then);
    this.write(...this.request(path, text, headers));
  }

  postAndAsk(path, text, taken) {
    this.waiting.push(undefined);
    this.prepare(taken);
    this.write(...this.request(path, text), this.nextRequest);
  }

  /** Posts an error of the invocation that runs, and ends the process before anything else can run in it. */
  postAndExit(path, text, code) {
    const end = () => process.exit(code);
    const fd = this.descriptor();
    // While it waits for an event there is no invocation.
    if (this.asked) end();
    // What is on its way goes first.
    if (fd === undefined || this.waiting.length) return this.post(path, text, {}, end);
    this.post(path, text);
    const answer = Buffer.allocUnsafe(PIECE);
    const clock = new Int32Array(new SharedArrayBuffer(4));
    for (let waited = 0; waited < LAST_WAIT_MAX; waited++) {
      try {
        fs.readSync(fd, answer);
        break;
      } catch (error) {
        if (error.code !== 'EAGAIN') break;
        Atomics.wait(clock, 0, 0, 1);
      }
    }
    end();
  }

  prepare(taken) {
    this.asked = true;
    this.socket.ref();
    this.waiting.push((status, headers, body) => {
      if (status !== 200) throw new Error(`the Runtime API answered ${status}`);
      this.asked = false;
      // Only what functions do keeps the process alive now.
      this.socket.unref();
      taken(headers, body.toString());
    });
  }

  /** Head and body of a post. */
  request(path, text, headers = {}) {
    const body = Buffer.from(text);
    return [this.head(path, { 'Content-Type': 'application/json', 'Content-Length': body.length, ...headers }), body];
  }

  head(path, headers) {
    let text = `POST ${PATH}${path} HTTP/1.1\r\n${this.host}`;
    for (const name in headers) {
      text += `${name}: ${String(headers[name]).replace(/[^\t\x20-\x7e]/g, '?')}\r\n`;
    }
    return Buffer.from(`${text}\r\n`);
  }

  /** The socket's descriptor, when nothing else is to be written first. */
  descriptor() {
    const fd = this.socket._handle?.fd;
    return this.socket.connecting || this.socket.writableLength || !(fd >= 0) ? undefined : fd;
  }

  write(...pieces) {
    const fd = this.descriptor();
    let written = 0;
    try {
      if (fd !== undefined) written = fs.writevSync(fd, pieces);
    } catch {
      // Full, or closed: the socket tells.
    }
    for (const piece of pieces) {
      if (written < piece.length) this.socket.write(written ? piece.subarray(written) : piece);
      written = Math.max(0, written - piece.length);
    }
  }

  received(data) {
    if (this.rest) data = Buffer.concat([this.rest, data]);
    this.rest = undefined;
    while (data.length) {
      if (!this.partial) {
        const end = data.indexOf('\r\n\r\n');
        if (end < 0) {
          // The buffer behind it is filled again.
          this.rest = Buffer.from(data);
          return;
        }
        this.partial = headOf(data.latin1Slice(0, end));
        data = data.subarray(end + 4);
      }
      const { status, headers, length } = this.partial;
      let body;
      if (!this.partial.body && data.length >= length) {
        body = data.subarray(0, length);
        data = data.subarray(length);
      } else {
        this.partial.body ??= Buffer.allocUnsafe(length);
        const taken = data.copy(this.partial.body, this.partial.filled);
        this.partial.filled += taken;
        data = data.subarray(taken);
        if (this.partial.filled < length) return;
        body = this.partial.body;
      }
      this.partial = undefined;
      this.waiting.shift()?.(status, headers, body);
    }
  }

  lost(socket, error) {
    if (this.socket !== socket) return;
    if (this.onLost) this.onLost(error);
    else if (this.waiting.length) throw error;
  }
}

function headOf(text) {
  const [status, ...lines] = text.split('\r\n');
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status: Number(status.split(' ')[1]), headers, length: Number(headers['content-length'] ?? 0), filled: 0 };
}

module.exports = { Connection };
