// AWS, as far as jeton.aws meets it: a service that believes only signatures which aws4 and @smithy/signature-v4 make of the same request, an instance's and a
// container's metadata service, and STS. One HTTP port, HTTP/2 by prior knowledge on another; prints {"port","h2_port"}.
//   /latest/…, /ecs, POST / (STS)       what they are at AWS
//   POST /world {revoke, ttl, fail}     orders: revoke: all credentials so far are unknown; ttl of those to come; fail: the metadata services and STS answer that status
//   GET /world                          how often credentials were given out, and of which kind
// anything else: the service. It answers 200 with what it saw, or 403 with what is wrong.
import http from 'node:http';
import http2 from 'node:http2';
import { createRequire } from 'node:module';
import { SignatureV4 } from '@smithy/signature-v4';
import { Sha256 } from '@aws-crypto/sha256-js';

const aws4 = createRequire(import.meta.url)('aws4');
const known = new Map(); // by access key id
let given = 0, ttl = 3600, fail = null;
const kinds = {}, asked = [];

// What never ends: for static credentials, profiles, and as the identity that assumes roles.
const long = () => known.set('AKIDEXAMPLE', { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' });
long();

function give(kind) {
  given++;
  kinds[kind] = (kinds[kind] || 0) + 1;
  const made = { accessKeyId: 'ASIA' + given, secretAccessKey: `secret/${given}+x`, sessionToken: 'session/' + given + '+' + 'x'.repeat(300) + '==' };
  known.set(made.accessKeyId, made);
  return { ...made, expiration: new Date(Date.now() + ttl * 1000).toISOString().replace(/\.\d+/, '') };
}

const decode = (s) => decodeURIComponent(s.replace(/\+/g, ' '));
function parameters(url) {
  const at = url.indexOf('?'), query = {};
  if (at < 0) return query;
  for (const part of url.slice(at + 1).split('&')) {
    const eq = part.indexOf('='), name = decode(eq < 0 ? part : part.slice(0, eq)), value = eq < 0 ? '' : decode(part.slice(eq + 1));
    if (name === '') continue;
    if (name in query) query[name] = [].concat(query[name], value);
    else query[name] = value;
  }
  return query;
}

function signed(req) {
  const auth = req.headers.authorization;
  if (auth) {
    const m = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(auth);
    return m && { id: m[1], day: m[2], region: m[3], service: m[4], names: m[5].split(';'), signature: m[6], date: req.headers['x-amz-date'], query: false };
  }
  const q = parameters(req.url);
  const m = /^([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request$/.exec(q['X-Amz-Credential'] || '');
  return m && { id: m[1], day: m[2], region: m[3], service: m[4], names: q['X-Amz-SignedHeaders'].split(';'), signature: q['X-Amz-Signature'], date: q['X-Amz-Date'], query: true };
}

const fields = (req, names) => Object.fromEntries(names.map((n) => [n, n === 'host' ? (req.headers[':authority'] || req.headers.host) : req.headers[n]]));
const unsigned = (url) => url.replace(/([?&])X-Amz-Signature=[^&]*&?/, '$1').replace(/[?&]$/, '');

function by_aws4(req, body, s, credentials) {
  const headers = fields(req, s.names);
  const request = { host: headers.host, service: s.service, region: s.region, method: req.method, path: s.query ? unsigned(req.url) : req.url, headers, body, signQuery: s.query,
    extraHeadersToIgnore: { 'content-length': !s.names.includes('content-length'), 'content-type': !s.names.includes('content-type') },
    extraHeadersToInclude: Object.fromEntries(s.names.map((n) => [n, true])) };
  const made = aws4.sign(request, credentials);
  return s.query ? parameters(made.path)['X-Amz-Signature'] : made.headers.Authorization.slice(-64);
}

async function by_smithy(req, body, s, credentials) {
  const signer = new SignatureV4({ credentials, region: s.region, service: s.service, sha256: Sha256, uriEscapePath: !s.service.startsWith('s3'), applyChecksum: false });
  const d = s.date, signingDate = new Date(`${d.slice(0, 4)}-${d.slice(4, 6)}-${d.slice(6, 11)}:${d.slice(11, 13)}:${d.slice(13, 15)}Z`);
  const query = parameters(req.url), expiresIn = Number(query['X-Amz-Expires']);
  if (s.query) for (const n of ['Algorithm', 'Credential', 'Date', 'Expires', 'SignedHeaders', 'Security-Token', 'Signature']) delete query['X-Amz-' + n];
  const headers = fields(req, s.names);
  if (s.query && s.service.startsWith('s3')) headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
  const request = { protocol: 'http:', method: req.method, hostname: headers.host, path: req.url.split('?')[0], query, headers, body };
  const some = new Set(s.names);
  if (!s.query) return (await signer.sign(request, { signingDate, signableHeaders: some })).headers.authorization.slice(-64);
  const made = await signer.presign(request, { signingDate, expiresIn, unsignableHeaders: new Set(['x-amz-content-sha256']), unhoistableHeaders: new Set(Object.keys(headers)) });
  return made.query['X-Amz-Signature'];
}

async function service(req, body, send) {
  const seen = { method: req.method, url: req.url, headers: req.headers, body: body.toString('latin1') };
  const s = signed(req);
  if (!s) return send(403, { wrong: 'no signature', ...seen });
  const credentials = known.get(s.id);
  const session = s.query ? parameters(req.url)['X-Amz-Security-Token'] : req.headers['x-amz-security-token'];
  if (!credentials) return send(403, { wrong: 'unknown key ' + s.id, ...seen }, { 'x-amzn-errortype': 'UnrecognizedClientException:http://internal.amazon.com/coral/' });
  if (session !== credentials.sessionToken) return send(403, { wrong: 'the session token is not the key\'s', ...seen });
  if (Math.abs(Date.parse(s.date.replace(/^(....)(..)(.....)(..)(...)$/, '$1-$2-$3:$4:$5')) - Date.now()) > 3e5) return send(403, { wrong: 'date ' + s.date, ...seen });
  const must = s.query ? ['host'] : ['host', 'x-amz-date'];
  for (const n of Object.keys(req.headers)) if (n.startsWith('x-amz-')) must.push(n);
  for (const n of must) if (!s.names.includes(n)) return send(403, { wrong: 'not signed: ' + n, ...seen });
  let aws, smithy;
  try { aws = by_aws4(req, body, s, credentials); } catch (e) { aws = String(e); }
  try { smithy = await by_smithy(req, body, s, credentials); } catch (e) { smithy = String(e.stack); }
  const good = aws === s.signature;
  const wrong = good ? undefined : `aws4 has ${aws}, smithy ${smithy}, the request ${s.signature}`;
  send(good ? 200 : 403, { wrong, smithy: smithy === s.signature, id: s.id, names: s.names, ...seen });
}

const xml = (c) => `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>${c.accessKeyId}</AccessKeyId>
<SecretAccessKey>${c.secretAccessKey}</SecretAccessKey><SessionToken>${c.sessionToken}</SessionToken><Expiration>${c.expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`;
const refusal = (code, message) => `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`;

async function sts(req, body, send) {
  const form = Object.fromEntries(new URLSearchParams(body.toString()));
  asked.push(form);
  if (fail) return send(fail, refusal('AccessDenied', 'User is not authorized &amp; never was'));
  if (form.Action === 'AssumeRoleWithWebIdentity') {
    if (req.headers.authorization || form.WebIdentityToken !== 'web-identity-token') return send(400, refusal('InvalidIdentityToken', 'not ours'));
    return send(200, xml(give('web_identity')));
  }
  await service(req, body, (status, seen) => (status === 200 && seen.smithy ? send(200, xml(give('assume_role'))) : send(403, refusal('SignatureDoesNotMatch', seen.wrong || 'smithy'))));
}

const plain = (c) => ({ Code: 'Success', Type: 'AWS-HMAC', AccessKeyId: c.accessKeyId, SecretAccessKey: c.secretAccessKey, Token: c.sessionToken, Expiration: c.expiration });
function metadata(req, send) {
  if (fail) return send(fail, 'no');
  if (req.url === '/ecs') return req.headers.authorization === 'container-token' ? send(200, plain(give('ecs'))) : send(403, { message: 'no' });
  if (req.method === 'PUT') return send(200, 'imds-session');
  if (req.headers['x-aws-ec2-metadata-token'] !== 'imds-session') return send(401, '');
  const role = req.url.replace('/latest/meta-data/iam/security-credentials/', '');
  if (role === '') return send(200, 'instance-role');
  return role === 'instance-role' ? send(200, plain(give('imds'))) : send(404, '');
}

async function handle(req, res) {
  const chunks = [];
  for await (const c of req) chunks.push(c);
  const body = Buffer.concat(chunks);
  const send = (status, what, headers = {}) => {
    res.writeHead(status, { 'content-type': typeof what === 'string' ? 'text/plain' : 'application/json', ...headers });
    res.end(typeof what === 'string' ? what : JSON.stringify(what));
  };
  if (req.url === '/world') {
    if (req.method === 'POST') {
      const orders = JSON.parse(body);
      if (orders.revoke) { known.clear(); long(); }
      if ('ttl' in orders) ttl = orders.ttl;
      if ('fail' in orders) fail = orders.fail;
    }
    return send(200, { given, kinds, asked });
  }
  if (req.url.startsWith('/latest/') || req.url === '/ecs') return metadata(req, send);
  if (req.method === 'POST' && req.url === '/' && body.includes('Action=AssumeRole')) return sts(req, body, send);
  return service(req, body, send);
}

const one = http.createServer(handle), two = http2.createServer(handle);
one.listen(0, '127.0.0.1', () => two.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: one.address().port, h2_port: two.address().port }))));
process.on('SIGTERM', () => process.exit(0));
