// A server in plain text that speaks HTTP/1.1, and HTTP/2 to who begins with its preface: both(serve), where serve(req, res) is of node:http and of node:http2 alike.
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';

export function both(serve) {
  const plain = http.createServer(serve);
  plain.keepAliveTimeout = 60000;
  const multiplexed = http2.createServer(serve);
  multiplexed.on('sessionError', () => {});
  return net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (first) => {
      socket.pause();
      socket.unshift(first);
      const server = first.toString('latin1', 0, 3) === 'PRI' ? multiplexed : plain;
      server.emit('connection', socket);
      if (server === plain) process.nextTick(() => socket.resume());
    });
  });
}
