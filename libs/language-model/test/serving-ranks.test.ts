// Ranks that serve come back when they are asked to, not when they are done.
import { expect, setDefaultTimeout, test } from "bun:test";
import { resolveEngineOptions } from "../src/engine/resolve-engine-options.ts";
import type { ServeChanges } from "../src/engine/request-server.ts";
import { ServingRanks } from "../src/engine/serving-ranks.ts";
import { resolveSampling } from "../src/sampling/sampling-options.ts";
import { greedy, model } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const { promptIds: prompt } = greedy[0] ?? expect.unreachable();
const request = { id: 0, prompt, maxTokens: 200, endTokens: [], sampling: resolveSampling("test", {}) };

test.each([1, 2])(
  "%p ranks return after the step in which they are interrupted, and forget what is cancelled",
  async (world) => {
    const ranks = await ServingRanks.open(
      await resolveEngineOptions(model, { world, backend: "wasm", maxContext: 256 }),
    );
    try {
      const kinds: string[] = [];
      const serve = (changes: ServeChanges): Promise<{ readonly isBusy: boolean }> =>
        ranks.serve(
          () => {
            ranks.interrupt();
            return changes;
          },
          (events) => {
            for (const { kind } of events) kinds.push(kind);
          },
        );
      expect(await serve({ submit: [request], cancel: [], trace: false })).toMatchObject({ isBusy: true });
      expect(kinds).toEqual(["begun", "token", "step"]);
      expect(await serve({ submit: [], cancel: [0], trace: false })).toMatchObject({ isBusy: false });
      expect(kinds.slice(3)).toEqual(["step"]);
    } finally {
      await ranks.close();
    }
  },
);
