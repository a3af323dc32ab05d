// Node's http2 as a client: http2_client.mjs BASE [CA.pem] — goes through what an HTTP/2 client does and says what came of it, as JSON. With "slow N MS" behind that: N requests that take
// MS each, on one connection, and nothing else.
import fs from 'node:fs';
import http2 from 'node:http2';

const [base, ca, what, count, ms] = process.argv.slice(2);
const { origin, pathname } = new URL(base);
const prefix = pathname.replace(/\/$/, '');
const session = http2.connect(origin, ca && ca !== '-' ? { ca: fs.readFileSync(ca) } : {});
session.on('error', (e) => { console.error(e.message); });

function ask(headers, body, trailers) {
  return new Promise((done) => {
    const result = { body: '', bytes: 0, hints: [] };
    const stream = session.request({ ...headers, ':path': prefix + headers[':path'] }, { endStream: body === undefined && !trailers, waitForTrailers: trailers !== undefined });
    if (trailers) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('headers', (h) => result.hints.push(h[':status'], h.link));
    stream.on('response', (h) => { result.status = h[':status']; result.headers = h; });
    stream.on('trailers', (t) => { result.trailers = { ...t }; });
    stream.on('data', (d) => { result.bytes += d.length; if (result.body.length < 200) result.body += d.toString('latin1').slice(0, 200); });
    stream.on('error', () => {});
    stream.on('close', () => { result.code = stream.rstCode; done(result); });
    if (body !== undefined) stream.end(body); else if (trailers) stream.end();
  });
}

if (what === 'slow') {
  const all = [];
  for (let i = 0; i < Number(count); i++) all.push(ask({ ':path': `/slow?${ms}` }));
  let closed = false;
  session.on('goaway', () => { closed = true; });
  const results = await Promise.all(all);
  console.log(JSON.stringify({ fine: results.filter((r) => r.status === 200 && r.body === 'slow' && r.code === 0).length, goaway: closed }));
  session.close();
} else {
  const million = Buffer.alloc(1000000, 'y');
  const out = {};
  out.get = await ask({ ':path': '/version' });
  out.head = await ask({ ':path': '/version', ':method': 'HEAD' });
  out.post = await ask({ ':path': '/echo', ':method': 'POST', 'content-length': million.length }, million);
  out.stream = await ask({ ':path': '/echo', ':method': 'POST' }, million);
  out.upload_trailers = await ask({ ':path': '/count', ':method': 'POST' }, 'hello', { 'x-sum': 'abc' });
  out.trailers = await ask({ ':path': '/trailers', te: 'trailers' });
  out.hints = await ask({ ':path': '/hints' });
  out.cached = await ask({ ':path': '/cached', 'if-none-match': '"one"' });
  out.fresh = await ask({ ':path': '/cached' });
  out.early = await ask({ ':path': '/early', ':method': 'POST' }, Buffer.alloc(3000000));
  out.cut = await ask({ ':path': '/cut' });
  out.large = await ask({ ':path': '/large?5000000' });
  const many = await Promise.all(Array.from({ length: 100 }, () => ask({ ':path': '/slow?100' })));
  out.many = { fine: many.filter((r) => r.status === 200 && r.body === 'slow').length };
  out.after = await ask({ ':path': '/version' });
  for (const r of Object.values(out)) { delete r.headers?.date; }
  console.log(JSON.stringify(out));
  session.close();
}
