// A WebSocket echo server (npm ws). Prints its port. Plain requests get 200 "plain"; /refuse gets 200 to an upgrade, too; /close closes behind the first message.
import http from 'node:http';
import { WebSocketServer } from 'ws';

const server = http.createServer((req, res) => { res.setHeader('x-upgrade', req.headers.upgrade ?? 'none'); res.end('plain'); });
const sockets = new WebSocketServer({ noServer: true, maxPayload: 256 * 1024 * 1024, handleProtocols: (offered) => offered.values().next().value });
server.on('upgrade', (req, socket, head) => {
  if (req.url.startsWith('/refuse')) {
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain');
    return;
  }
  sockets.handleUpgrade(req, socket, head, (ws) => {
    if (req.url.startsWith('/hello')) ws.send(`hello ${req.headers.authorization ?? 'nobody'}`);
    ws.on('message', (data, binary) => {
      ws.send(data, { binary });
      if (req.url.startsWith('/close')) ws.close(4000, 'as told');
    });
    ws.on('error', () => {});
  });
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => console.log(server.address().port));
process.on('SIGTERM', () => process.exit(0));
