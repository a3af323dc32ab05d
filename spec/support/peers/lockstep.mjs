// lockstep.mjs CERT KEY CA: node as a server and as clients of a proxy between, over TLS, in one process: each piece of a message is sent when the one before has arrived, so one that waits
// somewhere for the next stops the message. Prints {"server":PORT,"control":PORT}. The control port answers GET /run?base=URL&client=h1|h2&kind=events|upload|both with
// {"pieces":N,"worst":MS,"version":"2.0"}: how many arrived, how long the slowest took, and what the server was spoken to by; 500 and the reason when one did not.
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';

const [cert, key, ca] = process.argv.slice(2).map((file) => fs.readFileSync(file));
const PIECES = 20, PATIENCE = 20000;
const running = new Map();
const piece = (i) => `data: ${i}\n\n`;

// The server's side of a run: `run.send(i)` writes a piece of the reply, `run.came(n)` hears of the bytes of the request so far.
const server = http2.createSecureServer({ cert, key, allowHTTP1: true }, (req, res) => {
  const run = running.get(new URL(req.url, 'https://a').searchParams.get('id'));
  let bytes = 0;
  run.version = req.httpVersion;
  run.send = (i) => res.write(piece(i));
  run.end = () => res.end();
  res.on('error', () => {});
  req.on('error', () => {});
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  req.on('data', (d) => { bytes += d.length; run.came(bytes); });
  req.on('end', () => { if (run.kind !== 'events') res.end(); });
  run.begin();
});

function connect(run, base) {
  const { origin, pathname } = new URL(base);
  const path = `${pathname}/?id=${run.id}`, method = run.kind === 'events' ? 'GET' : 'POST';
  if (run.client === 'h2') {
    const session = http2.connect(origin, { ca });
    const stream = session.request({ ':method': method, ':path': path }, { endStream: method === 'GET' });
    session.on('error', run.fail);
    stream.on('error', run.fail);
    stream.on('data', (d) => run.took(d.toString()));
    stream.on('end', () => { session.close(); run.over(); });
    return stream;
  }
  const request = https.request(origin + path, { ca, method }, (res) => {
    res.on('data', (d) => run.took(d.toString()));
    res.on('end', run.over);
  });
  request.on('error', run.fail);
  if (method === 'GET') request.end(); else request.flushHeaders();
  return request;
}

function start(client, kind, base) {
  return new Promise((done, fail) => {
    const run = { id: String(running.size), client, kind, fail };
    let at = 0, sent = 0, since = 0, worst = 0, text = '', stream = null, limit = null;
    const uploads = kind !== 'events';
    const next = () => {
      since = performance.now();
      sent += piece(at).length;
      if (uploads) stream.write(piece(at)); else run.send(at);
    };
    const arrived = () => {
      worst = Math.max(worst, performance.now() - since);
      if (++at < PIECES) next(); else if (uploads) stream.end(); else run.end();
    };
    run.begin = () => { if (uploads) setImmediate(next); else next(); };
    run.came = (bytes) => { if (bytes === sent) { if (kind === 'both') run.send(at); else arrived(); } };
    run.took = (d) => { text += d; if (kind !== 'upload' && text.length === sent) arrived(); };
    run.over = () => { clearTimeout(limit); done({ pieces: at, worst, version: run.version }); };
    limit = setTimeout(() => fail(new Error(`piece ${at} of ${kind} did not arrive before the next one was sent`)), PATIENCE);
    running.set(run.id, run);
    stream = connect(run, base);
  });
}

const control = http.createServer(async (req, res) => {
  const query = new URL(req.url, 'http://a').searchParams;
  try {
    res.end(JSON.stringify(await start(query.get('client'), query.get('kind'), query.get('base'))));
  } catch (error) {
    res.writeHead(500);
    res.end(String(error));
  }
});
const listen = (s) => new Promise((done) => s.listen(0, '127.0.0.1', () => done(s.address().port)));
console.log(JSON.stringify({ server: await listen(server), control: await listen(control) }));
process.on('SIGTERM', () => process.exit(0));
