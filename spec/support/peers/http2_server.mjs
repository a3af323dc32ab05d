// Node's own servers as an upstream: HTTP/1.1 and HTTP/2 on one port, told apart by the preface; with a directory of certificates (argument) over TLS too, by ALPN.
// Prints {"plain":PORT,"tls":PORT}. GET /large?BYTES, /hints (103), /trailers, /cached (304 to its ETag), /slow?MS, /cut (reset within the body), /version; POST /echo, /early (413 with the
// body unread), /count (how many bytes came, and the trailers behind them); GET /seen: how many requests came by each version.
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';

const seen = {};
const piece = Buffer.alloc(65536, 'x');

function large(res, left) {
  while (left > 0) {
    const n = Math.min(left, piece.length);
    left -= n;
    if (!res.write(n < piece.length ? piece.subarray(0, n) : piece) && left > 0) { res.once('drain', () => large(res, left)); return; }
  }
  res.end();
}

function serve(req, res) {
  const [path, query] = req.url.split('?');
  seen[req.httpVersion] = (seen[req.httpVersion] ?? 0) + 1;
  const text = (status, body, headers = {}) => { res.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body), ...headers }); res.end(body); };
  res.on('error', () => {});
  req.on('error', () => {});
  switch (path) {
    case '/echo': {
      const headers = req.headers['content-length'] ? { 'content-length': req.headers['content-length'] } : {};
      res.writeHead(200, headers);
      req.pipe(res);
      return;
    }
    case '/count': {
      let n = 0;
      req.on('data', (d) => { n += d.length; });
      req.on('end', () => text(200, `${n} ${JSON.stringify(req.trailers)}`));
      return;
    }
    case '/early': text(413, 'too much'); return;
    case '/large': res.writeHead(200, { 'content-length': query }); large(res, Number(query)); return;
    case '/hints': res.writeEarlyHints({ link: '</style.css>; rel=preload' }); setTimeout(() => text(200, 'hinted'), 20); return;
    case '/trailers':
      res.writeHead(200, { trailer: 'x-checksum' });
      res.write('body');
      res.addTrailers({ 'x-checksum': 'abc' });
      res.end();
      return;
    case '/cached':
      if (req.headers['if-none-match'] === '"one"') { res.writeHead(304, { etag: '"one"' }); res.end(); } else text(200, 'whole', { etag: '"one"' });
      return;
    case '/slow': setTimeout(() => text(200, 'slow'), Number(query)); return;
    case '/cut':
      res.writeHead(200, { 'content-length': 100000 });
      res.write('half');
      setTimeout(() => (res.stream ? res.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : res.destroy()), 30);
      return;
    case '/seen': text(200, JSON.stringify(seen)); return;
    default: text(200, req.httpVersion);
  }
}

const one = http.createServer(serve);
one.keepAliveTimeout = 60000;
const two = http2.createServer({ settings: { maxConcurrentStreams: 100 } }, serve);
two.on('sessionError', () => {});
const plain = net.createServer((socket) => {
  socket.on('error', () => {});
  socket.once('data', (first) => {
    socket.pause();
    socket.unshift(first);
    const server = first.toString('latin1', 0, 3) === 'PRI' ? two : one;
    server.emit('connection', socket);
    if (server === one) process.nextTick(() => socket.resume());
  });
});

const listen = (s) => new Promise((done) => s.listen(0, '127.0.0.1', () => done(s.address().port)));
const ports = { plain: await listen(plain) };
const dir = process.argv[2];
if (dir) {
  const tls = http2.createSecureServer({ cert: fs.readFileSync(`${dir}/rsa.pem`), key: fs.readFileSync(`${dir}/rsa.key`), allowHTTP1: true }, serve);
  tls.on('sessionError', () => {});
  ports.tls = await listen(tls);
}
console.log(JSON.stringify(ports));
process.on('SIGTERM', () => process.exit(0));
