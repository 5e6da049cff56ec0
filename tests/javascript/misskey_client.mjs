// Registers, lists, changes, shows, tests and deletes a hook with Misskey's own client.
//
// Takes the address of the server, a token and the address of a receiver; prints an answer a
// line, and for a refusal what the client makes of it.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const packages = createRequire(`${process.env.POSTRIDER_TEST_NODE_MODULES}/`);
const { api } = await import(pathToFileURL(packages.resolve('misskey-js')));

const [origin, credential, url] = process.argv.slice(2);
const client = new api.APIClient({ origin, credential });
const say = (answer) => console.log(JSON.stringify(answer ?? null));

const made = await client.request('i/webhooks/create', {
  name: 'hook', url, secret: 's3cr3t', on: ['note', 'mention'],
});
const webhookId = made.id;
say(made);
say(await client.request('i/webhooks/list', {}));
say(await client.request('i/webhooks/update', { webhookId, active: false }));
say(await client.request('i/webhooks/show', { webhookId }));
say(await client.request('i/webhooks/test', { webhookId, type: 'note' }));
try {
  say(await client.request('i/webhooks/show', { webhookId: '9wahlb3v36ut0004' }));
} catch (refusal) {
  say(refusal);
}
say(await client.request('i/webhooks/delete', { webhookId }));
