// A worker with nothing but a NATS client. Beside `crank up`: npm ci && node worker.mjs
import { connect, headers } from "@nats-io/transport-node";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const { CRANK_NATS_URL = "nats://127.0.0.1:4222", CRANK_PREFIX = "crank", CRANK_WORKER_ID = "timer-1" } = process.env;
const subject = (kind) => `${CRANK_PREFIX}.${kind}.${CRANK_WORKER_ID}`;
const schema = { type: "object", properties: { ms: { type: "number", minimum: 0 } }, required: ["ms"] };
const offer = { verb: "timer", name: "wait", version: "1.0.0", max_concurrency: 8, idempotent: true, input_schema: schema };
const instance = randomUUID();
const running = new Map(); // by dispatch id: how to stop it
let draining = false;
let intervalMs = 2000;
const nc = await connect({ servers: CRANK_NATS_URL, name: CRANK_WORKER_ID, maxReconnectAttempts: -1 });

async function wait({ ms }, signal) {
  if (ms > 60_000) throw Object.assign(new Error("A minute is the most; ask for less"), { status: 422 });
  await sleep(ms, undefined, { signal });
  return { waited_ms: ms };
}

async function dispatched(message) {
  const id = message.headers?.get("Crank-Dispatch-Id");
  const stop = new AbortController();
  const head = headers();
  let body = "";
  if (draining || running.size >= offer.max_concurrency) {
    head.set("Crank-Not-Run", draining ? "draining" : "busy"); // so another worker gets it
  } else {
    running.set(id, stop);
    try {
      body = JSON.stringify(await wait(message.json(), stop.signal));
    } catch (error) {
      if (!error.status) console.error(error); // for our log, and nothing that a caller should read
      head.set("Nats-Service-Error-Code", `${error.status ?? 500}`);
      head.set("Nats-Service-Error", error.status ? error.message : "The worker failed");
    }
    running.delete(id);
  }
  message.respond(body, { headers: head });
}

async function register() {
  const manifest = { worker_id: CRANK_WORKER_ID, instance, capabilities: [offer] };
  const answer = await nc.request(subject("register"), JSON.stringify(manifest)).catch(() => undefined);
  const code = Number(answer?.headers?.get("Nats-Service-Error-Code") || 0);
  if (code >= 400 && code < 500) {
    console.error(answer.json().detail);
    process.exit(1);
  }
  if (answer && code === 0) intervalMs = answer.json().heartbeat_interval_s * 1000;
} // no controller, or one without its store: the first that hears a heartbeat asks again

async function leave() {
  draining = true;
  await nc.request(subject("deregister"), JSON.stringify({ reason: "shutdown", instance })).catch(() => undefined);
  while (running.size > 0) await sleep(20);
  await nc.drain();
  process.exit();
}

function controlled({ op, dispatch_id }) {
  if (op === "reregister" && !draining) register();
  if (op === "cancel") running.get(dispatch_id)?.abort();
  if (op === "drain") leave();
}

nc.subscribe(`${subject("worker")}.timer.wait`, { queue: "w", callback: (_, message) => dispatched(message) });
nc.subscribe(subject("control"), { callback: (_, message) => controlled(message.json()) });
process.once("SIGTERM", leave).once("SIGINT", leave);
await register();
for (let seq = 1; ; seq++) {
  nc.publish(subject("heartbeat"), JSON.stringify({ seq, instance, in_flight: running.size, draining }));
  await sleep(intervalMs);
}
