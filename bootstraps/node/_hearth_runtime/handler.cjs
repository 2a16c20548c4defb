// Finds the handler of a function: `file.function`, in a folder `folder/file.function`, in an object
// `file.object.function`.

'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { createRequire } = require('node:module');
const { pathToFileURL } = require('node:url');
const { SINCE_24, fault } = require('./errors.cjs');
const { prepareImport } = require('./paths.cjs');

// Where AWS's runtime is: named in errors of modules that are missing.
const requireFrom = createRequire(path.join(process.env.LAMBDA_RUNTIME_DIR ?? '/var/runtime', 'index.mjs'));
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

/** Folder, module and name of the export. */
function parse(name) {
  if (name.includes('..')) {
    throw fault(
      'MalformedHandlerName',
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const file = path.basename(name);
  const match = /^([^.]*)\.(.*)$/.exec(file);
  if (!match) throw fault('MalformedHandlerName', 'Bad handler');
  return { folder: name.slice(0, name.indexOf(file)), module: match[1], exported: match[2] };
}

/** Before Node.js 24: CommonJS where that is possible. */
async function load({ folder, module }) {
  const root = process.env.LAMBDA_TASK_ROOT;
  const base = path.resolve(root, folder, module);
  const required = (extension) => (fs.existsSync(base + extension) ? requireFrom(base + extension) : undefined);
  const esm = fs.existsSync(`${base}.js`) && isModule(path.dirname(base));
  return (
    required('') ||
    (!esm && required('.js')) ||
    (esm && (await imported(`${base}.js`))) ||
    (await imported(`${base}.mjs`)) ||
    required('.cjs') ||
    requireFrom(requireFrom.resolve(module, { paths: [root, folder] }))
  );
}

/** Since Node.js 24: all by `import`. */
async function loadByImport({ folder, module }) {
  const root = process.env.LAMBDA_TASK_ROOT;
  const base = path.resolve(root, folder, module);
  for (const extension of ['', '.js', '.mjs', '.cjs']) {
    const found = await imported(base + extension);
    if (found) return found;
  }
  return requireFrom(requireFrom.resolve(module, { paths: [root, path.join(root, folder)] }));
}

/** Calls one of the two above; its errors get types of AWS's own. */
async function loaded(how, place) {
  try {
    return await how(place);
  } catch (error) {
    if (error instanceof SyntaxError) {
      const named = fault('UserCodeSyntaxError', String(error));
      if (SINCE_24) named.stack = error.stack;
      throw named;
    }
    if (error?.code === 'MODULE_NOT_FOUND') throw fault('ImportModuleError', String(error));
    throw error;
  }
}

async function imported(file) {
  if (!fs.existsSync(file)) return undefined;
  prepareImport(file);
  return import(pathToFileURL(file).href);
}

/** Whether the nearest `package.json` makes its files modules. */
function isModule(folder) {
  if (folder.endsWith('/node_modules')) return false;
  const file = path.join(folder, 'package.json');
  if (fs.existsSync(file)) {
    try {
      return JSON.parse(fs.readFileSync(file))?.type === 'module';
    } catch (error) {
      console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
      return false;
    }
  }
  return folder === '/' ? false : isModule(path.dirname(folder));
}

function checked(handler, name) {
  if (!handler) throw fault('HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw fault('HandlerNotFound', `${name} is not a function`);
  return handler;
}

/** How a handler wants to answer: `{ streaming, highWaterMark }`. */
function metadata(handler) {
  const mode = handler[STREAMING];
  if (mode && mode !== 'response') {
    throw fault('MalformedStreamingHandler', 'Only response streaming is supported.');
  }
  return { streaming: Boolean(mode), highWaterMark: Number(handler[HIGH_WATER_MARK]) || undefined };
}

/** What functions find as `awslambda`, and `more`. */
function setGlobals(more) {
  if (['1', 'true'].includes(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) return;
  globalThis.awslambda = {
    ...more,
    streamifyResponse(handler, options) {
      handler[STREAMING] = 'response';
      if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark);
      return handler;
    },
    HttpResponseStream: class HttpResponseStream {
      static from(stream, prelude) {
        stream.setContentType('application/vnd.awslambda.http-integration-response');
        const text = JSON.stringify(prelude);
        stream._onBeforeFirstWrite = (write) => {
          write(text);
          write(new Uint8Array(8));
        };
        return stream;
      }
    },
  };
}

module.exports = { checked, load, loadByImport, loaded, metadata, parse, setGlobals };
