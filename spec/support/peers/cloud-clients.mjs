// The clouds' own libraries against the imitation (clouds.mjs): node cloud-clients.mjs PORT TLS_PORT DIRECTORY. Prints {"NAME":"token or error: …"} of each.
// DIRECTORY has app.key, cert.pem (for the same key) and account.json. Google's libraries know their hosts by name: what goes there is led to the imitation.
import fs from 'node:fs';
import { createAppAuth } from '@octokit/auth-app';
import { request } from '@octokit/request';
import { GoogleAuth, Impersonated, JWT, Compute, ExternalAccountClient } from 'google-auth-library';
import { ClientSecretCredential, ClientCertificateCredential, ClientAssertionCredential, ManagedIdentityCredential } from '@azure/identity';

const [port, tls_port, directory] = process.argv.slice(2);
const here = `http://127.0.0.1:${port}`;
const key = fs.readFileSync(`${directory}/app.key`, 'utf8');
const account = JSON.parse(fs.readFileSync(`${directory}/account.json`, 'utf8'));
const made = {};
async function note(name, get) {
  try { made[name] = await get(); } catch (e) { made[name] = `error: ${e.message}`; }
}

// --- GitHub ---
await note('github', async () => {
  const auth = createAppAuth({ appId: 12345, privateKey: key, installationId: 42, request: request.defaults({ baseUrl: here }) });
  return (await auth({ type: 'installation' })).token;
});

// --- Google ---
const led = (url, init) => fetch(String(url).replace(/^https:\/\/(oauth2|sts|iamcredentials)\.googleapis\.com/, here), init);
const transporterOptions = { fetchImplementation: led };
const scopes = ['https://www.googleapis.com/auth/cloud-platform'];
await note('google_key', async () => {
  const client = new JWT({ email: account.client_email, key: account.private_key, keyId: account.private_key_id, scopes, transporterOptions });
  return (await client.getAccessToken()).token;
});
await note('google_key_id', async () => {
  const client = new JWT({ email: account.client_email, key: account.private_key, keyId: account.private_key_id, transporterOptions });
  return await client.fetchIdToken('https://service.example');
});
process.env.GCE_METADATA_HOST = `127.0.0.1:${port}`;
await note('google_metadata', async () => (await new Compute({}).getAccessToken()).token);
await note('google_metadata_id', async () => await new Compute({}).fetchIdToken('https://service.example'));
await note('google_federation', async () => {
  const client = ExternalAccountClient.fromJSON({
    type: 'external_account',
    audience: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider',
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    token_url: `${here}/v1/token`,
    service_account_impersonation_url: `${here}/v1/projects/-/serviceAccounts/${account.client_email}:generateAccessToken`,
    credential_source: { file: `${directory}/federated` },
    scopes, transporterOptions,
  });
  client.scopes = scopes;
  return (await client.getAccessToken()).token;
});
await note('google_impersonate', async () => {
  const source = new JWT({ email: account.client_email, key: account.private_key, keyId: account.private_key_id, scopes, transporterOptions });
  const client = new Impersonated({ sourceClient: source, targetPrincipal: account.client_email, targetScopes: scopes, lifetime: 600 });
  return (await client.getAccessToken()).token;
});

// --- Entra: https is all that its library takes ---
const options = { authorityHost: `https://localhost:${tls_port}`, disableInstanceDiscovery: true };
const scope = 'https://vault.azure.net/.default';
await note('azure_secret', async () => (await new ClientSecretCredential('tenant', 'app-id', 's3cret', options).getToken(scope)).token);
await note('azure_certificate', async () => (await new ClientCertificateCredential('tenant', 'app-id', { certificate: key + fs.readFileSync(`${directory}/cert.pem`, 'utf8') }, options).getToken(scope)).token);
await note('azure_assertion', async () => (await new ClientAssertionCredential('tenant', 'app-id', async () => 'federated-token', options).getToken(scope)).token);
process.env.AZURE_POD_IDENTITY_AUTHORITY_HOST = here;
await note('azure_machine', async () => (await new ManagedIdentityCredential().getToken(scope)).token);

console.log(JSON.stringify(made));
process.exit(0);
