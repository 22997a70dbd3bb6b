// Lists every service on the server as the official client sees it, as one JSON object.
import { Svcm } from "@nats-io/services";
import { connect } from "@nats-io/transport-node";

const nc = await connect({ servers: process.env.NATS_URL });
const client = new Svcm(nc).client();
const all = async (answers) => {
  const found = [];
  for await (const answer of await answers) found.push(answer);
  return found;
};
const ping = await all(client.ping());
const info = await all(client.info("crank-controller"));
const stats = [];
for (const { name, id } of ping) stats.push(...(await all(client.stats(name, id))));
console.log(JSON.stringify({ ping, info, stats }));
await nc.close();
