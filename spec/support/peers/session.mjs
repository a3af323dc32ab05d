// An application with sessions, of express, express-session and csrf: a form with a hidden token (/login), JSON with a token in a cookie (/api/login), pages that lead to the login
// when there is no session (/page), and an API that says 401 (/api/data). Prints {"port":…}. POST /world {"forget":true,"tell":"redirect"|"form","max_age":ms}; GET /world -> counts.
import express from 'express';
import session from 'express-session';
import Tokens from 'csrf';

const PASSWORD = 's3cret-of-the-spec', tokens = new Tokens(), store = new session.MemoryStore();
const world = { tell: 'form', logins: 0, tried: 0, logouts: 0, max_age: null };
const app = express();

app.get('/world', (req, res) => store.length((_, sessions) => res.json({ ...world, sessions })));
app.post('/world', express.json(), (req, res) => {
  Object.assign(world, req.body);
  const done = () => res.json({});
  if (req.body.forget) { Object.assign(world, { logins: 0, tried: 0, logouts: 0 }); store.clear(done); } else done();
});

app.use((req, res, next) => session({ secret: 'spec', store, resave: false, saveUninitialized: false, cookie: { maxAge: world.max_age ?? undefined } })(req, res, next));
app.use(express.urlencoded({ extended: false }), express.json());

const csrf_of = (req) => tokens.create(req.session.csrf ??= tokens.secretSync());
const csrf_good = (req, token) => Boolean(req.session.csrf && token && tokens.verify(req.session.csrf, token));
const form = (req) => `<!doctype html><META name="viewport" content="x"><form method="post"><input type='hidden' value='${csrf_of(req)}' name='_csrf'>
  <input name="user"><input type="password" name="password"></form>`;
function begin(req, res, user, then) {
  req.session.regenerate(() => { world.logins++; Object.assign(req.session, { user, csrf: tokens.secretSync() }); req.session.save(then); });
}

app.get('/login', (req, res) => res.send(form(req)));
app.post('/login', (req, res) => {
  world.tried++;
  if (!csrf_good(req, req.body._csrf)) return res.status(403).send('bad CSRF token');
  if (req.body.password !== PASSWORD) return world.tell === 'redirect' ? res.redirect('/login?error=1') : res.send(form(req));
  begin(req, res, req.body.user, () => res.redirect('/home'));
});
app.get('/api/csrf', (req, res) => res.cookie('XSRF-TOKEN', csrf_of(req)).json({}));
app.post('/api/login', (req, res) => {
  world.tried++;
  if (!csrf_good(req, req.get('x-xsrf-token'))) return res.status(403).json({ error: 'csrf' });
  if (req.body.password !== PASSWORD) return res.status(401).json({ error: 'who?' });
  begin(req, res, req.body.user, () => res.cookie('XSRF-TOKEN', csrf_of(req)).json({ ok: true }));
});
app.get('/home', (req, res) => (req.session.user ? res.send(`<meta content="${csrf_of(req)}" name="csrf-token">`) : res.redirect('/login')));
app.all('/page', (req, res) => {
  if (!req.session.user) return res.redirect(302, `http://${req.get('host')}/login?next=/page`);
  if (req.method === 'POST' && !csrf_good(req, req.get('x-csrf-token') ?? req.get('x-xsrf-token'))) return res.status(403).send('bad CSRF token');
  res.json({ user: req.session.user, body: req.body, id: req.session.id });
});
app.get('/elsewhere', (req, res) => res.redirect('/home'));
app.get('/api/data', (req, res) => (req.session.user ? res.json({ user: req.session.user }) : res.status(401).json({})));
app.post('/logout', (req, res) => {
  if (req.session.user) world.logouts++;
  req.session.destroy(() => res.redirect('/login'));
});

const server = app.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
process.on('SIGTERM', () => process.exit(0));
