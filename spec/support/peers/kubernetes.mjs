// An imitation of the Kubernetes API's TokenRequest, as far as its reference says it; kubectl (create token) gets its token from here, too. And a service of the cluster: /billing
// believes the tokens that it made for that audience. Prints {"port":…,"tls_port":…}. node kubernetes.mjs CERT KEY. POST /world {"revoke":true}; GET /world -> {"requests":[…]}.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';

const [cert, key] = process.argv.slice(2).map((f) => fs.readFileSync(f));
const requests = [], part = (x) => Buffer.from(JSON.stringify(x)).toString('base64url');
let valid = new Set(), number = 0;

// What kubectl sends: the API's envelope ("k8s\0", then runtime.Unknown: 1 the type, 2 the object), in it a TokenRequest (2 the spec: 1 audiences, 3 what it is bound to, 4 seconds).
function fields(bytes) {
  const found = {};
  let at = 0;
  const number = () => { let value = 0, scale = 1, byte; do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte & 128); return value; };
  while (at < bytes.length) {
    const tag = number(), value = number();
    if ((tag & 7) === 2) { (found[tag >> 3] ??= []).push(bytes.subarray(at, at + value)); at += value; } else (found[tag >> 3] ??= []).push(value);
  }
  return found;
}
const text_of = (list) => list?.[0].toString();
function from_protobuf(body) {
  const envelope = fields(body.subarray(4)), type = fields(envelope[1][0]), spec = fields(fields(envelope[2][0])[2][0]), bound = spec[3] && fields(spec[3][0]);
  return { apiVersion: text_of(type[1]), kind: text_of(type[2]), spec: { audiences: spec[1]?.map(String), expirationSeconds: spec[4]?.[0],
    boundObjectRef: bound && { kind: text_of(bound[1]), apiVersion: text_of(bound[2]), name: text_of(bound[3]), uid: text_of(bound[4]) } } };
}

function failure(code, reason, message) { return [code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, reason, code }]; }
function token_request(req, namespace, name, body) {
  const asked = /protobuf/.test(req.headers['content-type']) ? from_protobuf(body) : JSON.parse(body.toString());
  requests.push({ namespace, name, spec: asked.spec });
  if (req.headers.authorization !== 'Bearer pod-token') return failure(401, 'Unauthorized', 'Unauthorized');
  if (name !== 'reports') return failure(404, 'NotFound', `serviceaccounts "${name}" not found`);
  if (asked.kind !== 'TokenRequest' || asked.apiVersion !== 'authentication.k8s.io/v1') return failure(400, 'BadRequest', 'no TokenRequest');
  const seconds = asked.spec.expirationSeconds ?? 3600;
  if (seconds < 600) return failure(422, 'Invalid', 'may not specify a duration less than 10 minutes');
  const now = Math.floor(Date.now() / 1000), aud = asked.spec.audiences ?? ['https://kubernetes.default.svc'];
  const token = `${part({ alg: 'none' })}.${part({ aud, exp: now + seconds, iat: now, sub: `system:serviceaccount:${namespace}:${name}`, n: ++number })}.${crypto.randomBytes(8).toString('base64url')}`;
  valid.add(token);
  return [201, { ...asked, status: { token, expirationTimestamp: new Date((now + seconds) * 1000).toISOString().replace(/\.\d+/, '') } }];
}
function answer(req, body) {
  if (req.url === '/world') {
    if (body.length && JSON.parse(body.toString()).revoke) valid = new Set();
    return [200, { requests }];
  }
  const path = /^\/api\/v1\/namespaces\/([^/]+)\/serviceaccounts\/([^/]+)\/token$/.exec(req.url);
  if (path) return req.method === 'POST' ? token_request(req, path[1], path[2], body) : failure(405, 'MethodNotAllowed', 'POST');
  const token = (req.headers.authorization ?? '').replace('Bearer ', '');
  return valid.has(token) ? [200, JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))] : failure(401, 'Unauthorized', 'Unauthorized');
}
function handle(req, res) {
  const chunks = [];
  req.on('data', (d) => chunks.push(d));
  req.on('end', () => {
    let status, said;
    try { [status, said] = answer(req, Buffer.concat(chunks)); } catch (e) { [status, said] = failure(400, 'BadRequest', `${req.headers['content-type']}: ${e.stack}`); }
    res.writeHead(status, { 'content-type': 'application/json' });
    res.end(JSON.stringify(said));
  });
}
const plain = http.createServer(handle), secure = https.createServer({ cert, key }, handle);
plain.listen(0, '127.0.0.1', () => secure.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: plain.address().port, tls_port: secure.address().port }))));
process.on('SIGTERM', () => process.exit(0));
