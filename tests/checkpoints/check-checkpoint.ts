// What holds for a checkpoint of either architecture and any size: the logits of every world are those of float64.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GeneratorOptions } from "@lockstep/language-model";
import { float64LogitsOfEach } from "../../libs/language-model/test/float64-model.ts";
import { runCheckpoint } from "./run-checkpoint.ts";
import { SHAPES, type ShapeName } from "./shapes.ts";
import { type CheckpointOptions, writeCheckpoint } from "./write-checkpoint.ts";

const PROMPT_TOKENS = 3;
const DECODED = 16;

/**
 * Keys and values in f16 are held to a float64 pass that rounds them alike. What is left are sums in f32, which are
 * right to about 1e-6 of the largest logit after all layers, and the few keys and values that lie so near to the middle
 * of two f16 numbers that f32 and float64 round them to different ones: about one of a thousand, by 2^-11.
 */
const TOLERANCE = { f32: 1e-5, f16: 1e-4 } as const;

export interface CheckOptions extends Pick<GeneratorOptions, "capacity"> {
  readonly kvDtype: keyof typeof TOLERANCE;
  readonly checkpoint?: CheckpointOptions;
}

/** Tests a shape on 1, 2 and 4 ranks, each in a process of its own, and prints what each took. */
export function checkCheckpoint(name: ShapeName, { kvDtype, capacity, checkpoint }: CheckOptions): void {
  describe(`${name}, ${capacity} tokens reserved in ${kvDtype}`, () => {
    const root = mkdtempSync(join(tmpdir(), "lockstep-checkpoint-"));
    afterAll(() => rmSync(root, { recursive: true, force: true }));
    const folder = join(root, name);
    const { vocab_size: vocabulary } = SHAPES[name];
    const ids = [1, vocabulary - 1, 77, Math.floor(vocabulary / 2), 5];
    let wanted: readonly Float64Array[] = [];
    let tokens: readonly number[] = [];

    test("is written and computed in float64", () => {
      writeCheckpoint(folder, SHAPES[name], checkpoint);
      const half = (row: Float64Array): Float64Array => Float64Array.from(Float16Array.from(row));
      const each = float64LogitsOfEach(folder, ids, kvDtype === "f16" ? half : undefined);
      wanted = each.slice(PROMPT_TOKENS - 1);
      expect(each.length).toBe(ids.length);
      for (const logits of each) {
        expect(logits.length).toBe(vocabulary);
        // Neither vanishing nor exploding: comparing them says something.
        expect(rootMeanSquare(logits)).toBeGreaterThan(0.5);
        expect(rootMeanSquare(logits)).toBeLessThan(2);
      }
    });

    test.each([1, 2, 4])("%d ranks give the logits of float64, and all the same tokens", (world) => {
      const run = runCheckpoint({
        folder,
        options: { world, backend: "wasm", kvDtype, capacity, deadlineMs: 600_000 },
        ids,
        promptTokens: PROMPT_TOKENS,
        decoded: DECODED,
        logitsFile: join(root, `logits-${world}`),
      });
      const gibi = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
      let worst = 0;
      expect(run.logits.length).toBe(wanted.length);
      for (const [row, logits] of run.logits.entries()) {
        const exact = wanted[row] ?? expect.unreachable();
        expect(logits.length).toBe(exact.length);
        const spread = exact.reduce((a, b) => Math.max(a, b)) - exact.reduce((a, b) => Math.min(a, b));
        for (const [id, logit] of logits.entries()) {
          worst = Math.max(worst, Math.abs(logit - (exact[id] ?? Number.NaN)) / spread);
        }
      }
      console.log(
        `${name} on ${world === 1 ? "1 rank" : `${world} ranks`}: loaded in ${run.loadSeconds.toFixed(1)} s, ` +
          `${run.tokensPerSecond.toFixed(1)} tokens a second, ${gibi(run.resident)} resident ` +
          `(${gibi(run.peak)} at the peak), worst logit off by ${worst.toExponential(1)} of their spread`,
      );
      expect(worst).toBeLessThan(TOLERANCE[kvDtype]);
      expect(run.tokens.length).toBe(DECODED);
      if (tokens.length === 0) tokens = run.tokens;
      expect(run.tokens).toEqual(tokens);
    });
  });
}

function rootMeanSquare(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}
