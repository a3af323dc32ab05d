// The token server of a registry (distribution's "Token Authentication Specification"): docker-registry believes what it signs. node registry-tokens.mjs KEY CERT. Prints {"port":…}.
// POST /world {"spoil":n}: the next n tokens are for another service; {"ttl":seconds}. GET /world -> {"requests":[…]}.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { SignJWT } from 'jose';

const [key_file, cert_file] = process.argv.slice(2);
const key = crypto.createPrivateKey(fs.readFileSync(key_file));
const x5c = [new crypto.X509Certificate(fs.readFileSync(cert_file)).raw.toString('base64')];
const world = { spoil: 0, ttl: 300 }, requests = [];

function access_of(scopes) {
  return scopes.flatMap((s) => s.split(' ')).filter(Boolean).map((s) => {
    const [, type, name, actions] = /^([^:]+):(.+):([^:]+)$/.exec(s);
    return { type, name, actions: actions.split(',') };
  });
}
async function token(params, account) {
  const scopes = params.getAll('scope'), now = Math.floor(Date.now() / 1000);
  requests.push({ account, service: params.get('service'), scopes });
  const aud = world.spoil > 0 ? 'another' : params.get('service');
  world.spoil = Math.max(0, world.spoil - 1);
  const made = await new SignJWT({ access: access_of(scopes), jti: crypto.randomUUID() }).setProtectedHeader({ alg: key.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256', typ: 'JWT', x5c })
    .setIssuer('spec').setSubject(account).setAudience(aud).setIssuedAt(now).setNotBefore(now - 5).setExpirationTime(now + world.ttl).sign(key);
  return { token: made, expires_in: world.ttl, issued_at: new Date().toISOString() };
}
async function answer(req, body) {
  const url = new URL(req.url, 'http://x');
  if (url.pathname === '/world') {
    if (body) Object.assign(world, JSON.parse(body));
    return [200, { requests }];
  }
  if (req.method === 'POST') {
    const form = new URLSearchParams(body);
    if (form.get('grant_type') !== 'refresh_token' || form.get('refresh_token') !== 'identity') return [401, { errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] }];
    const { token: access_token, expires_in } = await token(form, 'identity');
    return [200, { access_token, expires_in }];
  }
  const said = Buffer.from((req.headers.authorization ?? '').replace('Basic ', ''), 'base64').toString();
  if (said !== 'ci:s3cret-of-the-spec') return [401, { errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] }];
  return [200, await token(url.searchParams, 'ci')];
}
const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (d) => chunks.push(d));
  req.on('end', async () => {
    let status, said;
    try { [status, said] = await answer(req, Buffer.concat(chunks).toString()); } catch (e) { [status, said] = [500, { errors: [{ code: 'UNKNOWN', message: e.stack }] }]; }
    res.writeHead(status, { 'content-type': 'application/json' });
    res.end(JSON.stringify(said));
  });
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
process.on('SIGTERM', () => process.exit(0));
