// An issuer that nobody here wrote (oidc-provider: client_credentials, refresh_token with rotation) and an upstream that asks it about every token.
// Prints {"issuer":PORT,"upstream":PORT,"secret":…,"refresh":…,"refresh_public":…}. Clients: "basic", "post", "app" (refresh_token), "public" (refresh_token, no secret).
// With an argument, the directory of spec/support/ca.sh, the issuer speaks TLS as localhost, and there are further clients: "RS256", "PS256", "ES256", "ES384"
// and "HS256" (assertions signed by rsa.key, ecdsa.key, p384.key and the secret), "rotating" (client.key or exact.key, ES256), "certificate" (client.pem),
// "self-signed" (self-signed.pem); "app-jwt" (rsa.key, PS256) and "app-certificate" (client.pem) have refresh tokens: "refresh_jwt" and "refresh_certificate".
// Orders on the upstream's /world: POST {"ttl":2,"revoke":true,"delay":500}   GET -> statistics. `delay` holds back replies that are decided already.
import { X509Certificate, createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import Provider from 'oidc-provider';
import { left_login } from './left-login.mjs';

// Its warnings say that keys and storage are not for production, which is so.
console.info = console.warn = () => {};

// Every byte that the form encoding of RFC 6749 section 2.3.1 is about.
const secret = 'a:b c+d%e/f&g=h?i~j';
const world = { ttl: 3600, delay: 0 };
const stats = { granted: [], errors: [], details: [], accepted: 0, refused: 0, tokens: [], refresh_tokens: [], bodies: [] };

const listen = (s) => new Promise((done) => s.listen(0, '127.0.0.1', () => done(s.address().port)));
const authority = process.argv[2];
const file = (name) => fs.readFileSync(`${authority}/${name}`);
const issuer = authority
  ? https.createServer({ key: file('ecdsa.key'), cert: file('ecdsa.pem'), ca: file('ca.pem'), requestCert: true, rejectUnauthorized: false })
  : http.createServer();
const issuer_port = await listen(issuer);

const code_client = { grant_types: ['authorization_code', 'refresh_token'], redirect_uris: ['https://app.example.com/done'] };
const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const jwk = (name) => createPublicKey(file(`${name}.key`)).export({ format: 'jwk' });
const signing = (alg, ...names) => ({ token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: alg, jwks: { keys: names.map(jwk) } });
const certificate = { token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=reports' };
function tls_clients() {
  const lone = new X509Certificate(file('self-signed.pem'));
  const x5c = { ...lone.publicKey.export({ format: 'jwk' }), x5c: [lone.raw.toString('base64')] };
  return [
    { client_id: 'RS256', ...signing('RS256', 'rsa'), ...machine },
    { client_id: 'PS256', ...signing('PS256', 'rsa'), ...machine },
    { client_id: 'ES256', ...signing('ES256', 'ecdsa'), ...machine },
    { client_id: 'ES384', ...signing('ES384', 'p384'), ...machine },
    { client_id: 'HS256', client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt', token_endpoint_auth_signing_alg: 'HS256', ...machine },
    { client_id: 'rotating', ...signing('ES256', 'client', 'exact'), ...machine },
    { client_id: 'certificate', ...certificate, ...machine },
    { client_id: 'self-signed', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [x5c] }, ...machine },
    { client_id: 'app-jwt', ...signing('PS256', 'rsa'), ...code_client },
    { client_id: 'app-certificate', ...certificate, ...code_client },
  ];
}
const peer = (ctx) => ctx.socket.getPeerX509Certificate?.();
const mtls = {
  enabled: true,
  tlsClientAuth: true,
  selfSignedTlsClientAuth: true,
  getCertificate: peer,
  certificateAuthorized: (ctx) => ctx.socket.authorized,
  certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn' && peer(ctx).subject === expected,
};
const provider = new Provider(authority ? `https://localhost:${issuer_port}` : `http://127.0.0.1:${issuer_port}`, {
  clients: [
    { client_id: 'basic', client_secret: secret, token_endpoint_auth_method: 'client_secret_basic', ...machine },
    { client_id: 'post', client_secret: secret, token_endpoint_auth_method: 'client_secret_post', ...machine },
    { client_id: 'app', client_secret: secret, ...code_client },
    { client_id: 'public', token_endpoint_auth_method: 'none', ...code_client },
    ...(authority ? tls_clients() : []),
  ],
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none',
    ...(authority ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
  ],
  enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256', 'ES384', 'HS256'] },
  scopes: ['openid', 'offline_access', 'reports.read', 'reports.write'],
  features: {
    clientCredentials: { enabled: true },
    ...(authority ? { mTLS: mtls } : {}),
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({ scope: 'reports.read reports.write', audience: resource, accessTokenFormat: 'opaque', accessTokenTTL: world.ttl }),
    },
  },
  ttl: { ClientCredentials: () => world.ttl, AccessToken: () => world.ttl, RefreshToken: 3600, Grant: 3600 },
  rotateRefreshToken: true,
  findAccount: (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
provider.on('grant.success', (ctx) => {
  stats.granted.push(ctx.oidc.params.grant_type);
  stats.tokens.push(ctx.body.access_token);
  if (ctx.body.refresh_token) stats.refresh_tokens.push(ctx.body.refresh_token);
  stats.bodies.push({ ...ctx.oidc.body });
});
provider.on('grant.error', (ctx, err) => {
  stats.errors.push(err.message);
  stats.details.push(err.error_detail ?? err.message);
});
provider.on('server_error', (ctx, err) => console.error(err));
const answer = provider.callback();
issuer.on('request', (req, res) => {
  const end = res.end.bind(res);
  const delay = world.delay;
  if (delay) res.end = (...rest) => setTimeout(end, delay, ...rest);
  return answer(req, res);
});
issuer.keepAliveTimeout = 60000;

async function known(token) {
  const found = (await provider.ClientCredentials.find(token)) ?? (await provider.AccessToken.find(token));
  return found !== undefined && !world.revoked?.has(token) ? found : undefined;
}

const upstream = http.createServer(async (req, res) => {
  if (req.url === '/world') {
    let text = '';
    for await (const piece of req) text += piece;
    const order = JSON.parse(text || '{}');
    if ('ttl' in order) world.ttl = order.ttl;
    if ('delay' in order) world.delay = order.delay;
    if (order.revoke) world.revoked = new Set(stats.tokens);
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify(stats));
    return;
  }
  req.resume();
  const token = await known((req.headers.authorization ?? '').replace(/^Bearer /, ''));
  stats[token ? 'accepted' : 'refused']++;
  res.writeHead(token ? 200 : 401, { 'content-type': 'application/json' });
  res.end(JSON.stringify(token ? { client: token.clientId, scope: token.scope, audience: token.aud } : { error: 'invalid_token' }));
});
upstream.keepAliveTimeout = 60000;

const refresh = { refresh: await left_login(provider, 'app'), refresh_public: await left_login(provider, 'public') };
if (authority) Object.assign(refresh, { refresh_jwt: await left_login(provider, 'app-jwt'), refresh_certificate: await left_login(provider, 'app-certificate') });
console.log(JSON.stringify({ issuer: issuer_port, upstream: await listen(upstream), secret, ...refresh }));
process.on('SIGTERM', () => process.exit(0));
