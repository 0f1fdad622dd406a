// A provider of OpenID Connect for tests: the certified npm package oidc-provider, with a few users.
//
//   node provider.mjs FOLDER RETURN_ADDRESS AFTER_SIGN_OUT
//
// FOLDER has node_modules. It prints its address, and ends with its standard input.
// GET /tamper/HOW makes it send ID tokens that must be refused, until GET /tamper/none-of-them.

import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, returnAddress, afterSignOut] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(folder, 'node_modules', path)));
const { default: Provider } = await load('oidc-provider/lib/index.js');
const { SignJWT, UnsecuredJWT, decodeJwt, exportJWK, generateKeyPair } = await load('jose/dist/node/esm/index.js');

const SECRET = 'secret of the daemon at the provider';
const GROUPS = {
  anna: ['physics', 'dqm-shift'],
  eva: ['dqm-experts', 'dqm-shift'],
  otto: ['physics'],
  one: 'dqm-shift',
  wrong: { 'dqm-admins': true },
};

const makeKey = () => generateKeyPair('RS256', { extractable: true });
const [own, foreign] = [await makeKey(), await makeKey()];
const jwk = { ...(await exportJWK(own.privateKey)), kid: 'own', use: 'sig', alg: 'RS256' };
const now = () => Math.floor(Date.now() / 1000);
const sign = (claims, key = own.privateKey, alg = 'RS256') =>
  new SignJWT(claims).setProtectedHeader({ alg, kid: 'own' }).sign(key);

const TAMPERED = {
  signature: (claims) => sign(claims, foreign.privateKey),
  unsigned: (claims) => new UnsecuredJWT(claims).encode(),
  secret: (claims) => sign(claims, new TextEncoder().encode(SECRET), 'HS256'),
  expired: (claims) => sign({ ...claims, iat: now() - 7200, exp: now() - 3600 }),
  audience: (claims) => sign({ ...claims, aud: 'another', azp: claims.aud }),
  issuer: (claims) => sign({ ...claims, iss: 'http://evil.example' }),
  nonce: (claims) => sign({ ...claims, nonce: 'another' }),
  without: () => undefined,
};
let how = '';

const server = createServer();
server.listen(0, 'localhost', () => {
  const issuer = `http://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'dqm',
      client_secret: SECRET,
      redirect_uris: [returnAddress],
      post_logout_redirect_uris: [afterSignOut],
    }],
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        preferred_username: id.replace('newline', 'new\nline'),
        groups: GROUPS[id],
      }),
    }),
    jwks: { keys: [jwk] },
    cookies: { keys: ['only for tests'] },
    pkce: { required: () => true },
    ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 600, IdToken: 60, Interaction: 600, Session: 600 },
  });
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith('/tamper/')) {
      how = ctx.path.slice('/tamper/'.length);
      ctx.body = how;
      return;
    }
    await next();
    if (ctx.path === '/me' && how === 'user') ctx.body = { ...ctx.body, sub: 'another' };
    if (ctx.path === '/token' && ctx.body?.id_token && how in TAMPERED) {
      ctx.body = { ...ctx.body, id_token: await TAMPERED[how](decodeJwt(ctx.body.id_token)) };
    }
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.stdin.on('end', () => process.exit(0)).resume();
