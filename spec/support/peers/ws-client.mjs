// WebSocket clients (npm ws) for specs: node ws-client.mjs MODE URL [ARGUMENTS]; prints one JSON line a result and exits 0 when all is as it should be.
//   echo N           N messages, one after another, each echoed
//   big BYTES        one binary message of that size, echoed, compared
//   hold N FILE      N tunnels; prints "open", then each echoes a message every 50 ms (above 50 tunnels: every N ms) until FILE exists; prints how many were echoed and closes
//   slow N FILE      sends N messages of 256 KB and reads nothing until FILE exists; prints "sending", then how many came back whole and in order
//   first            prints the first message that comes by itself
//   closed           sends one message, prints the echo and the close code that follows
//   status           prints the HTTP status of an upgrade that is not granted
import fs from 'node:fs';
import { randomBytes } from 'node:crypto';
import WebSocket from 'ws';

const [mode, url, first, second] = process.argv.slice(2);
const say = (o) => console.log(JSON.stringify(o));
const fail = (e) => { console.error(e); process.exit(1); };
const open = (options) => new Promise((done, failed) => {
  const ws = new WebSocket(url, ['spec.v1'], { maxPayload: 256 * 1024 * 1024, ...options });
  ws.early = new Promise((heard) => ws.once('message', (m) => heard(m.toString())));
  ws.on('open', () => done(ws));
  ws.on('error', failed);
});
const echo = (ws, data) => new Promise((done, failed) => {
  ws.once('message', done);
  ws.once('close', (code) => failed(new Error(`closed with ${code}`)));
  ws.send(data);
});
const end = (ws) => new Promise((done) => { ws.once('close', done); ws.close(); });

const modes = {
  async echo() {
    const ws = await open();
    for (let i = 0; i < Number(first); i++) if ((await echo(ws, `message ${i}`)).toString() !== `message ${i}`) fail('another message came back');
    say({ protocol: ws.protocol, close: await end(ws) });
  },
  async big() {
    const ws = await open({ perMessageDeflate: false });
    const data = randomBytes(Number(first));
    if (!(await echo(ws, data)).equals(data)) fail('the message changed');
    say({ close: await end(ws) });
  },
  async hold() {
    const all = await Promise.all(Array.from({ length: Number(first) }, () => open()));
    let echoed = 0;
    say('open');
    await Promise.all(all.map(async (ws, i) => {
      do { // once at least
        if ((await echo(ws, `tunnel ${i}`)).toString() !== `tunnel ${i}`) fail('crossed');
        echoed++;
        await new Promise((done) => setTimeout(done, Math.max(50, all.length)));
      } while (!fs.existsSync(second));
    }));
    await Promise.all(all.map(end));
    say({ echoed });
  },
  async slow() {
    const ws = await open({ perMessageDeflate: false });
    const n = Number(first);
    let back = 0;
    const all = new Promise((done) => ws.on('message', (m) => {
      if (m.length !== 256 * 1024 || m[0] !== back % 256 || m[m.length - 1] !== back % 256) fail(`message ${back} changed`);
      if (++back === n) done();
    }));
    ws.pause();
    for (let i = 0; i < n; i++) ws.send(Buffer.alloc(256 * 1024, i % 256));
    say('sending');
    while (!fs.existsSync(second)) await new Promise((done) => setTimeout(done, 20));
    ws.resume();
    await all;
    say({ back, close: await end(ws) });
  },
  async first() {
    const ws = await open();
    say({ first: await ws.early });
    await end(ws);
  },
  async closed() {
    const ws = await open();
    const code = new Promise((done) => ws.once('close', done));
    ws.send('x');
    say({ echo: await ws.early, code: await code });
  },
  async status() {
    const ws = new WebSocket(url);
    ws.on('error', () => {});
    ws.on('unexpected-response', (req, res) => { say({ status: res.statusCode }); process.exit(0); });
    ws.on('open', () => fail('the upgrade was granted'));
  },
};
modes[mode]().catch(fail);
