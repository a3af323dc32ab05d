// A gRPC server and client of @grpc/grpc-js, which nobody here wrote. Messages are bytes, so no .proto is needed. grpc_peer.py is the same of Debian's grpcio.
//
//   grpc_peer.mjs server [CERT KEY]            prints {"plain":PORT,"tls":PORT}
//   grpc_peer.mjs client ADDRESS CA|- CASE...  prints a line of JSON for each CASE, in order: see `cases`. CASE@WORD: with the metadata x-to
//
// What a call is to do stands in its (first) message: see `unary` and `both`. Methods: /spec.Peer/ Unary, Up (client streams), Down (server streams), Both, Stats.
// A token is "Bearer t" and the milliseconds of its end: the server counts calls that come with one that is over, or with none.
import fs from 'node:fs';
import grpc from '@grpc/grpc-js';

const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
  path: `/spec.Peer/${name}`, requestStream, responseStream, originalName: name.toLowerCase(),
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const service = {
  Unary: method('Unary', false, false), Up: method('Up', true, false), Down: method('Down', false, true), Both: method('Both', true, true),
  Stats: method('Stats', false, false),
};
const reflection = { path: '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo' }; // which is not there
const channel = {
  'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1, 'grpc.enable_http_proxy': 0, 'grpc.enable_retries': 0,
};
const [role, ...args] = process.argv.slice(2);
const bytes = (text) => Buffer.from(text);
const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });
if (role === 'server') serve(...args);
else run(...args);

// --- the server ---

async function serve(cert, key) {
  const stats = { calls: 0, open: 0, cancelled: 0, expired: 0, missing: 0, tokens: 0, latest: -1e9 };
  const tokens = new Set();
  // What is here now came after the last turn of the loop, which on a busy machine may have been long ago: only a token that was over by then was sent too late.
  const GRACE = 300;
  let turn = Date.now();
  setInterval(() => { turn = Date.now(); }, 20);

  // The call's first act. `over` is called once it has ended, however that was.
  function begin(call) {
    stats.calls++;
    stats.open++;
    const [bearer] = call.metadata.get('authorization');
    const end = /^Bearer t(\d+)$/.exec(bearer ?? '');
    if (!end) stats.missing++;
    else if (turn > Number(end[1]) + GRACE) stats.expired++;
    if (end) stats.latest = Math.max(stats.latest, Date.now() - Number(end[1]));
    if (end) tokens.add(bearer);
    let ended = false;
    const over = () => {
      if (!ended) stats.open--;
      ended = true;
    };
    call.on('cancelled', () => {
      if (!ended) stats.cancelled++;
      over();
    });
    return over;
  }
  function echoed(call, prefix) {
    const out = new grpc.Metadata();
    const [say] = call.metadata.get('x-say');
    const [raw] = call.metadata.get('x-raw-bin');
    if (say) out.set(`x-${prefix}`, say);
    if (raw) out.set(`x-${prefix}-bin`, raw);
    return out;
  }
  const failure = (words) => ({ code: Number(words[1]), details: words.slice(2).join(' ') });

  async function unary(call, callback) {
    const over = begin(call);
    const answer = (error, message) => {
      over();
      callback(error, message, echoed(call, 'tail'));
    };
    const words = call.request.subarray(0, 200).toString().split(' ');
    switch (words[0]) {
      case 'fail': return answer(failure(words)); // nothing before it: trailers only
      case 'late':
        call.sendMetadata(echoed(call, 'head'));
        return answer(failure(words));
      case 'sleep':
        await sleep(Number(words[1]));
        return answer(null, bytes('slept'));
      case 'second': return tokens.size < 2 ? answer({ code: 16, details: 'another token' }) : answer(null, bytes('welcome'));
      case 'left': return answer(null, bytes(String(Math.round(call.getDeadline() - Date.now()))));
      case 'fill': return answer(null, Buffer.alloc(Number(words[1]), 'f'));
      default:
        call.sendMetadata(echoed(call, 'head'));
        return answer(null, call.request);
    }
  }
  function up(call, callback) {
    const over = begin(call);
    let count = 0, size = 0;
    call.on('data', (message) => {
      const words = message.subarray(0, 200).toString().split(' ');
      count++;
      size += message.length;
      if (words[0] !== 'fail') return;
      over();
      callback(failure(words));
    });
    call.on('end', () => {
      over();
      callback(null, bytes(`${count} ${size}`));
    });
  }
  async function down(call) {
    const over = begin(call);
    const [count, size, ms] = call.request.toString().split(' ').map(Number);
    for (let i = 0; i < count && !call.cancelled; i++) {
      if (!call.write(Buffer.alloc(size, 'd'))) await new Promise((done) => { call.once('drain', done); call.once('cancelled', done); });
      if (ms) await sleep(ms);
    }
    over();
    call.end();
  }
  function both(call) {
    const over = begin(call);
    call.on('data', (message) => {
      const words = message.subarray(0, 200).toString().split(' ');
      if (words[0] === 'fail') {
        over();
        call.emit('error', failure(words));
      } else if (words[0] === 'reset') { // as a server does that lost its mind, or its process
        over();
        call.call.stream.close(Number(words[1]));
      } else if (!call.write(message)) {
        call.pause();
        call.once('drain', () => call.resume());
      }
    });
    call.on('end', () => {
      over();
      call.end();
    });
  }
  function tell(call, callback) { callback(null, bytes(JSON.stringify({ ...stats, tokens: tokens.size }))); }

  const server = new grpc.Server(channel);
  server.addService(service, { Unary: unary, Up: up, Down: down, Both: both, Stats: tell });
  const bind = (credentials) => new Promise((done, failed) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, port) => (error ? failed(error) : done(port)));
  });
  const plain = await bind(grpc.ServerCredentials.createInsecure());
  const tls = cert && await bind(grpc.ServerCredentials.createSsl(null, [{ cert_chain: fs.readFileSync(cert), private_key: fs.readFileSync(key) }]));
  console.log(JSON.stringify({ plain, tls }));
  process.on('SIGTERM', () => process.exit(0));
}

// --- the client ---

async function run(address, ca, ...names) {
  const credentials = ca === '-' ? grpc.credentials.createInsecure() : grpc.credentials.createSsl(fs.readFileSync(ca));
  let client = new grpc.Client(address, credentials, channel);
  const retrying = { ...channel, 'grpc.enable_retries': 1, 'grpc.service_config': JSON.stringify({ loadBalancingConfig: [], methodConfig: [{ name: [{}],
    retryPolicy: { maxAttempts: 3, initialBackoff: '0.01s', maxBackoff: '0.02s', backoffMultiplier: 1, retryableStatusCodes: ['UNAVAILABLE'] } }] }) };
  let metadata;
  const heads = (md, prefix) => ({ say: md?.get(`x-${prefix}`)[0], raw: md?.get(`x-${prefix}-bin`)[0]?.toString('hex') });
  const args_of = (m) => [m.path, same, same];

  // What is common to all calls: { code, details, messages, head, tail, pushback, ms }; head is missing when nothing of it came.
  function watch(call, result, resolve) {
    const began = Date.now();
    const step = { messages: [] };
    call.on('metadata', (md) => {
      const head = heads(md, 'head');
      if (head.say) step.head = head;
    });
    call.on('status', (status) => {
      resolve({ ...step, code: status.code, details: status.details, tail: heads(status.metadata, 'tail'),
        pushback: status.metadata.get('grpc-retry-pushback-ms')[0], ms: Date.now() - began });
    });
    call.on('error', () => {});
    call.on('data', (message) => step.messages.push(message.length > 100 ? message.length : message.toString()));
    return step;
  }
  const unary = (message, options = {}, m = service.Unary) => new Promise((resolve) => {
    let reply;
    const call = client.makeUnaryRequest(...args_of(m), message, metadata, options, (error, value) => { reply = value; });
    watch(call, {}, (r) => setImmediate(() => {
      if (reply) r.messages.push(reply.length > 100 ? reply.length : reply.toString());
      resolve(r);
    }));
  });
  const up = (messages) => new Promise((resolve) => {
    let reply;
    const call = client.makeClientStreamRequest(...args_of(service.Up), metadata, {}, (error, value) => { reply = value; });
    watch(call, {}, (r) => setImmediate(() => {
      if (reply) r.messages.push(reply.toString());
      resolve(r);
    }));
    for (const m of messages) call.write(m);
    call.end();
  });
  const down = (order, act) => new Promise((resolve) => {
    const call = client.makeServerStreamRequest(...args_of(service.Down), bytes(order), metadata, {});
    const step = watch(call, {}, resolve);
    act?.(call, step);
  });
  // Each message only when the one before has come back.
  const both = (messages, options = {}) => new Promise((resolve) => {
    const call = client.makeBidiStreamRequest(...args_of(service.Both), metadata, options);
    let at = 0;
    const next = () => {
      const m = messages[at++];
      if (m === undefined) call.end();
      else if (m === 'cancel') call.cancel();
      else if (m !== 'wait') call.write(bytes(m));
    };
    watch(call, {}, resolve);
    call.on('data', next);
    next();
  });
  const stats = () => new Promise((resolve, failed) => {
    client.makeUnaryRequest(...args_of(service.Stats), bytes(''), metadata, {}, (error, value) => (error ? failed(error) : resolve(JSON.parse(value))));
  });

  // `count` streams at any time, each of some ten messages that come back one by one, for so many seconds.
  async function soak(seconds, count) {
    const end = Date.now() + seconds * 1000;
    const said = { streams: 0, messages: 0, failed: [] };
    const one = async (i) => {
      await sleep(Math.random() * 200);
      while (Date.now() < end) {
        const r = await new Promise((resolve) => {
          const call = client.makeBidiStreamRequest(...args_of(service.Both), metadata, {});
          const n = 5 + i % 10;
          let sent = 0, back = 0;
          call.on('error', () => {});
          call.on('status', (status) => resolve({ code: status.code, details: status.details, whole: back === n }));
          call.on('data', (m) => {
            if (m.toString() === `${i} ${back}`) back++;
            said.messages++;
            setTimeout(next, 100);
          });
          const next = () => (sent < n ? call.write(bytes(`${i} ${sent++}`)) : call.end());
          next();
        });
        said.streams++;
        if (r.code !== 0 || !r.whole) said.failed.push(`${r.code} ${r.details} ${r.whole}`);
      }
    };
    await Promise.all(Array.from({ length: count }, (_, i) => one(i)));
    return { ...said, failed: said.failed.slice(0, 20), failures: said.failed.length };
  }

  const cases = {
    unary: () => unary(bytes('hello')),
    up: () => up(['one', 'two', 'three'].map(bytes)),
    'up-fail': () => up([bytes('fail 9 no more'), ...Array(20).fill(Buffer.alloc(1000))]),
    down: () => down('3 5 0'),
    both: () => both(['a', 'b', 'c', 'd', 'e']),
    'both-fail': () => both(['a', 'fail 10 in the middle']),
    fail: () => unary(bytes('fail 5 nothing: 100% caf\u00e9')),
    late: () => unary(bytes('late 7 not you')),
    reflect: () => unary(bytes(''), {}, reflection),
    second: () => unary(bytes('second')),
    retry: () => { // from here on with a retry policy
      client = new grpc.Client(address, credentials, retrying);
      return unary(bytes('hello'));
    },
    deadline: () => unary(bytes('sleep 3000'), { deadline: Date.now() + 300 }),
    left: () => unary(bytes('left'), { deadline: Date.now() + 20000 }),
    cancel: () => both(['a', 'cancel']),
    'cancel-down': () => down('100000 1000 10', (call, step) => call.on('data', () => step.messages.length === 3 && call.cancel())),
    reset: () => both(['a', 'reset 8']),
    'reset-internal': () => both(['a', 'reset 2']),
    big: () => unary(Buffer.alloc(3 * 1024 * 1024, 'b')),
    fill: () => unary(bytes(`fill ${3 * 1024 * 1024}`)),
    'big-up': () => up(Array(20).fill(Buffer.alloc(200000, 'u'))),
    'big-down': () => down('20 200000 0'),
    pace: (seconds) => down(`${seconds * 4} 10 250`),
    stats,
    soak,
  };
  for (const name of names) {
    const [what, to] = name.split('@');
    const [which, ...how] = what.split(':');
    metadata = new grpc.Metadata();
    metadata.set('x-say', 'hello, caf%C3%A9');
    metadata.set('x-raw-bin', Buffer.from([0, 1, 254, 255]));
    if (to) metadata.set('x-to', to);
    const r = await cases[which](...how.map(Number));
    console.log(JSON.stringify({ case: name, ...r }));
  }
  client.close();
  process.exit(0); // a stream that somebody left open does not keep it
}
