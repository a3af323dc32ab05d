// dynalite and s3rver, on ports of their own; prints {"dynamodb","s3"}. argv: a directory for s3rver.
import { createRequire } from 'node:module';
const require = createRequire(import.meta.url);
const dynalite = require('dynalite')({ createTableMs: 0 }), S3rver = require('s3rver');

dynalite.listen(0, '127.0.0.1', async () => {
  const s3 = await new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory: process.argv[2], allowMismatchedSignatures: false }).run();
  console.log(JSON.stringify({ dynamodb: dynalite.address().port, s3: s3.port }));
});
process.on('SIGTERM', () => process.exit(0));
