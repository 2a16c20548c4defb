// Where `import` finds packages beside those of the function's own folders: in the folders of NODE_PATH, as AWS's Node.js
// does. For Node.js without hooks in the same thread (paths.cjs).

import { bases, isMissing } from './paths.cjs';

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (!isMissing(error, specifier)) throw error;
    for (const parentURL of bases()) {
      try {
        return await next(specifier, { ...context, parentURL });
      } catch (other) {
        if (!isMissing(other, specifier)) throw other;
      }
    }
    throw error;
  }
}
