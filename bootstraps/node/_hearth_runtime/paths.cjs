// Lets `import` find packages in the folders of NODE_PATH, as AWS's Node.js does: the SDK of the runtime, and layers.

'use strict';

const fs = require('node:fs');
const module_ = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

// `import … from 'x'`, `export … from 'x'`, `import 'x'`, `import('x')`, and what looks like them.
const IMPORTS = /\b(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g;
// Frames of a hook, of its caller and of what it calls.
const HOOK_FRAMES_MAX = 8;
// Files of a function that are read to learn whether it imports what its own folders do not have.
const FILES_MAX = 500;

const folders = () => (process.env.NODE_PATH ?? '').split(':').filter((folder) => folder.endsWith('/node_modules'));

/** Modules that would find packages of NODE_PATH by themselves. */
const bases = () => folders().map((folder) => pathToFileURL(path.join(folder, '..', '_')).href);

const isPackage = (specifier) => !/^(\.{0,2}\/|#|[a-z]+:)/.test(specifier) && !module_.isBuiltin(specifier);

/** Whether an error says that there is no such package. */
const isMissing = (error, specifier) =>
  isPackage(specifier) && (error?.code === 'ERR_MODULE_NOT_FOUND' || error?.code === 'MODULE_NOT_FOUND');

/** Called before the first `import` of a function's file. */
function prepareImport(file) {
  if (module_.registerHooks) {
    module_.registerHooks({ resolve });
  } else if (module_.register && needs(file)) {
    // Costs a thread and its start.
    module_.register(pathToFileURL(path.join(__dirname, 'resolve.mjs')));
  }
}

function resolve(specifier, context, next) {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = limit + HOOK_FRAMES_MAX;
  try {
    return next(specifier, context);
  } catch (error) {
    // `require` looks there by itself.
    if (isMissing(error, specifier) && !context.conditions?.includes('require')) {
      for (const parentURL of bases()) {
        try {
          return next(specifier, { ...context, parentURL });
        } catch (other) {
          if (!isMissing(other, specifier)) throw withoutHooks(other, limit);
        }
      }
    }
    throw withoutHooks(error, limit);
  } finally {
    Error.stackTraceLimit = limit;
  }
}

/** What a function sees of an error does not tell of these hooks. */
function withoutHooks(error, limit) {
  const isOurs = (line) => line.includes(__filename) || line.includes('node:internal/modules/customization_hooks');
  const lines = String(error?.stack).split('\n');
  if (lines.some(isOurs)) {
    let frames = 0;
    const isKept = (line) => !isOurs(line) && (!line.startsWith('    at ') || ++frames <= limit);
    error.stack = lines.filter(isKept).join('\n');
  }
  return error;
}

/** Whether a file, or one that it imports by its path, imports a package that is in NODE_PATH and in no folder above. */
function needs(file) {
  const waiting = [file];
  const seen = new Set(waiting);
  while (waiting.length > 0) {
    const current = waiting.pop();
    let text;
    try {
      text = fs.readFileSync(current, 'utf8');
    } catch {
      continue;
    }
    for (const [, specifier] of text.matchAll(IMPORTS)) {
      if (isPackage(specifier)) {
        const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
        const isThere = (folder) => fs.existsSync(path.join(folder, name));
        if (!isAbove(path.dirname(current), name) && folders().some(isThere)) return true;
      } else if (specifier.startsWith('.')) {
        const other = path.resolve(path.dirname(current), specifier);
        if (!seen.has(other) && seen.size < FILES_MAX) {
          seen.add(other);
          waiting.push(other);
        }
      }
    }
  }
  return false;
}

function isAbove(folder, name) {
  for (;;) {
    if (fs.existsSync(path.join(folder, 'node_modules', name))) return true;
    if (folder === '/') return false;
    folder = path.dirname(folder);
  }
}

module.exports = { bases, isMissing, prepareImport };
