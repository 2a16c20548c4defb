// What a handler is told about its invocation (AWS documentation, "Lambda context object in Node.js").

'use strict';

const { SINCE_24, fault } = require('./errors.cjs');

const ofEnvironment = () => ({
  ...(SINCE_24 && { functionName: process.env.AWS_LAMBDA_FUNCTION_NAME }),
  functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
  functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
  memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
  logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
  logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
});

function ofHeaders(headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const members = {
    clientContext: parsed(headers, 'lambda-runtime-client-context', 'ClientContext'),
    identity: parsed(headers, 'lambda-runtime-cognito-identity', 'CognitoIdentity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'] ?? '',
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
  };
  if (SINCE_24) members.xRayTraceId = headers['lambda-runtime-trace-id'] ?? '';
  members.getRemainingTimeInMillis = () => deadline - Date.now();
  return members;
}

function parsed(headers, header, name) {
  if (!headers[header]) return undefined;
  try {
    // Headers were read as Latin-1; what they carry is UTF-8.
    return JSON.parse(Buffer.from(headers[header], 'latin1').toString());
  } catch (error) {
    if (SINCE_24) throw fault('PlatformError', `Failed to parse ${header} as JSON: ${error.message}`);
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

function setTrace(headers) {
  const trace = headers['lambda-runtime-trace-id'];
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
}

module.exports = { ofEnvironment, ofHeaders, setTrace };
