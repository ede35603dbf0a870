// node-redis with its default settings: RESP3, commands of one tick in one write.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { createClient, ErrorReply, MultiErrorReply, RESP_TYPES, WatchError } from "redis";

const [node, other] = [process.env.NODE_URL, process.env.OTHER_URL];
const client = createClient({ url: node });
const elsewhere = createClient({ url: other });
const fresh = () => `node-redis:${randomUUID()}`;

before(() => Promise.all([client.connect(), elsewhere.connect()]));
after(() => Promise.all([client.close(), elsewhere.close()]));

test("the connection speaks RESP3", async () => {
  const hello = await client.sendCommand(["HELLO"]);
  assert.equal(hello.proto, 3);
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
  const binary = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  assert.deepEqual(await binary.get(key), value);
});

test("conditions and lifetimes", async () => {
  const key = fresh();
  const lock = { condition: "NX", expiration: { type: "PX", value: 100_000 } };
  assert.equal(await client.set(key, "mine", lock), "OK");
  assert.equal(await client.set(key, "yours", lock), null);
  const left = await client.pTTL(key);
  assert.ok(left > 0 && left <= 100_000);
});

test("commands of one tick are answered in order", async () => {
  const key = fresh();
  const answers = await Promise.all(Array.from({ length: 500 }, () => client.incr(key)));
  assert.deepEqual(answers, Array.from({ length: 500 }, (_, at) => at + 1));
});

test("a pipeline without a transaction", async () => {
  const key = fresh();
  const answers = await client.multi().set(key, "1").incr(key).get(key).execAsPipeline();
  assert.deepEqual(answers, ["OK", 2, "2"]);
});

test("a transaction runs as one", async () => {
  const key = fresh();
  const answers = await client.multi().set(key, "1").incr(key).mGet([key, fresh()]).exec();
  assert.deepEqual(answers, ["OK", 2, ["2", null]]);
});

test("an error inside a transaction rolls nothing back", async () => {
  const key = fresh();
  const failing = client.multi().set(key, "text").incr(key).append(key, "!").exec();
  await assert.rejects(failing, MultiErrorReply);
  assert.equal(await client.get(key), "text!");
});

test("a watched key that changed through another node aborts", async () => {
  const key = fresh();
  const watcher = await client.duplicate().connect();
  await watcher.watch(key);
  await elsewhere.set(key, "meanwhile");
  await assert.rejects(watcher.multi().set(key, "after").exec(), WatchError);
  assert.equal(await client.get(key), "meanwhile");
  await watcher.close();
});

test("a watched key that stayed commits", async () => {
  const key = fresh();
  const watcher = await client.duplicate().connect();
  await watcher.watch(key);
  assert.deepEqual(await watcher.multi().set(key, "after").exec(), ["OK"]);
  await watcher.close();
});

test("an error reaches its own caller, with Redis' words", async () => {
  const key = fresh();
  await client.set(key, "text");
  const [refused, value] = await Promise.allSettled([client.incr(key), client.get(key)]);
  assert.ok(refused.reason instanceof ErrorReply);
  assert.equal(refused.reason.message, "ERR value is not an integer or out of range");
  assert.equal(value.value, "text");
});

test("a scan finds every key", async () => {
  const prefix = fresh();
  const wanted = Array.from({ length: 60 }, (_, at) => `${prefix}:${at}`).sort();
  await client.mSet(wanted.map((key) => [key, "x"]));
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: `${prefix}:*`, COUNT: 7 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.deepEqual([...found].sort(), wanted);
});

test("databases are apart", async () => {
  const key = fresh();
  const ninth = await createClient({ url: node, database: 9 }).connect();
  await ninth.set(key, "nine");
  assert.equal(await client.get(key), null);
  assert.equal(await ninth.del(key), 1);
  await ninth.close();
});
