// What jeton's modules for clouds ask, as far as their documents say it: GitHub's app API, Google's token endpoint, STS, IAM credentials and metadata server, and Entra's token
// endpoint and metadata server. None of these can be had as a package. So that this imitation is not our own reading of the documents, the clouds' own libraries get tokens from
// it, too (cloud-clients.mjs): it accepts what they send, and jeton has to pass the same checks.
// node clouds.mjs PUBLIC_KEY CERT KEY: the key that signs for all clients; CERT and KEY are for https. Prints {"port":…,"tls_port":…}.
// Tokens are believed by /api of the same server. POST /world {"ttl":seconds,"revoke":true,"fail":{"status":…,"headers":{…},"body":…}}; GET /world -> {"requests":[…]}.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { jwtVerify, SignJWT, decodeProtectedHeader } from 'jose';

const [public_file, cert_file, key_file] = process.argv.slice(2);
const client_key = crypto.createPublicKey(fs.readFileSync(public_file));
const client_cert = cert_file && fs.readFileSync(cert_file);
const own_key = crypto.createSecretKey(crypto.randomBytes(32));
const world = { ttl: 3600, fail: null };
const requests = [];
let valid = new Set();
let number = 0;

class Refusal extends Error {
  constructor(status, body) { super(JSON.stringify(body)); this.status = status; this.body = body; }
}
function demand(condition, what, status = 400) { if (!condition) throw new Refusal(status, { error: 'invalid_request', error_description: what, message: what }); }

function opaque(prefix) {
  const token = `${prefix}_${++number}_${crypto.randomBytes(12).toString('hex')}`;
  valid.add(token);
  return token;
}
async function id_token(audience) {
  const token = await new SignJWT({ aud: audience, n: ++number }).setProtectedHeader({ alg: 'HS256' }).setIssuedAt().setExpirationTime(Math.floor(Date.now() / 1000) + world.ttl).sign(own_key);
  valid.add(token);
  return token;
}
const until = () => new Date(Date.now() + world.ttl * 1000).toISOString().replace(/\.\d+/, '');
async function verified(jwt, options) {
  try { return (await jwtVerify(jwt, client_key, { algorithms: ['RS256'], clockTolerance: 5, ...options })).payload; } catch (e) { throw new Refusal(401, { error: 'invalid_client', error_description: e.message, message: e.message }); }
}
const bearer = (r) => (r.headers.authorization ?? '').replace(/^(Bearer|bearer|token) /, '');
const believed = (r) => demand(valid.has(bearer(r)), 'unknown token', 401);

// --- GitHub ---

async function github_app(r) {
  const claims = await verified(bearer(r));
  demand(String(claims.iss) === '12345', "'Issuer' claim ('iss') must be an Integer", 401);
  demand(claims.exp - claims.iat <= 660, "'Expiration time' claim ('exp') is too far in the future", 401);
  demand(/github/.test(r.headers.accept ?? ''), 'no media type');
}
async function github_installation(r, [kind, name]) {
  await github_app(r);
  demand({ orgs: 'acme', repos: 'acme/api', users: 'mona' }[kind] === name, 'Not Found', 404);
  return { id: 42, account: { login: 'acme' } };
}
async function github_token(r, [id]) {
  await github_app(r);
  demand(id === '42', 'Not Found', 404);
  const asked = r.text ? JSON.parse(r.text) : {};
  return [201, { token: opaque('ghs'), expires_at: until(), permissions: asked.permissions ?? { metadata: 'read' }, repository_selection: asked.repositories ? 'selected' : 'all' }];
}

// --- Google ---

const TOKEN_URL = 'https://oauth2.googleapis.com/token';
async function google_token(r) {
  demand(r.form.grant_type === 'urn:ietf:params:oauth:grant-type:jwt-bearer', 'unsupported_grant_type');
  const claims = await verified(r.form.assertion, { issuer: 'reports@project.iam.gserviceaccount.com' });
  demand([TOKEN_URL, `http://${r.headers.host}/token`].includes(claims.aud), `not our audience: ${claims.aud}`);
  demand((decodeProtectedHeader(r.form.assertion).kid ?? 'key-1') === 'key-1', 'unknown key');
  if (claims.target_audience) return { id_token: await id_token(claims.target_audience) };
  demand(claims.scope, 'invalid_scope');
  return { access_token: opaque('ya29'), expires_in: world.ttl, token_type: 'Bearer' };
}
function google_metadata(r) { demand(r.headers['metadata-flavor'] === 'Google', 'Missing Metadata-Flavor:Google header.', 403); }
async function google_machine_token(r) {
  google_metadata(r);
  return [200, { access_token: opaque('ya29'), expires_in: world.ttl, token_type: 'Bearer' }, 'application/json', { 'metadata-flavor': 'Google' }];
}
async function google_machine_identity(r) {
  google_metadata(r);
  demand(r.url.searchParams.get('audience'), 'non-empty audience parameter required');
  return [200, await id_token(r.url.searchParams.get('audience')), 'text/html', { 'metadata-flavor': 'Google' }];
}
async function google_exchange(r) {
  demand(r.form.grant_type === 'urn:ietf:params:oauth:grant-type:token-exchange', 'unsupported_grant_type');
  demand(r.form.audience?.startsWith('//iam.googleapis.com/'), 'Invalid value for "audience".');
  demand(r.form.requested_token_type === 'urn:ietf:params:oauth:token-type:access_token', 'requested_token_type');
  demand(r.form.subject_token_type === 'urn:ietf:params:oauth:token-type:jwt', 'subject_token_type');
  demand(r.form.subject_token === 'federated-token', 'The given credential is rejected by the attribute condition.');
  demand(r.form.scope, 'scope');
  return { access_token: opaque('sts'), issued_token_type: r.form.requested_token_type, expires_in: world.ttl, token_type: 'Bearer' };
}
async function google_impersonate(r, [account, what]) {
  believed(r);
  demand(decodeURIComponent(account) === 'reports@project.iam.gserviceaccount.com', 'Permission denied', 403);
  const asked = JSON.parse(r.text);
  if (what === 'generateIdToken') return { token: await id_token(asked.audience) };
  demand(Array.isArray(asked.scope) && asked.scope.length > 0, 'scope');
  return { accessToken: opaque('ya29'), expireTime: until() };
}

// --- Entra ---

async function entra_token(r, [tenant]) {
  const { form } = r;
  demand(form.client_id === 'app-id' && /^[\w-]+$/.test(tenant), 'AADSTS700016: Application was not found in the directory.');
  demand(form.grant_type === 'client_credentials', 'unsupported_grant_type');
  demand(/\/\.default$/.test(form.scope.split(' ')[0]), 'AADSTS1002012: The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed.');
  if (form.client_assertion) {
    demand(form.client_assertion_type === 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer', 'client_assertion_type');
    if (form.client_assertion !== 'federated-token') {
      const claims = await verified(form.client_assertion, { issuer: 'app-id', subject: 'app-id' });
      demand(claims.aud.endsWith(`/${tenant}/oauth2/v2.0/token`) && claims.jti, `AADSTS50027: ${claims.aud}`);
      const header = decodeProtectedHeader(form.client_assertion);
      const thumbprint = (hash) => crypto.createHash(hash).update(new crypto.X509Certificate(client_cert).raw).digest('base64url');
      demand(header.x5t === thumbprint('sha1') || header['x5t#S256'] === thumbprint('sha256'), 'AADSTS700027: The certificate was not found.');
    }
  } else demand(form.client_secret === 's3cret', 'AADSTS7000215: Invalid client secret provided.', 401);
  return { token_type: 'Bearer', expires_in: world.ttl, ext_expires_in: world.ttl, access_token: opaque('eyJ') };
}
async function entra_machine(r) {
  demand(r.headers.metadata === 'true', 'Required metadata header not specified');
  demand(r.url.searchParams.get('api-version') === '2018-02-01' && r.url.searchParams.get('resource'), 'api-version, resource');
  return { access_token: opaque('eyJ'), expires_in: String(world.ttl), expires_on: String(Math.floor(Date.now() / 1000) + world.ttl), resource: r.url.searchParams.get('resource'), token_type: 'Bearer' };
}
async function entra_discovery(r, [tenant]) {
  const base = `https://${r.headers.host}/${tenant}`;
  return { issuer: `${base}/v2.0`, authorization_endpoint: `${base}/oauth2/v2.0/authorize`, token_endpoint: `${base}/oauth2/v2.0/token`, jwks_uri: `${base}/keys` };
}

// --- the server ---

async function api(r) { believed(r); return [200, `fine ${bearer(r)}`, 'text/plain']; }
async function order(r) {
  if (r.method === 'GET') return { requests };
  const { revoke, ...rest } = JSON.parse(r.text);
  if (revoke) valid = new Set();
  Object.assign(world, rest);
  return {};
}

const routes = [
  ['GET', /^\/(orgs|repos|users)\/(.+)\/installation$/, github_installation],
  ['POST', /^\/app\/installations\/(\d+)\/access_tokens$/, github_token],
  ['POST', /^\/token$/, google_token],
  ['GET', /^\/computeMetadata\/v1\/instance\/service-accounts\/default\/token$/, google_machine_token],
  ['GET', /^\/computeMetadata\/v1\/instance\/service-accounts\/default\/identity$/, google_machine_identity],
  ['POST', /^\/v1\/token$/, google_exchange],
  ['POST', /^\/v1\/projects\/-\/serviceAccounts\/([^/:]+):(generateAccessToken|generateIdToken)$/, google_impersonate],
  ['POST', /^\/([\w-]+)\/oauth2\/v2\.0\/token$/, entra_token],
  ['GET', /^\/([\w-]+)\/v2\.0\/\.well-known\/openid-configuration$/, entra_discovery],
  ['GET', /^\/metadata\/identity\/oauth2\/token\/?$/, entra_machine],
  ['GET', /^\/api/, api],
  ['GET', /^\/world$/, order],
  ['POST', /^\/world$/, order],
];

async function answer(req, text) {
  const r = { method: req.method, headers: req.headers, text, url: new URL(req.url, `http://${req.headers.host}`) };
  r.form = /urlencoded/.test(req.headers['content-type'] ?? '') ? Object.fromEntries(new URLSearchParams(text)) : {};
  if (!/^\/(api|world)/.test(r.url.pathname)) {
    requests.push({ method: r.method, path: r.url.pathname, query: r.url.search, text, headers: r.headers });
    if (world.fail) return [world.fail.status, world.fail.body ?? {}, 'application/json', world.fail.headers];
  }
  for (const [method, path, handle] of routes) {
    const found = method === r.method && path.exec(r.url.pathname);
    if (found) {
      const made = await handle(r, found.slice(1));
      return Array.isArray(made) ? made : [200, made];
    }
  }
  return [404, { error: 'not_found', message: 'Not Found' }];
}

function serve(req, res) {
  let text = '';
  req.on('data', (d) => { text += d; });
  req.on('end', async () => {
    let made;
    try { made = await answer(req, text); } catch (e) { made = e instanceof Refusal ? [e.status, e.body] : [500, { error: String(e) }]; }
    const [status, body, type, headers] = made;
    res.writeHead(status, { 'content-type': type ?? 'application/json', ...headers });
    res.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
}

const plain = http.createServer(serve).listen(0, '127.0.0.1', () => {
  const tls = key_file && https.createServer({ cert: client_cert, key: fs.readFileSync(key_file) }, serve);
  const tell = () => console.log(JSON.stringify({ port: plain.address().port, tls_port: tls ? tls.address().port : null }));
  if (tls) tls.listen(0, '127.0.0.1', tell); else tell();
});
