// The transport of AWS's client for Node.js without its compiled part, which takes minutes to build: the same three
// calls, over Node's own HTTP client. All that functions can see is the published client's.

import http from 'node:http';
import Module from 'node:module';

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');

function request(method, path, headers, body) {
  return new Promise((resolve, reject) => {
    const sent = http.request({ host, port, method, path: `/2018-06-01/runtime/${path}`, headers, agent }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve({ headers: answer.headers, body: Buffer.concat(parts).toString() }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const json = { 'Content-Type': 'application/json' };
const native = {
  initializeClient() {},
  async next() {
    const { headers, body } = await request('GET', 'invocation/next', {});
    return { bodyJson: body, headers };
  },
  async done(id, body) {
    await request('POST', `invocation/${id}/response`, json, body);
  },
  async error(id, body) {
    await request('POST', `invocation/${id}/error`, json, body);
  },
};

const load = Module._load;
Module._load = function (name, ...rest) {
  return String(name).endsWith('rapid-client.node') ? native : load.call(this, name, ...rest);
};
