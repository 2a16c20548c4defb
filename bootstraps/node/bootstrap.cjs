// The entry of Hearth's Node.js runtimes. CommonJS, because Node.js starts it a sixth faster than a module.

'use strict';

require('./_hearth_runtime/main.cjs');
