// The Runtime API for a handler of a bundle: `node bootstrap.cjs ./shop.cjs order`. Lambda's own client for Node.js is native
// code that has to be compiled where it is installed.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

const http = require('node:http');

const [file, name] = process.argv.slice(2);
const handler = require(require('node:path').resolve(file))[name];
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

const call = (method, path, body) =>
  new Promise((resolve, reject) => {
    const request = http.request(
      { host, port, method, path: `/2018-06-01/runtime/invocation/${path}`, agent },
      (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
      },
    );
    request.on('error', reject);
    request.end(body);
  });

(async () => {
  for (;;) {
    const { headers, body } = await call('GET', 'next');
    const id = headers['lambda-runtime-aws-request-id'];
    process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
    const context = {
      awsRequestId: id,
      functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
      getRemainingTimeInMillis: () => Number(headers['lambda-runtime-deadline-ms']) - Date.now(),
    };
    try {
      const answer = await handler(JSON.parse(body), context);
      await call('POST', `${id}/response`, JSON.stringify(answer));
    } catch (error) {
      await call('POST', `${id}/error`, JSON.stringify({ errorMessage: String(error?.stack ?? error) }));
    }
  }
})();
