// An imitation of Vault, as far as its API's documents say it, since no package of the server exists: tokens with their children (a token that ends takes its leases along), approle,
// kubernetes and JWT logins, database credentials with leases, KV 1 and 2, namespaces. And the database: /db believes the credentials of living leases, /key what KV has.
// last_second: what lookup-self says of a token's ttl then. Prints {"port":…}. POST /world {"token_ttl":…,"lease_ttl":…,"max_ttl":…,"renewable":…,"key":…,"sealed":…,"forget":true}; GET /world -> what there is, and the requests.
import crypto from 'node:crypto';
import http from 'node:http';

const world = { token_ttl: 3600, lease_ttl: 600, max_ttl: 86400, renewable: true, key: 'first', sealed: false, namespace: '' };
const tokens = new Map(), leases = new Map(), requests = [];
let logins = 0, number = 0;

const now = () => Date.now() / 1000;
class Refusal extends Error {
  constructor(status, ...errors) { super(errors[0]); this.status = status; this.errors = errors; }
}
const demand = (condition, status, what) => { if (!condition) throw new Refusal(status, what); };

function new_token(ttl = world.token_ttl, renewable = world.renewable) {
  const token = 'hvs.' + crypto.randomBytes(16).toString('hex');
  tokens.set(token, { until: ttl ? now() + ttl : Infinity, most: now() + world.max_ttl, renewable, accessor: 'accessor' + ++number });
  return token;
}
function end_token(token) {
  tokens.delete(token);
  for (const [id, lease] of leases) if (lease.token === token) leases.delete(id);
}
function sweep() {
  for (const [token, t] of tokens) if (t.until < now()) end_token(token);
  for (const [id, lease] of leases) if (lease.until < now()) leases.delete(id);
}
const left = (x) => (x.until === Infinity ? 0 : Math.floor(x.until - now() + 0.05));
const ends = (x) => (x.until === Infinity ? null : new Date(x.until * 1000).toISOString());
const extend = (x, ttl) => { x.until = Math.min(now() + ttl, x.most); return left(x); };
const auth_of = (token) => ({ auth: { client_token: token, accessor: tokens.get(token).accessor, policies: ['default'], lease_duration: left(tokens.get(token)), renewable: tokens.get(token).renewable } });

function log_in(ok) {
  demand(ok, 400, 'invalid role or secret ID');
  logins++;
  return auth_of(new_token());
}

const routes = {
  'POST auth/approle/login': (r) => log_in(r.body.role_id === 'role' && r.body.secret_id === 'secret-of-role'),
  'POST auth/kubernetes/login': (r) => log_in(r.body.role === 'reports' && r.body.jwt === 'service-account-jwt'),
  'POST auth/ci/login': (r) => log_in(r.body.role === 'reports' && r.body.jwt === 'ci-jwt'),
  'GET auth/token/lookup-self': (r) => ({ data: { ttl: world.last_second ? 0 : left(r.token), expire_time: ends(r.token), renewable: r.token.renewable } }),
  'POST auth/token/renew-self': (r) => {
    demand(r.token.renewable, 400, 'lease is not renewable');
    extend(r.token, world.token_ttl);
    return auth_of(r.id);
  },
  'POST auth/token/revoke-self': (r) => end_token(r.id),
  'GET database/creds/reports': (r) => {
    const id = 'database/creds/reports/' + ++number;
    leases.set(id, { token: r.id, until: now() + world.lease_ttl, most: now() + world.max_ttl, username: 'v-' + number, password: 'pw-' + crypto.randomBytes(8).toString('hex') });
    const { username, password } = leases.get(id);
    return { lease_id: id, lease_duration: world.lease_ttl, renewable: world.renewable, data: { username, password } };
  },
  'POST aws/sts/deploy': (r) => ({ lease_id: '', lease_duration: 0, renewable: false, data: { access_key: 'AKIA', secret_key: 'sk-' + r.body.ttl, security_token: 'st' } }),
  'PUT sys/leases/renew': (r) => {
    const lease = leases.get(r.body.lease_id);
    demand(lease, 400, 'lease not found');
    return { lease_id: r.body.lease_id, lease_duration: extend(lease, world.lease_ttl), renewable: true };
  },
  'PUT sys/leases/revoke': (r) => { demand(leases.delete(r.body.lease_id), 400, 'lease not found'); },
  'GET secret/data/reports/api': () => ({ lease_duration: 0, data: { data: { key: world.key, id: 7 }, metadata: { version: 3 } } }),
  'GET kv/reports/api': () => ({ lease_duration: 2764800, data: { key: world.key } }),
};

function vault(req, body) {
  demand(!world.sealed, 503, 'Vault is sealed');
  demand((req.headers['x-vault-namespace'] ?? '') === world.namespace, 403, 'permission denied');
  demand(req.headers['x-vault-request'] === 'true', 400, "missing required X-Vault-Request header");
  const name = `${req.method} ${req.url.slice('/v1/'.length)}`;
  const route = routes[name];
  demand(route, 404, 'no handler for route');
  const id = req.headers['x-vault-token'], token = tokens.get(id);
  demand(token || /\/login$/.test(name), 403, 'permission denied');
  return route({ body: body ? JSON.parse(body) : {}, id, token });
}

function database(req) {
  const said = Buffer.from((req.headers.authorization ?? '').replace('Basic ', ''), 'base64').toString();
  for (const lease of leases.values()) if (said === `${lease.username}:${lease.password}`) return { user: lease.username };
  throw new Refusal(401, 'no such user');
}

function control(body) {
  if (body) {
    const orders = JSON.parse(body);
    if (orders.forget) { leases.clear(); tokens.clear(); requests.length = 0; logins = 0; }
    Object.assign(world, orders);
    if (orders.make) return { token: new_token(orders.make.ttl, orders.make.renewable) };
  }
  return { logins, tokens: tokens.size, leases: [...leases.keys()], requests };
}

function answer(req, body) {
  sweep();
  if (req.url === '/world') return control(body);
  if (req.url.startsWith('/db')) return database(req);
  if (req.url.startsWith('/key')) { demand(req.headers['x-api-key'] === world.key, 401, 'which key?'); return { key: 'good' }; }
  if (req.url.startsWith('/v1/')) requests.push(`${req.method} ${req.url}`);
  return vault(req, body);
}

const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (d) => chunks.push(d));
  req.on('end', () => {
    let status = 200, said;
    try { said = answer(req, Buffer.concat(chunks).toString()); } catch (e) { status = e.status ?? 500; said = { errors: e.errors ?? [e.stack] }; }
    res.writeHead(said === undefined ? 204 : status, { 'content-type': 'application/json' });
    res.end(said === undefined ? undefined : JSON.stringify(said));
  });
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
process.on('SIGTERM', () => process.exit(0));
