// ioredis with its default settings: HELLO 3 in lower case, then INFO until nothing is loading.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { after, test } from "node:test";
import { Redis } from "ioredis";

const [node, other] = [process.env.NODE_URL, process.env.OTHER_URL];
const client = new Redis(node);
const elsewhere = new Redis(other);
const fresh = () => `ioredis:${randomUUID()}`;

after(() => Promise.all([client.quit(), elsewhere.quit()]));

test("the ready check passes", async () => {
  const lazy = new Redis(node, { lazyConnect: true });
  const ready = once(lazy, "ready");
  await lazy.connect();
  await ready;
  assert.equal(lazy.status, "ready");
  await lazy.quit();
});

test("what was set is read back, through any node", async () => {
  const key = fresh();
  assert.equal(await client.set(key, "значение"), "OK");
  assert.equal(await client.get(key), "значение");
  assert.equal(await elsewhere.get(key), "значение");
  assert.equal(await client.get(fresh()), null);
});

test("bytes come back unchanged", async () => {
  const key = fresh();
  const value = Buffer.from([...Array(256).keys()]);
  await client.set(key, value);
  assert.deepEqual(await client.getBuffer(key), value);
});

test("conditions and lifetimes", async () => {
  const key = fresh();
  assert.equal(await client.set(key, "mine", "PX", 100_000, "NX"), "OK");
  assert.equal(await client.set(key, "yours", "PX", 100_000, "NX"), null);
  const left = await client.pttl(key);
  assert.ok(left > 0 && left <= 100_000);
});

test("a pipeline answers in order, errors in their place", async () => {
  const key = fresh();
  const answers = await client.pipeline().set(key, "text").incr(key).get(key).exec();
  assert.deepEqual(answers[0], [null, "OK"]);
  assert.equal(answers[1][0].message, "ERR value is not an integer or out of range");
  assert.deepEqual(answers[2], [null, "text"]);
});

test("automatic pipelines answer everybody", async () => {
  const key = fresh();
  const automatic = new Redis(node, { enableAutoPipelining: true });
  const answers = await Promise.all(Array.from({ length: 500 }, () => automatic.incr(key)));
  assert.deepEqual(answers.sort((a, b) => a - b), Array.from({ length: 500 }, (_, at) => at + 1));
  await automatic.quit();
});

test("a transaction runs as one", async () => {
  const key = fresh();
  const answers = await client.multi().set(key, "1").incr(key).mget(key, fresh()).exec();
  assert.deepEqual(answers, [[null, "OK"], [null, 2], [null, ["2", null]]]);
});

test("a transaction command by command", async () => {
  const key = fresh();
  const alone = new Redis(node);
  assert.equal(await alone.multi({ pipeline: false }), "OK");
  assert.equal(await alone.set(key, "1"), "QUEUED");
  assert.equal(await alone.incr(key), "QUEUED");
  assert.deepEqual(await alone.exec(), [[null, "OK"], [null, 2]]);
  await alone.quit();
});

test("a watched key that changed through another node aborts", async () => {
  const key = fresh();
  const watcher = new Redis(node);
  await watcher.watch(key);
  await elsewhere.set(key, "meanwhile");
  assert.equal(await watcher.multi().set(key, "after").exec(), null);
  assert.equal(await client.get(key), "meanwhile");
  await watcher.quit();
});

test("a retry loop over WATCH loses no increment", async () => {
  const key = fresh();
  const increment = async (connection) => {
    for (;;) {
      await connection.watch(key);
      const value = Number((await connection.get(key)) ?? 0);
      if (await connection.multi().set(key, value + 1).exec()) return;
    }
  };
  const connections = Array.from({ length: 4 }, (_, at) => new Redis(at % 2 ? node : other));
  const work = connections.map(async (connection) => {
    for (let turn = 0; turn < 10; turn++) await increment(connection);
    await connection.quit();
  });
  await Promise.all(work);
  assert.equal(await client.get(key), "40");
});

test("a scan stream finds every key", async () => {
  const prefix = fresh();
  const wanted = Array.from({ length: 60 }, (_, at) => `${prefix}:${at}`).sort();
  await client.mset(Object.fromEntries(wanted.map((key) => [key, "x"])));
  const found = new Set();
  for await (const keys of client.scanStream({ match: `${prefix}:*`, count: 7 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.deepEqual([...found].sort(), wanted);
});

test("databases are apart", async () => {
  const key = fresh();
  const ninth = new Redis(node, { db: 9 });
  await ninth.set(key, "nine");
  assert.equal(await client.get(key), null);
  assert.equal(await ninth.del(key), 1);
  await ninth.quit();
});
