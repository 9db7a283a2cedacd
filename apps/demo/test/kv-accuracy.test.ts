// What KV in 16 and 8 bits costs, on the shipped model and on a public one where it lies beside the repository.
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Model, openModel } from "@lockstep/language-model";
import { type Expectation, readExpectations } from "../src/expectations.ts";
import { KV_KINDS, type KvAccuracy, measureKv } from "../src/kv-accuracy.ts";

setDefaultTimeout(300_000);

/**
 * Nats, of the log-probability of the tokens that KV in f32 chooses: well above what docs/kv-quantisation.md has, far
 * below damage.
 */
const MOST: Readonly<Record<string, number>> = {
  f16: 1.5e-3,
  bf16: 1e-2,
  "int8 static": 0.1,
  "int8 per token": 0.035,
  "fp8 static": 0.15,
  "fp8 per token": 0.09,
};

async function expectAccuracy(of: Model, entries: readonly Expectation[], tokens: number): Promise<void> {
  const found = new Map<string, KvAccuracy>();
  for await (const accuracy of measureKv(of, { world: 2, backend: "wasm" }, entries, tokens)) {
    const { name } = accuracy.kind;
    found.set(name, accuracy);
    expect([name, accuracy.meanError < (MOST[name] ?? 0), accuracy.meanError > 0]).toEqual([name, true, true]);
    for (const { kept, tokens: asked, change } of accuracy.texts) {
      expect([name, asked, kept === asked]).toEqual([name, tokens, change === undefined]);
      // A token changes only where f32 was less sure of it than the type is exact.
      if (change !== undefined) expect([name, change.gap < change.error]).toEqual([name, true]);
    }
  }
  expect([...found.keys()]).toEqual(KV_KINDS.map(({ name }) => name));
  // Not so for fp8, whose numbers are as exact, for their size, under any scale that keeps them in range: there chance
  // decides.
  const [fine, coarse] = [found.get("int8 per token"), found.get("int8 static")];
  expect(fine?.meanError).toBeLessThan(coarse?.meanError ?? 0);
  expect(fine?.divergence).toBeLessThan(coarse?.divergence ?? 0);
}

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const PUBLIC_FOLDER = own("../../../../shared/checkpoints/stories260k");

test("on the shipped model", async () => {
  const shipped = openModel(own("../model"));
  const entries = readExpectations(own("../goldens/greedy_public.json"), shipped.config.vocabularySize);
  const short = entries.filter(({ promptIds }) => promptIds.length < 20);
  expect(short.length).toBe(3);
  await expectAccuracy(shipped, short, 12);
});

if (existsSync(PUBLIC_FOLDER)) {
  test("on stories260k, which lies beside the repository", async () => {
    const stories = openModel(PUBLIC_FOLDER);
    const entries = readExpectations(join(PUBLIC_FOLDER, "greedy.json"), stories.config.vocabularySize);
    await expectAccuracy(stories, entries, 30);
  });
}
