// What a login in a browser leaves behind with oidc-provider, made with its own models: the refresh token of a client.
export async function left_login(provider, client_id) {
  const grant = new provider.Grant({ accountId: 'someone', clientId: client_id });
  grant.addOIDCScope('openid offline_access');
  const refresh = new provider.RefreshToken({
    accountId: 'someone', client: await provider.Client.find(client_id), grantId: await grant.save(),
    scope: 'openid offline_access', gty: 'authorization_code', authTime: Math.floor(Date.now() / 1000),
  });
  return refresh.save();
}
