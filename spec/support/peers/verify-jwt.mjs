// Verifies a JWT twice, with jose and with node's own crypto: node verify-jwt.mjs TOKEN_FILE ALG KEY_FILE. KEY_FILE is a public key in PEM, or the secret
// of an HS algorithm. Prints {"header":…,"payload":…}; ends with 1 when either of the two does not believe it.
import crypto from 'node:crypto';
import fs from 'node:fs';
import { jwtVerify } from 'jose';

const [token_file, alg, key_file] = process.argv.slice(2);
const token = fs.readFileSync(token_file, 'latin1').trim();
const key_bytes = fs.readFileSync(key_file);
const symmetric = alg.startsWith('HS');
const key = symmetric ? crypto.createSecretKey(key_bytes) : crypto.createPublicKey(key_bytes);

function by_hand() {
  const [input, signature] = [token.slice(0, token.lastIndexOf('.')), Buffer.from(token.slice(token.lastIndexOf('.') + 1), 'base64url')];
  const hash = `sha${alg.slice(2)}`;
  if (symmetric) return crypto.createHmac(hash, key).update(input).digest().equals(signature);
  const how = { RS: {}, PS: { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: Number(alg.slice(2)) / 8 }, ES: { dsaEncoding: 'ieee-p1363' } };
  return crypto.verify(hash, Buffer.from(input), { key, ...how[alg.slice(0, 2)] }, signature);
}

try {
  const { protectedHeader: header, payload } = await jwtVerify(token, key, { algorithms: [alg] });
  if (!by_hand()) throw new Error('node:crypto does not believe it');
  console.log(JSON.stringify({ header, payload }));
} catch (e) {
  console.error(e.message);
  process.exit(1);
}
