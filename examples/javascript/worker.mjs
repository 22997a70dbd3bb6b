// A worker with nothing but a NATS client. Beside `crank up`: npm ci && node worker.mjs
import { connect, headers } from "@nats-io/transport-node";
import { setTimeout as sleep } from "node:timers/promises";

const { CRANK_NATS_URL = "nats://127.0.0.1:4222", CRANK_PREFIX = "crank", CRANK_WORKER_ID = "timer-1" } = process.env;
const input_schema = { type: "object", properties: { ms: { type: "number", minimum: 0 } }, required: ["ms"] };
const offer = { verb: "timer", name: "wait", version: "1.0.0", max_concurrency: 8, idempotent: true, input_schema };
const instance = `${process.pid}-${Date.now()}`; // tells this process from another one with its id
const running = new Map(); // by dispatch id: how to stop it
let [draining, intervalMs] = [false, 2000];

const fail = (why) => { console.error(why); process.exit(1); };
const nc = await connect({ servers: CRANK_NATS_URL, maxReconnectAttempts: -1 }).catch((error) =>
  fail(`No NATS server: ${error.message}; start one with \`crank up\`, or set CRANK_NATS_URL`));
const subject = (kind) => `${CRANK_PREFIX}.${kind}.${CRANK_WORKER_ID}`;
const ask = (kind, body) =>
  nc.request(subject(kind), JSON.stringify({ instance, ...body })).then((answer) => answer.json(), () => ({}));

async function wait(message, signal) {
  const { ms } = message.json();
  if (ms > 60_000) throw Object.assign(new Error("A minute is the most; ask for less"), { status: 422 });
  return sleep(ms, { waited_ms: ms }, { signal });
}

async function dispatched(message) {
  const [id, stop, head] = [message.headers?.get("Crank-Dispatch-Id"), new AbortController(), headers()];
  if (draining || running.size >= offer.max_concurrency) {
    head.set("Crank-Not-Run", draining ? "draining" : "busy"); // so another worker gets it
    return message.respond("", { headers: head });
  }
  running.set(id, stop);
  const answer = await wait(message, stop.signal).catch((error) => {
    const code = stop.signal.aborted ? 499 : (error.status ?? 500);
    if (code === 500) console.error(error); // for our log, and nothing that a caller should read
    head.set("Nats-Service-Error-Code", `${code}`);
    head.set("Nats-Service-Error", code === 500 ? "The worker failed" : error.message);
  });
  running.delete(id);
  message.respond(JSON.stringify(answer) ?? "", { headers: head });
}

async function register() {
  const said = await ask("register", { worker_id: CRANK_WORKER_ID, capabilities: [offer] });
  if (said.status >= 400 && said.status < 500) fail(said.detail);
  if (said.status !== "registered") return; // no controller yet: the first that hears a heartbeat asks again
  intervalMs = said.heartbeat_interval_s * 1000;
  console.log(`${CRANK_WORKER_ID} is registered`);
}

async function leave() {
  draining = true;
  await ask("deregister", { reason: "shutdown" });
  while (running.size > 0) await sleep(20);
  await nc.drain();
  process.exit();
}

const controls = { cancel: (id) => running.get(id)?.abort(),
  reregister: () => draining || register(), drain: () => draining || leave() };
const controlled = ({ op, dispatch_id }) => controls[op]?.(dispatch_id);
nc.subscribe(`${subject("worker")}.timer.wait`, { queue: "w", callback: (_, message) => dispatched(message) });
nc.subscribe(subject("control"), { callback: (_, message) => controlled(message.json()) });
process.once("SIGTERM", leave).once("SIGINT", leave);
await register();
for (let seq = 1; ; seq++, await sleep(intervalMs))
  nc.publish(subject("heartbeat"), JSON.stringify({ seq, instance, in_flight: running.size, draining }));
