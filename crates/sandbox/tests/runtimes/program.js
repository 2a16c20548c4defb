const assert = require('node:assert');
const child = require('node:child_process');
const crypto = require('node:crypto');
const dgram = require('node:dgram');
const dns = require('node:dns/promises');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const {Worker} = require('node:worker_threads');
const zlib = require('node:zlib');

async function main() {
  assert(os.networkInterfaces().lo && os.cpus().length && os.totalmem() && os.freemem() && os.uptime());
  os.setPriority(1);
  assert(process.memoryUsage().rss && process.resourceUsage() && process.report.getReport());
  assert.equal(child.execFileSync('/bin/echo', ['x']).toString(), 'x\n');
  const forked = child.fork(__filename, ['--forked']);
  await new Promise((resolve) => forked.once('message', resolve));
  forked.kill();
  await new Promise((resolve) => new Worker('1', {eval: true}).once('exit', resolve));

  const server = http.createServer((request, response) => response.end('hello')).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
  assert.equal(await answer.text(), 'hello');
  server.closeAllConnections();
  server.close();
  await dns.lookup('localhost');
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await new Promise((resolve) => socket.once('listening', resolve));
  socket.setTTL(1);
  socket.close();

  fs.writeFileSync('/tmp/a', 'x');
  const watcher = fs.watch('/tmp');
  const changed = new Promise((resolve) => watcher.once('change', resolve));
  fs.copyFileSync('/tmp/a', '/tmp/b');
  await changed;
  watcher.close();
  fs.renameSync('/tmp/b', '/tmp/c');
  fs.symlinkSync('c', '/tmp/link');
  assert.equal(fs.readlinkSync('/tmp/link'), 'c');
  fs.utimesSync('/tmp/c', 1, 1);
  fs.rmSync('/tmp/c');
  const file = await fs.promises.open('/tmp/a', 'r+');
  await file.datasync();
  await file.close();
  crypto.generateKeyPairSync('ec', {namedCurve: 'P-256'});
  zlib.gunzipSync(zlib.gzipSync('x'));
  console.log('works');
}

if (process.argv.includes('--forked')) process.send('here');
else main();
