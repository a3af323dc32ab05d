// An issuer (oauth2-mock-server) and an upstream (node:http, and node:http2 for who begins with its preface) that believes only its tokens, in one process, so that "valid now" is judged by one clock.
// Prints {"issuer":PORT,"upstream":PORT} and takes orders on the upstream's /world paths:
//   POST /world {"ttl":2,"delay":300,"mode":"ok|refuse|hang|500|empty|nolife|jwtlife|zero|negative|string|html","revoke":true}
//   GET /world -> statistics. In mode nolife the token is opaque, in mode jwtlife only its own exp tells its end.
import http from 'node:http';
import { OAuth2Server } from 'oauth2-mock-server';
import { both } from './both-protocols.mjs';

const world = { ttl: 3600, delay: 0, mode: 'ok', realm: 'api' };
const stats = { fetches: 0, concurrent: 0, most_concurrent: 0, accepted: 0, refused: 0, seen: [], tokens: [], stamps: [], bodies: [] };
const valid = new Map(); // token -> expiry, ms

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');

server.service.on('beforeTokenSigning', (token) => {
  token.payload.exp = Math.floor(Date.now() / 1000) + world.ttl;
  token.payload.jti = Math.random().toString(36).slice(2) + stats.fetches;
});
server.service.on('beforeResponse', (response, request) => {
  stats.bodies.push({ form: request.body, authorization: request.headers.authorization ?? null });
  if (world.mode === 'nolife') response.body.access_token = `opaque-${stats.fetches}`;
  const token = response.body.access_token;
  const life = { nolife: undefined, jwtlife: undefined, zero: 0, negative: -5, string: String(world.ttl) };
  response.body.expires_in = world.mode in life ? life[world.mode] : world.ttl;
  if (world.mode === '500') { response.statusCode = 500; response.body = { error: 'server_error', error_description: 'on purpose' }; }
  else if (world.mode === 'empty') response.body = {};
  else { valid.set(token, Date.now() + world.ttl * 1000); stats.tokens.push(token); }
});

// In front of the issuer: delay, hang and refusal happen before it sees anything.
const issuer = http.createServer((req, res) => {
  const token_request = req.url.startsWith('/token');
  if (token_request) {
    stats.fetches++;
    stats.stamps.push(Date.now());
    stats.concurrent++;
    stats.most_concurrent = Math.max(stats.most_concurrent, stats.concurrent);
    res.on('close', () => { stats.concurrent--; });
    if (world.mode === 'refuse') { req.socket.destroy(); return; }
    if (world.mode === 'hang') return;
    if (world.mode === 'html') { res.writeHead(200, { 'content-type': 'text/html' }); res.end('<html>sign in</html>'); return; }
  }
  setTimeout(() => {
    const target = new URL(server.issuer.url);
    const onward = http.request({ host: '127.0.0.1', port: target.port, method: req.method, path: req.url, headers: req.headers }, (r) => {
      res.writeHead(r.statusCode, r.headers);
      r.pipe(res);
    });
    onward.on('error', () => res.destroy());
    req.pipe(onward);
  }, token_request ? world.delay : 0);
});
issuer.keepAliveTimeout = 60000;

function order(req, res) {
  let text = '';
  req.on('data', (d) => { text += d; });
  req.on('end', () => {
    if (req.method === 'POST') {
      const o = JSON.parse(text || '{}');
      if (o.revoke) valid.clear();
      if (o.reset) Object.assign(stats, { fetches: 0, most_concurrent: 0, accepted: 0, refused: 0, seen: [], stamps: [], bodies: [] });
      for (const k of ['ttl', 'delay', 'mode']) if (k in o) world[k] = o[k];
    }
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify(stats));
  });
}

function serve(req, res) {
  if (req.url === '/world') { order(req, res); return; }
  const chunks = [];
  req.on('data', (d) => chunks.push(d));
  req.on('end', () => {
    const body = Buffer.concat(chunks);
    const header = req.headers.authorization ?? '';
    const token = header.replace(/^Bearer /, '');
    const good = (valid.get(token) ?? 0) > Date.now();
    if (req.url.startsWith('/open')) { res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.rawHeaders, body: body.toString('latin1') })); return; }
    if (req.url.startsWith('/always-401') || !good) {
      stats.refused++;
      stats.seen.push({ refused: header.slice(0, 20), url: req.url });
      res.writeHead(401, { 'www-authenticate': 'Bearer', 'content-type': 'text/plain' });
      res.end('no\n');
      return;
    }
    stats.accepted++;
    res.setHeader('content-type', 'text/plain');
    res.end(`ok ${body.length}\n`);
  });
}
const upstream = both(serve);

const listen = (s) => new Promise((done) => s.listen(0, '127.0.0.1', () => done(s.address().port)));
console.log(JSON.stringify({ issuer: await listen(issuer), upstream: await listen(upstream) }));
process.on('SIGTERM', () => process.exit(0));
