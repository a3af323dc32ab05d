// A server of RFC 7616, strict where the RFC is: each nonce knows its counts, and a count that was seen, a nonce that is not known and a uri that is not the request's
// are refused. Orders in the path: /ALGORITHM/QOP/…, such as /SHA-256/auth/x; QOP "none" is RFC 2069's form. In the query: hash (userhash=true), uses=N (a nonce is
// stale behind N uses), once (each nonce is good once, and its end is not told), next (nextnonce in each reply). POST /world {password}. Prints its port.
import http from 'node:http';
import crypto from 'node:crypto';

const realm = 'a "quoted" realm, with a comma', opaque = 'op\\aque';
let password = 'open "sesame"', n = 0;
const nonces = new Map(), names = ['mona', 'möna'];
const kinds = { 'SHA-256': 'sha256', MD5: 'md5' };

function parameters(text) {
  const found = {};
  for (const m of text.matchAll(/([\w*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g)) found[m[1].toLowerCase()] = m[2] !== undefined ? m[2].replace(/\\(.)/g, '$1') : m[3];
  return found;
}

function handle(req, body, res) {
  const url = new URL(req.url, 'http://x'), [, algorithm, qop] = url.pathname.split('/'), q = url.searchParams;
  const H = (text) => crypto.createHash(kinds[algorithm.replace('-sess', '')] || 'sha256').update(text).digest('hex');
  const fresh = () => { const nonce = `nonce,${++n}=`; nonces.set(nonce, { counts: new Set() }); return nonce; };
  const refuse = (why, stale) => {
    const one = (name) => `Digest realm=${JSON.stringify(realm)}, ${qop === 'none' ? '' : `qop="${qop.replace('+', ', ')}", `}algorithm=${name}, nonce="${fresh()}", opaque=${JSON.stringify(opaque)}` +
      (q.has('hash') ? ', userhash=true' : '') + (stale ? ', stale=TRUE' : '');
    const challenge = algorithm === 'both' ? ['Basic realm="x", ' + one('SHA-512-256'), one('MD5') + ', ' + one('SHA-256')] : algorithm === 'basic' ? 'Basic realm="x"' : one(algorithm);
    res.writeHead(401, { 'www-authenticate': challenge }).end(why);
  };
  const auth = req.headers.authorization;
  if (!auth || !auth.startsWith('Digest ')) return refuse('none');
  const p = parameters(auth.slice(7)), known = nonces.get(p.nonce);
  if (!known) return refuse('unknown nonce', true);
  if (p.realm !== realm || p.opaque !== opaque || p.uri !== req.url) return refuse('realm, opaque or uri');
  if (p.algorithm !== (algorithm === 'both' ? 'SHA-256' : algorithm)) return refuse('algorithm ' + p.algorithm);
  let name = p.username;
  if (p['username*']) name = decodeURIComponent(p['username*'].replace(/^UTF-8''/, ''));
  if (q.has('hash')) name = p.userhash === 'true' ? names.find((x) => H(`${x}:${realm}`) === p.username) : undefined;
  if (!names.includes(name)) return refuse('name ' + name);
  let a1 = H(`${name}:${realm}:${password}`);
  if (algorithm.endsWith('-sess')) a1 = H(`${a1}:${p.nonce}:${p.cnonce}`);
  const a2 = H(`${req.method}:${req.url}` + (p.qop === 'auth-int' ? ':' + H(body) : ''));
  const middle = qop === 'none' ? `:${p.nonce}:` : `:${p.nonce}:${p.nc}:${p.cnonce}:${p.qop}:`;
  if (qop !== 'none' && !qop.split('+').includes(p.qop)) return refuse('qop ' + p.qop);
  if (H(a1 + middle + a2) !== p.response) return refuse('response');
  if (qop !== 'none') {
    if (!/^[0-9a-f]{8}$/.test(p.nc) || known.counts.has(p.nc)) return refuse('count ' + p.nc, true);
    if (known.counts.size >= Number(q.get('uses') || 1e9)) return refuse('old', true);
    if (q.has('once') && known.counts.size > 0) return refuse('used up');
    known.counts.add(p.nc);
  }
  const next = q.has('next') ? { 'authentication-info': `nextnonce="${fresh()}", qop=${p.qop}` } : {};
  res.writeHead(200, next).end(JSON.stringify({ name, nc: p.nc || '', nonce: p.nonce, qop: p.qop || '', algorithm: p.algorithm, body: body.toString() }));
}

const server = http.createServer(async (req, res) => {
  const chunks = [];
  for await (const c of req) chunks.push(c);
  const body = Buffer.concat(chunks);
  if (req.url !== '/world') return handle(req, body, res);
  password = JSON.parse(body).password;
  res.end();
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.on('SIGTERM', () => process.exit(0));
