// h2_server.mjs STREAMS [CERT KEY]: node's HTTP/2 server (over TLS beside HTTP/1.1), which lets a connection have STREAMS streams. Prints its port.
// /stats tells the most that were open at a time on one connection, itself aside, and how many connections there were: "MOST CONNECTIONS".
// /wait/MS answers late, /streams/N lets this connection have N from now on, /http1 wants HTTP/1.1 (RST_STREAM), all else echoes the body, behind "METHOD VERSION CONNECTION ".
import { createServer, createSecureServer, constants } from 'node:http2';
import { readFileSync } from 'node:fs';

const [streams, cert, key] = process.argv.slice(2);
const settings = { maxConcurrentStreams: Number(streams) };
let most = 0, connections = 0;

function serve(req, res) {
  if (req.url === '/stats') return res.end(`${most} ${connections}`);
  const session = req.stream?.session;
  const h1 = req.httpVersionMajor === 1;
  if (session) {
    session.open = (session.open ?? 0) + 1;
    most = Math.max(most, session.open);
    res.on('close', () => session.open--);
  }
  const [, verb, n] = req.url.split('/');
  if (verb === 'http1' && !h1) return req.stream.close(constants.NGHTTP2_HTTP_1_1_REQUIRED);
  if (verb === 'streams') session.settings({ maxConcurrentStreams: Number(n) });
  const parts = [];
  req.on('data', part => parts.push(part));
  req.on('end', () => setTimeout(() => {
    res.setHeader('content-type', 'text/plain');
    res.end(`${req.method} ${req.httpVersion} ${session?.number ?? 0} ${Buffer.concat(parts)}`);
  }, verb === 'wait' ? Number(n) : 0));
}

const server = cert ? createSecureServer({ cert: readFileSync(cert), key: readFileSync(key), allowHTTP1: true, settings }, serve) : createServer({ settings }, serve);
server.on('session', session => session.number = ++connections);
server.on('sessionError', () => {});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
