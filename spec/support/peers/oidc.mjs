// An issuer that nobody here wrote (oidc-provider: client_credentials, refresh_token with rotation) and an upstream that asks it about every token.
// Prints {"issuer":PORT,"upstream":PORT,"secret":…,"refresh":…,"refresh_public":…}. Clients: "basic", "post", "app" (refresh_token), "public" (refresh_token, no secret).
// Orders on the upstream's /world: POST {"ttl":2,"revoke":true}   GET -> statistics
import http from 'node:http';
import Provider from 'oidc-provider';

// Its warnings say that keys and storage are not for production, which is so.
console.info = console.warn = () => {};

// Every byte that the form encoding of RFC 6749 section 2.3.1 is about.
const secret = 'a:b c+d%e/f&g=h?i~j';
const world = { ttl: 3600 };
const stats = { granted: [], errors: [], accepted: 0, refused: 0, tokens: [], refresh_tokens: [], bodies: [] };

const listen = (s) => new Promise((done) => s.listen(0, '127.0.0.1', () => done(s.address().port)));
const issuer = http.createServer();
const issuer_port = await listen(issuer);

const code_client = { grant_types: ['authorization_code', 'refresh_token'], redirect_uris: ['https://app.example.com/done'] };
const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const provider = new Provider(`http://127.0.0.1:${issuer_port}`, {
  clients: [
    { client_id: 'basic', client_secret: secret, token_endpoint_auth_method: 'client_secret_basic', ...machine },
    { client_id: 'post', client_secret: secret, token_endpoint_auth_method: 'client_secret_post', ...machine },
    { client_id: 'app', client_secret: secret, ...code_client },
    { client_id: 'public', token_endpoint_auth_method: 'none', ...code_client },
  ],
  scopes: ['openid', 'offline_access', 'reports.read', 'reports.write'],
  features: {
    clientCredentials: { enabled: true },
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
provider.on('grant.error', (ctx, err) => stats.errors.push(err.message));
provider.on('server_error', (ctx, err) => console.error(err));
issuer.on('request', provider.callback());
issuer.keepAliveTimeout = 60000;

// What a login in a browser leaves behind, made with the provider's own models.
async function logged_in(client_id) {
  const grant = new provider.Grant({ accountId: 'someone', clientId: client_id });
  grant.addOIDCScope('openid offline_access');
  const refresh = new provider.RefreshToken({
    accountId: 'someone', client: await provider.Client.find(client_id), grantId: await grant.save(),
    scope: 'openid offline_access', gty: 'authorization_code', authTime: Math.floor(Date.now() / 1000),
  });
  return refresh.save();
}

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

console.log(JSON.stringify({
  issuer: issuer_port, upstream: await listen(upstream), secret, refresh: await logged_in('app'), refresh_public: await logged_in('public'),
}));
process.on('SIGTERM', () => process.exit(0));
