// What holds for a checkpoint of either architecture and any size: the logits of every world are those of float64.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { float64LogitsOfEach } from "../../libs/language-model/test/float64-model.ts";
import { type CheckpointRun, runCheckpoint } from "./run-checkpoint.ts";
import { SHAPES, type ShapeName } from "./shapes.ts";
import { type CheckpointOptions, writeCheckpoint } from "./write-checkpoint.ts";

const PROMPT_TOKENS = 3;
const DECODED = 16;

/**
 * Most that a logit may be off, of the spread between the largest and the smallest. With keys and values in f32, sums
 * in f32 are what is left: 1.1e-6 for Llama 3.2 1B. Those in f16 are held to a float64 pass that rounds them alike.
 * One that lies near the middle of two f16 numbers goes to another one in f32 than in float64, and moves what
 * follows, so that more do with every layer: 1.5e-4 for the 28 layers of Qwen3 0.6B, where rounding at all costs
 * 2.9e-4. Weights in int8 are held to float64 without any rounding, which costs 1.5e-2 for both.
 */
const TOLERANCE = { f32: 1e-5, f16: 5e-4, int8: 4e-2 } as const;

/** How weights, keys and values are kept, and for how many tokens there is room. */
interface Kept {
  readonly weights: "stored" | "i8";
  readonly kvDtype: "f32" | "f16";
  readonly capacity: number;
}

function waysOfKeeping(capacity: number): readonly Kept[] {
  return [
    { weights: "stored", kvDtype: "f32", capacity: 64 },
    { weights: "stored", kvDtype: "f16", capacity },
    { weights: "i8", kvDtype: "f16", capacity },
  ];
}

/**
 * Tests a shape on 1, 2 and 4 ranks with room for so many tokens, each in a process of its own, and prints what each
 * took.
 */
export function checkCheckpoint(name: ShapeName, room: number, checkpoint?: CheckpointOptions): void {
  describe(name, () => {
    const root = mkdtempSync(join(tmpdir(), "lockstep-checkpoint-"));
    afterAll(() => rmSync(root, { recursive: true, force: true }));
    const folder = join(root, name);
    const { vocab_size: vocabulary } = SHAPES[name];
    const ids = [1, vocabulary - 1, 77, Math.floor(vocabulary / 2), 5];

    test("is written", () => {
      writeCheckpoint(folder, SHAPES[name], checkpoint);
    });

    describe.each(waysOfKeeping(room))("weights $weights, KV $kvDtype for $capacity tokens", (kept) => {
      const { weights, kvDtype, capacity } = kept;
      const isInt8 = weights === "i8";
      let wanted: readonly Float64Array[] = [];
      let tokens: readonly number[] = [];

      test("is computed in float64", () => {
        const half = (row: Float64Array): Float64Array => new Float64Array(new Float16Array(row));
        const each = float64LogitsOfEach(folder, ids, kvDtype === "f16" && !isInt8 ? half : undefined);
        wanted = each.slice(PROMPT_TOKENS - 1);
        expect(each.length).toBe(ids.length);
        for (const logits of each) {
          expect(logits.length).toBe(vocabulary);
          // Neither vanishing nor exploding: comparing them says something.
          expect(rootMeanSquare(logits)).toBeGreaterThan(0.5);
          expect(rootMeanSquare(logits)).toBeLessThan(2);
        }
      });

      test.each([1, 2, 4])("a world of %d gives the logits of float64", (world) => {
        const run = runCheckpoint({
          folder,
          options: { world, backend: "wasm", ...kept, deadlineMs: 600_000 },
          ids,
          promptTokens: PROMPT_TOKENS,
          decoded: DECODED,
          logitsFile: join(root, `logits-${world}`),
        });
        const worst = worstOfSpread(run.logits, wanted);
        const where = `${name}, weights ${weights}, KV ${kvDtype} for ${capacity} tokens, world of ${world}`;
        console.log(`${where}: ${told(run, worst)}`);
        expect(worst).toBeLessThan(isInt8 ? TOLERANCE.int8 : TOLERANCE[kvDtype]);
        expect(run.tokens.length).toBe(DECODED);
        // In int8, sums that differ in their last bits round to other numbers: a world may prefer another token.
        if (isInt8) return;
        if (tokens.length === 0) tokens = run.tokens;
        expect(run.tokens).toEqual(tokens);
      });
    });
  });
}

function told({ loadSeconds, tokensPerSecond, resident, peak }: CheckpointRun, worst: number): string {
  const gibi = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  return (
    `loaded in ${loadSeconds.toFixed(1)} s, ${tokensPerSecond.toFixed(1)} tokens a second, ` +
    `${gibi(resident)} resident (${gibi(peak)} at the peak), ` +
    `worst logit off by ${worst.toExponential(1)} of their spread`
  );
}

function worstOfSpread(found: readonly Float32Array[], wanted: readonly Float64Array[]): number {
  expect(found.length).toBe(wanted.length);
  let worst = 0;
  for (const [row, logits] of found.entries()) {
    const exact = wanted[row] ?? expect.unreachable();
    expect(logits.length).toBe(exact.length);
    const spread = exact.reduce((a, b) => Math.max(a, b)) - exact.reduce((a, b) => Math.min(a, b));
    for (const [id, logit] of logits.entries()) {
      const error = Math.abs(logit - (exact[id] ?? Number.NaN)) / spread;
      if (Number.isNaN(error)) return error;
      worst = Math.max(worst, error);
    }
  }
  return worst;
}

function rootMeanSquare(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}
