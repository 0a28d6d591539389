// Drives the fake with the official Node SDK and prints what it saw, as one JSON object.

import { InfisicalSDK } from "@infisical/sdk";

const env = process.env;
const siteUrl = env.INFISICAL_URL;
const projectId = env.INFISICAL_PROJECT_ID;
const credentials = {
  clientId: env.INFISICAL_CLIENT_ID,
  clientSecret: env.INFISICAL_CLIENT_SECRET,
};
const place = { environment: "prod", secretPath: "/myapp", projectId };

// How the SDK reports the server's refusal; the URL in the message varies with the port.
async function refused(call) {
  try {
    await call();
  } catch (error) {
    return { class: error.name, message: error.message.replace(/\[URL=[^\]]*\] /, "") };
  }
  throw new Error("the call should have been refused");
}

const values = (secrets) =>
  Object.fromEntries(secrets.map((s) => [s.secretKey, s.secretValue]));

const client = new InfisicalSDK({ siteUrl });
await client.auth().universalAuth.login(credentials);
const secrets = client.secrets();
const seen = {};

const listed = await secrets.listSecrets({ ...place, includeImports: true });
seen.list = values(listed.secrets);
seen.imports = listed.imports.map((i) => [i.secretPath, values(i.secrets)]);
// The SDK's own merge lets the first import win, unlike the server
seen.merged = values(await secrets.listSecretsWithImports(place));
const deep = await secrets.listSecrets({ ...place, recursive: true });
seen.recursive = deep.secrets.map((s) => [s.secretPath, s.secretKey]).sort();
seen.get = (await secrets.getSecret({ ...place, secretName: "DB_HOST" })).secretValue;
// It asks for imports by v4's name, which v3 does not know
seen.imported = await refused(() =>
  secrets.getSecret({ ...place, secretName: "PORT", includeImports: true }),
);

const summary = ({ secret }) => [secret.secretValue, secret.version];
seen.created = summary(await secrets.createSecret("SDK", { ...place, secretValue: " one\n\n" }));
seen.updated = summary(await secrets.updateSecret("SDK", { ...place, secretValue: "two" }));
seen.deleted = summary(await secrets.deleteSecret("SDK", place));

const folder = { projectId, environment: "prod", path: "/myapp" };
seen.folder = (await client.folders().create({ ...folder, name: "node" })).name;
seen.folders = (await client.folders().listFolders(folder)).map((f) => f.name);

await client.auth().universalAuth.renew();
seen.renewed = (await secrets.getSecret({ ...place, secretName: "DB_HOST" })).secretValue;

const stranger = new InfisicalSDK({ siteUrl });
seen.bad_secret = await refused(() =>
  stranger.auth().universalAuth.login({ ...credentials, clientSecret: "wrong" }),
);
seen.closed = await refused(() =>
  secrets.listSecrets({ ...place, projectId: env.INFISICAL_CLOSED_PROJECT_ID }),
);
seen.unknown = await refused(() => secrets.getSecret({ ...place, secretName: "NOPE" }));
console.log(JSON.stringify(seen));
