// What is known of prompts is saved by one process and loaded by another, where it gives the bits of computing it; what
// does not fit is refused on every rank, and nothing of it is loaded.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkpointFingerprint } from "../src/engine/checkpoint-fingerprint.ts";
import { openStoreWorld, type StoreSettings } from "./prefix-store-world.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import { outcomeOf, reasonOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const root = mkdtempSync(join(tmpdir(), "lockstep-prefix-store-"));
afterAll(() => rmSync(root, { recursive: true }));
const model = join(root, "model");
writeRandomCheckpoint(model, "LlamaForCausalLM", { max_position_embeddings: 128 });
const checkpoint = await checkpointFingerprint(model);

let folders = 0;
const fresh = (): string => join(root, `store-${folders++}`);
const text = (length: number, step: number): number[] => Array.from({ length }, (_, at) => (at * step + 5) % 900);
const fileOf = (folder: string, rank: number): string => join(folder, `prefixes-rank-${rank}.safetensors`);

describe("saved by one process, loaded by another", () => {
  test.each<[StoreSettings]>([
    [{ world: 1 }],
    [{ world: 2, dcp: 2, interleave: 2, kvDtype: "i8" }],
    [{ world: 2, dcp: 1, kvDtype: "f16", weights: "i8" }],
    [{ world: 4, dcp: 2 }],
    [{ world: 3, dcp: 3, kvWeights: [2, 0, 3] }],
  ])("%o", async (settings) => {
    const place = { folder: fresh(), checkpoint };
    const ids = text(60, 7);
    const script = join(import.meta.dir, "prefix-store-save.ts");
    const saver = Bun.spawn([process.execPath, script, JSON.stringify([model, settings, place, ids])], {
      stdout: "pipe",
      stderr: "inherit",
    });
    const computed: { cached: number; logits: string[] }[] = JSON.parse(await new Response(saver.stdout).text());
    expect(await saver.exited).toBe(0);
    const names = Array.from({ length: settings.world }, (_, rank) => `prefixes-rank-${rank}.safetensors`);
    expect(readdirSync(place.folder).sort()).toEqual(names);

    await using world = await openStoreWorld(model, settings);
    const loaded = await world.call("load", [place]);
    const { dcp = 1, kvWeights = new Array<number>(dcp).fill(1) } = settings;
    const blockTokens = 4 * kvWeights.reduce((sum, weight) => sum + weight, 0);
    const blocks = Math.floor(60 / blockTokens);
    for (const result of loaded) expect(result).toEqual({ blocks, moved: blocks });
    for (const [rank, { cached, logits }] of (await world.call("compute", [ids])).entries()) {
      expect(cached).toBe(Math.floor(59 / blockTokens) * blockTokens);
      expect(computed[rank]?.cached).toBe(0);
      expect(logits).toEqual(computed[rank]?.logits.slice(cached) ?? []);
    }
    // What is loaded again is known already.
    for (const result of await world.call("load", [place])) expect(result).toEqual({ blocks, moved: 0 });
  });
});

const settings = { world: 2, dcp: 2 } as const;

test("a second save takes the place of the first; without a save nothing is found", async () => {
  const place = { folder: fresh(), checkpoint };
  await using world = await openStoreWorld(model, settings);
  expect(await world.call("load", [place])).toEqual([undefined, undefined]);
  expect(existsSync(place.folder)).toBe(false);
  expect(await world.call("save", [place, "empty"])).toEqual([
    { blocks: 0, moved: 0 },
    { blocks: 0, moved: 0 },
  ]);
  expect(await world.call("load", [place])).toEqual([
    { blocks: 0, moved: 0 },
    { blocks: 0, moved: 0 },
  ]);
  await world.call("compute", [text(40, 3)]);
  await world.call("compute", [[...text(24, 3), ...text(20, 11)]]);
  const [saved] = await world.call("save", [place, "full"]);
  expect(saved).toEqual({ blocks: 7, moved: 7 });
  await world.call("forget", []);
  expect(await world.call("known", [])).toEqual([0, 0]);
  expect(await world.call("load", [place])).toEqual([
    { blocks: 7, moved: 7 },
    { blocks: 7, moved: 7 },
  ]);
  expect(await world.call("known", [])).toEqual([7, 7]);
  expect(await outcomeOf(world.call("save", [place, ""]))).toThrow("savePrefixes: `save`");
});

test("what does not fit is refused on every rank, and nothing is loaded", async () => {
  const place = { folder: fresh(), checkpoint };
  const other = { folder: fresh(), checkpoint };
  {
    await using world = await openStoreWorld(model, settings);
    await world.call("compute", [text(40, 3)]);
    await world.call("save", [place, "one"]);
    await world.call("save", [other, "two"]);
  }
  await using world = await openStoreWorld(model, settings);
  const refused = async (at: typeof place): Promise<{ reasons: string[]; messages: string }> => {
    const found = await world.call("refused", [at]);
    expect(await world.call("known", [])).toEqual([0, 0]);
    return { reasons: found.map(({ reason }) => reason), messages: found.map(({ message }) => message).join("\n") };
  };
  /** The folder of a save with one file changed. */
  const changed = (change: (path: string) => void, rank = 1): typeof place => {
    const folder = fresh();
    cpSync(place.folder, folder, { recursive: true });
    change(fileOf(folder, rank));
    return { folder, checkpoint };
  };

  const wrong = await refused({ ...place, checkpoint: "another" });
  expect(wrong.reasons).toEqual(["checkpoint", "checkpoint"]);
  expect(wrong.messages).toContain(`expected checkpoint another, but found checkpoint ${checkpoint}`);

  const bytes = readFileSync(fileOf(place.folder, 1));
  for (const length of [0, 7, 100, bytes.length >> 1, bytes.length - 33, bytes.length - 1]) {
    const { reasons } = await refused(changed((path) => truncateSync(path, length)));
    expect(reasons).toEqual(["peer", "damaged"]);
  }
  const headerBytes = 8 + Number(bytes.readBigUInt64LE(0));
  for (const at of [headerBytes, headerBytes + 5, (headerBytes + bytes.length) >> 1, bytes.length - 1]) {
    const { reasons, messages } = await refused(
      changed((path) => {
        const flipped = Uint8Array.from(bytes);
        flipped[at] = (flipped[at] ?? 0) ^ 1;
        writeFileSync(path, flipped);
      }, 1),
    );
    expect(reasons).toEqual(["peer", "damaged"]);
    expect(messages).toContain("their digest differs");
  }
  const missing = await refused(changed((path) => rmSync(path)));
  expect(missing.reasons).toEqual(["missing", "missing"]);
  expect(missing.messages).toContain("none of rank 1");

  const mixed = await refused(changed((path) => cpSync(fileOf(other.folder, 1), path)));
  expect(mixed.reasons).toEqual(["mixed", "mixed"]);
  expect(mixed.messages).toContain("rank 1's is of another one than rank 0's");

  const swapped = await refused(changed((path) => cpSync(fileOf(place.folder, 0), path)));
  expect(swapped.reasons).toEqual(["peer", "layout"]);
  expect(swapped.messages).toContain("layout.dcpRank 1, layout.rank 1, but found layout.dcpRank 0, layout.rank 0");

  // The whole save is there still, and fits.
  expect(await world.call("load", [place])).toEqual([
    { blocks: 5, moved: 5 },
    { blocks: 5, moved: 5 },
  ]);
});

test.each<[string, StoreSettings]>([
  ["layout.kvDtype i8, layout.kvScales per-token", { ...settings, kvDtype: "i8" }],
  ["layout.kvDtype i8, layout.kvScales per-token", { world: 3, dcp: 3, kvDtype: "i8" }],
  ["computed.weights i8", { ...settings, weights: "i8" }],
  ["computed.weights i8", { ...settings, blockSize: 8, weights: "i8" }],
])("a world with another %s is refused by name", async (named, given) => {
  const place = { folder: fresh(), checkpoint };
  {
    await using world = await openStoreWorld(model, settings);
    await world.call("compute", [text(20, 3)]);
    await world.call("save", [place, "one"]);
  }
  await using world = await openStoreWorld(model, given);
  const [first, ...rest] = await world.call("refused", [place]);
  expect(first?.reason).toBe(named.startsWith("computed") ? "checkpoint" : "layout");
  for (const part of named.split(", ")) expect(first?.message.split(", but found")[0]).toContain(part);
  for (const { reason } of rest) expect(["layout", "checkpoint", "peer"]).toContain(reason);
  expect(await world.call("known", [])).toEqual(new Array<number>(given.world).fill(0));
});

/** Layouts that texts of one world move between. The model has two KV heads, which some of them spread. */
const LAYOUTS: readonly StoreSettings[] = [
  { world: 1 },
  { world: 2, dcp: 2 },
  { world: 2, dcp: 2, interleave: 2, blockSize: 6 },
  { world: 2, dcp: 1, blockSize: 3 },
  { world: 4, dcp: 4, interleave: 4 },
  { world: 4, dcp: 2, blockSize: 5 },
  { world: 3, dcp: 3, kvWeights: [2, 0, 1] },
  { world: 2, dcp: 2, kvWeights: [1, 3], blockSize: 2 },
];

describe("what one world saved another loads, whatever the layouts", () => {
  test.each(["f32", "i8"] as const)("%s", async (kvDtype) => {
    const ids = text(100, 7);
    const branch = [...ids.slice(0, 50), ...text(40, 13)];
    for (const [at, from] of LAYOUTS.entries()) {
      const place = { folder: fresh(), checkpoint };
      {
        await using world = await openStoreWorld(model, { ...from, kvDtype });
        await world.call("compute", [ids]);
        await world.call("compute", [branch]);
        await world.call("save", [place, "one"]);
      }
      for (const other of kvDtype === "f32" ? [1, 3] : [3]) {
        const to = LAYOUTS[(at + other) % LAYOUTS.length] ?? from;
        await using loader = await openStoreWorld(model, { ...to, kvDtype });
        const loaded = await loader.call("load", [place]);
        expect(loaded[0]?.moved).toBeGreaterThan(0);
        for (const result of loaded) expect(result).toEqual(loaded[0]);
        const size = blockTokensOf(to);
        const saved = blockTokensOf(from);
        const withRows = await loader.call("last", [ids]);
        const known = Math.min(Math.floor(100 / saved) * saved, 99);
        for (const { cached } of withRows) expect(cached).toBe(Math.floor(known / size) * size);
        // Saved again and loaded by the world that had it first, rows are the bytes that they were.
        const back = { folder: fresh(), checkpoint };
        await loader.call("save", [back, "two"]);
        await loader.call("forget", []);
        const computed = await loader.call("last", [ids]);
        for (const [rank, { logits }] of computed.entries()) {
          const tolerance = kvDtype === "f32" ? 1e-4 : 0.05;
          for (const [place, number] of logits.entries()) {
            expect(Math.abs(number - (withRows[rank]?.logits[place] ?? Number.NaN))).toBeLessThan(tolerance);
          }
        }
        await using first = await openStoreWorld(model, { ...from, kvDtype });
        await first.call("load", [place]);
        const before = await first.call("stored", []);
        await first.call("forget", []);
        await first.call("load", [back]);
        for (const [rank, stored] of (await first.call("stored", [])).entries()) {
          expect(before[rank]).toMatchObject(stored);
        }
        expect((await first.call("known", []))[0]).toBeGreaterThan(0);
      }
    }
  });

  test("a damaged, missing or foreign file of any rank is refused on every rank", async () => {
    const place = { folder: fresh(), checkpoint };
    const other = { folder: fresh(), checkpoint };
    {
      await using world = await openStoreWorld(model, settings);
      await world.call("compute", [text(40, 3)]);
      await world.call("save", [place, "one"]);
      await world.call("save", [other, "two"]);
    }
    await using world = await openStoreWorld(model, { world: 3, dcp: 3 });
    const changes: readonly [reason: string, change: (path: string) => void][] = [
      ["missing", (path) => rmSync(path)],
      ["mixed", (path) => cpSync(fileOf(other.folder, 1), path)],
      ["layout", (path) => cpSync(fileOf(place.folder, 0), path)],
      ["damaged", (path) => truncateSync(path, readFileSync(path).length - 1)],
      [
        "damaged",
        (path) => {
          const bytes = Uint8Array.from(readFileSync(path));
          bytes[bytes.length - 100] = (bytes[bytes.length - 100] ?? 0) ^ 1;
          writeFileSync(path, bytes);
        },
      ],
    ];
    for (const [reason, change] of changes) {
      const folder = fresh();
      cpSync(place.folder, folder, { recursive: true });
      change(fileOf(folder, 1));
      const found = await world.call("refused", [{ folder, checkpoint }]);
      expect(found.map((refusal) => refusal.reason)).toEqual([reason, reason, reason]);
      expect(await world.call("known", [])).toEqual([0, 0, 0]);
    }
    const wrong = await world.call("refused", [{ ...place, checkpoint: "another" }]);
    for (const { reason } of wrong) expect(reason).toBe("checkpoint");
    expect((await world.call("load", [place]))[0]?.moved).toBeGreaterThan(0);
  });
});

function blockTokensOf({ dcp = 1, blockSize = 4, kvWeights }: StoreSettings): number {
  return blockSize * (kvWeights?.reduce((sum, weight) => sum + weight, 0) ?? dcp);
}

test("a folder that cannot be made is told on every rank, and what was known stays", async () => {
  const file = join(root, "file");
  writeFileSync(file, "no folder");
  await using world = await openStoreWorld(model, settings);
  await world.call("compute", [text(20, 3)]);
  expect(await reasonOf(world.call("save", [{ folder: join(file, "store"), checkpoint }, "one"]))).toMatchObject({
    _tag: "PrefixStoreError",
    reason: "unwritable",
  });
  expect(await world.call("known", [])).toEqual([2, 2]);
});

test("a fingerprint changes with any bit of config and weights, and with nothing else", async () => {
  const copy = join(root, "copy");
  cpSync(model, copy, { recursive: true });
  expect(checkpoint).toMatch(/^[0-9a-f]{64}$/);
  expect(await checkpointFingerprint(copy)).toBe(checkpoint);
  const inMemory = Object.fromEntries(
    readdirSync(copy).map((name) => [name, new Uint8Array(readFileSync(join(copy, name)))]),
  );
  expect(await checkpointFingerprint(inMemory)).toBe(checkpoint);
  writeFileSync(join(copy, "notes.txt"), "not the model's");
  expect(await checkpointFingerprint(copy)).toBe(checkpoint);
  for (const [name, at] of [
    ["model.safetensors", -1],
    ["model.safetensors", 5000],
    ["config.json", -2],
  ] as const) {
    const path = join(copy, name);
    const bytes = new Uint8Array(readFileSync(path));
    const flipped = Uint8Array.from(bytes);
    const place = at < 0 ? bytes.length + at : at;
    flipped[place] = (flipped[place] ?? 0) ^ 1;
    writeFileSync(path, flipped);
    expect(await checkpointFingerprint(copy)).not.toBe(checkpoint);
    writeFileSync(path, bytes);
  }
  rmSync(join(copy, "model.safetensors"));
  expect(await outcomeOf(checkpointFingerprint(copy))).toThrow(
    "model.safetensors: expected a readable file, but found none",
  );
});
