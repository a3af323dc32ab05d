// An issuer that nobody here wrote (oidc-provider) with the grants that oidc.mjs leaves out, and DPoP; and an upstream (HTTP/1.1, and HTTP/2 with prior knowledge)
// that judges each token and proof with jose. Argument: the directory of spec/support/ca.sh; rsa.key signs what the JWT bearer grant takes.
// Clients: "machine" (secret: client_credentials, token exchange, JWT bearer, password), "anyone" (public: JWT bearer), "device" and "loopback" (public, first login by a
// browser), "app" (refresh_token).
// Prints {"issuer":PORT,"upstream":PORT,"secret":…,"refresh":…}.
// Orders on the upstream's /world: POST {"issuer_nonce":true,"nonce":"n1","revoke":true,"approve":"USER-CODE","deny":"USER-CODE"}   GET -> statistics.
import { createHash, createPublicKey, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';
import { both } from './both-protocols.mjs';
import { left_login } from './left-login.mjs';

console.info = console.warn = () => {};
const secret = 's3cret+of/the spec';
const world = { issuer_nonce: false, nonce: null, revoked: new Set() };
const stats = { granted: [], errors: [], bodies: [], authorizations: [], tokens: [], proofs: [], accepted: 0, refused: 0, reasons: [] };
const listen = (s) => new Promise((done) => s.listen(0, '127.0.0.1', () => done(s.address().port)));

const issuer = http.createServer();
const issuer_port = await listen(issuer);
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const no_redirect = { redirect_uris: [], response_types: [] };
const provider = new Provider(`http://127.0.0.1:${issuer_port}`, {
  clients: [
    { client_id: 'machine', client_secret: secret, grant_types: ['client_credentials', EXCHANGE, JWT_BEARER, 'password'], ...no_redirect },
    { client_id: 'anyone', token_endpoint_auth_method: 'none', grant_types: [JWT_BEARER], ...no_redirect },
    { client_id: 'device', token_endpoint_auth_method: 'none', grant_types: [DEVICE, 'refresh_token'], ...no_redirect },
    { client_id: 'loopback', token_endpoint_auth_method: 'none', application_type: 'native', grant_types: ['authorization_code', 'refresh_token'], redirect_uris: ['http://127.0.0.1/'] },
    { client_id: 'app', client_secret: secret, grant_types: ['authorization_code', 'refresh_token'], redirect_uris: ['https://app.example.com/done'] },
  ],
  features: {
    clientCredentials: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => world.issuer_nonce },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: { enabled: false },
  },
  scopes: ['openid', 'offline_access', 'reports.read'],
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { ClientCredentials: 3600, AccessToken: 3600, RefreshToken: 7200, Grant: 7200, DeviceCode: 60 },
  findAccount: (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});

async function issue(ctx, more) {
  const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope: ctx.oidc.params.scope });
  ctx.body = { access_token: await token.save(), expires_in: token.expiration, token_type: token.tokenType, ...more };
}
const access_token = 'urn:ietf:params:oauth:token-type:access_token';
provider.registerGrantType(EXCHANGE, async (ctx, next) => {
  const { subject_token, subject_token_type, actor_token, actor_token_type } = ctx.oidc.params;
  if (subject_token_type !== access_token) throw new errors.InvalidRequest('unknown subject_token_type');
  if (actor_token && actor_token_type !== access_token) throw new errors.InvalidRequest('unknown actor_token_type');
  if (!(await known(subject_token))) throw new errors.InvalidGrant('the subject token is not known');
  await issue(ctx, { issued_token_type: access_token });
  await next();
}, ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'resource', 'audience', 'scope'], ['resource', 'audience']);
provider.registerGrantType(JWT_BEARER, async (ctx, next) => {
  const key = createPublicKey(fs.readFileSync(`${process.argv[2]}/rsa.key`));
  const audience = [`http://127.0.0.1:${issuer_port}/token`];
  const { payload, protectedHeader } = await jwtVerify(ctx.oidc.params.assertion, key, { audience, maxTokenAge: '10m' }).catch((e) => { throw new errors.InvalidGrant(e.message); });
  stats.asserted = { payload, header: protectedHeader };
  await issue(ctx);
  await next();
}, ['assertion', 'scope']);
provider.registerGrantType('password', async (ctx, next) => {
  if (ctx.oidc.params.username !== 'me & you' || ctx.oidc.params.password !== 'pass word') throw new errors.InvalidGrant('wrong name or password');
  await issue(ctx);
  await next();
}, ['username', 'password', 'scope']);
provider.on('grant.success', (ctx) => {
  stats.granted.push(ctx.oidc.params.grant_type);
  stats.tokens.push(ctx.body.access_token);
  stats.bodies.push({ ...ctx.oidc.body });
  stats.authorizations.push(ctx.headers.authorization ?? null);
});
provider.on('grant.error', (ctx, err) => stats.errors.push(err.error_detail ?? err.error_description ?? err.message));
provider.on('server_error', (ctx, err) => console.error(err));
issuer.on('request', provider.callback());

// What somebody at a browser does with the code that a device shows.
async function answer_device(user_code, allowed) {
  const code = await provider.DeviceCode.findByUserCode(user_code.replace(/[^A-Z0-9]/g, ''), { ignoreExpiration: true });
  if (!code) return false;
  if (allowed) {
    const grant = new provider.Grant({ accountId: 'someone', clientId: code.clientId });
    grant.addOIDCScope('openid offline_access');
    Object.assign(code, { accountId: 'someone', grantId: await grant.save(), scope: 'openid offline_access', authTime: Math.floor(Date.now() / 1000) });
  } else Object.assign(code, { error: 'access_denied', errorDescription: 'End-User aborted interaction' });
  await code.save();
  return true;
}

async function known(token) {
  if (!token || world.revoked.has(token)) return undefined;
  return (await provider.ClientCredentials.find(token)) ?? (await provider.AccessToken.find(token));
}

// Why a request is not served, or undefined.
async function refusal(req) {
  const [scheme, token] = (req.headers.authorization ?? '').split(' ');
  const found = await known(token);
  if (!found) return 'invalid_token';
  if (!found.jkt) return scheme === 'Bearer' ? undefined : 'a token that is not bound';
  if (scheme !== 'DPoP') return 'a bound token without DPoP';
  const { payload, protectedHeader } = await jwtVerify(req.headers.dpop, EmbeddedJWK, { typ: 'dpop+jwt', maxTokenAge: '60s' });
  const authority = req.headers[':authority'] ?? req.headers.host;
  const url = new URL(`http://${authority}${req.url}`);
  if (payload.htm !== req.method) return 'htm';
  if (payload.htu !== `${url.origin}${url.pathname}`) return `htu: ${payload.htu}`;
  if (payload.ath !== createHash('sha256').update(token).digest('base64url')) return 'ath';
  if ((await calculateJwkThumbprint(protectedHeader.jwk)) !== found.jkt) return 'another key';
  if (stats.proofs.some((p) => p.jti === payload.jti)) return 'the proof comes again';
  stats.proofs.push(payload);
  if (world.nonce && payload.nonce !== world.nonce) return 'use_dpop_nonce';
  return undefined;
}

async function orders(req, res) {
  let text = '';
  for await (const piece of req) text += piece;
  const order = JSON.parse(text || '{}');
  let done = true;
  for (const key of ['issuer_nonce', 'nonce']) if (key in order) world[key] = order[key];
  if (order.revoke) world.revoked = new Set(stats.tokens);
  if (order.approve) done = await answer_device(order.approve, true);
  if (order.deny) done = await answer_device(order.deny, false);
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify({ ...stats, done }));
}

async function serve(req, res) {
  if (req.url === '/world') return orders(req, res);
  let body = '';
  for await (const piece of req) body += piece;
  const why = await refusal(req).catch((e) => e.message);
  stats[why ? 'refused' : 'accepted']++;
  if (why) stats.reasons.push(why);
  const fields = { 'content-type': 'application/json' };
  if (world.nonce) fields['dpop-nonce'] = world.nonce;
  if (why) fields['www-authenticate'] = why === 'use_dpop_nonce' ? 'DPoP error="use_dpop_nonce", error_description="needs a nonce"' : 'DPoP error="invalid_token"';
  res.writeHead(why ? 401 : 200, fields);
  res.end(JSON.stringify({ why, body, method: req.method }));
}
const upstream = both(serve);
console.log(JSON.stringify({ issuer: issuer_port, upstream: await listen(upstream), secret, refresh: await left_login(provider, 'app') }));
process.on('SIGTERM', () => process.exit(0));
