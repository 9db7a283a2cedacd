import { describe, expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { UnfitOptions } from "../errors.ts";
import { openModel } from "../model/model.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import { chooseFastest, chooseMeasured, chooseWorld } from "./choose-world.ts";
import { Generator } from "./generator.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

const model = openModel(MODEL_FOLDER);

const sizes = (world: number, dcp: number): ParallelSizes => ({
  world,
  dcp,
  kvLayout: dcp < world ? "sharded" : "replicated",
});

const [ONE, TWO] = [sizes(1, 1), sizes(2, 1)];

/** The ranks and the DCP that are chosen of ranks, DCP, milliseconds of a step and of a prompt's token. */
function chosen(...all: readonly (readonly [world: number, dcp: number, step: number, prompt: number])[]) {
  const candidates = all.map(([world, dcp, stepMs, promptTokenMs]) => ({
    sizes: sizes(world, dcp),
    stepMs,
    promptTokenMs,
  }));
  const choice = chooseFastest(candidates, 100);
  expect(choice.candidates).toEqual(candidates);
  return choice;
}

describe("of measured times", () => {
  test("the fastest", () => {
    expect(chosen([1, 1, 9, 1], [2, 1, 5, 1], [4, 2, 6, 1]).sizes).toEqual(sizes(2, 1));
    expect(chosen([1, 1, 5, 1], [2, 1, 6, 1]).sizes).toEqual(sizes(1, 1));
    // A step is slower, but a prompt's token so much faster.
    expect(chosen([1, 1, 5, 3], [2, 1, 5.5, 1.5]).sizes).toEqual(sizes(2, 1));
  });

  test("fewer ranks unless more are faster by 5 %, whatever is between", () => {
    expect(chosen([1, 1, 10, 0], [2, 1, 9.6, 0]).sizes).toEqual(sizes(1, 1));
    expect(chosen([1, 1, 10, 0], [2, 1, 9.5, 0]).sizes).toEqual(sizes(2, 1));
    expect(chosen([1, 1, 10, 0], [2, 1, 9.6, 0], [4, 2, 9.4, 0]).sizes).toEqual(sizes(4, 2));
    expect(chosen([1, 1, 10, 0], [2, 1, 8, 0], [4, 2, 7.8, 0]).sizes).toEqual(sizes(2, 1));
  });

  test("the layout alike: the one that stores no KV head twice, unless another is faster by 5 %", () => {
    expect(chosen([4, 2, 5, 0], [4, 1, 4.9, 0]).sizes).toEqual(sizes(4, 2));
    expect(chosen([4, 2, 5, 0], [4, 1, 4, 0]).sizes).toEqual(sizes(4, 1));
  });

  test("what could not be timed is not taken", () => {
    const never = Number.POSITIVE_INFINITY;
    expect(chosen([1, 1, 5, 1], [2, 1, never, never]).sizes).toEqual(sizes(1, 1));
  });

  test("the reason says what, at which context, and what each takes", () => {
    expect(chosen([1, 1, 9, 1], [2, 1, 5.126, 1]).reason).toBe(
      "2 ranks are fastest at 100 tokens: a step (a prompt's token) takes 9.0 ms (1.0) on 1 rank, 5.1 ms (1.0) on 2 ranks",
    );
    const short = [ONE, TWO].map((candidate, index) => ({
      sizes: candidate,
      stepMs: 2 + index,
      promptTokenMs: undefined,
    }));
    expect(chooseFastest(short, 99).reason).toBe(
      "1 rank is fastest at 99 tokens: at first a step takes 2.0 ms on 1 rank, 3.0 ms on 2 ranks",
    );
    expect(chosen([1, 1, 9, 1], [2, 1, 8.9, 1]).reason).toStartWith(
      "1 rank is as fast as any, within 5 %, at 100 tokens: ",
    );
    expect(chosen([4, 2, 5, 0], [4, 1, 4, 0]).reason).toStartWith("4 ranks with DCP1 are fastest");
  });
});

describe("chooseWorld", () => {
  test("measures what fits, at the capacity, and takes the fastest", async () => {
    const asked: unknown[] = [];
    const choice = await chooseMeasured(
      model,
      { backend: "wasm", capacity: 64 },
      async (_, __, candidates, context) => {
        asked.push(context);
        return candidates.map(({ world }) => ({ stepMs: 10 / world, promptTokenMs: 1 / world }));
      },
    );
    const { candidates } = choice;
    if (candidates.length > 0) {
      expect(asked).toEqual([64]);
      expect(choice.sizes.world).toBe(Math.max(...candidates.map(({ sizes: { world } }) => world)));
      expect(candidates.map(({ sizes: { world } }) => world)).toEqual(
        candidates.map(({ sizes: { world } }) => world).toSorted((a, b) => a - b),
      );
    } else expect(choice.sizes.world).toBe(1);
  });

  test("what alone is possible is taken without measuring", async () => {
    const measure = () => expect.unreachable();
    const choice = await chooseMeasured(model, { backend: "wasm", capacity: 64, dcp: 8 }, measure);
    expect(choice).toMatchObject({ sizes: sizes(8, 8), candidates: [], context: 64 });
    expect(choice.reason).toMatch(
      navigator.hardwareConcurrency < 8 ? /^8 ranks are the fewest that fit / : /^only 8 ranks fit the cores, /,
    );
  });

  test("without a capacity texts are reckoned as long as they mostly are", async () => {
    const choice = await chooseMeasured(model, { backend: "wasm" }, async (_, __, candidates) =>
      candidates.map(() => ({ stepMs: 1, promptTokenMs: 1 })),
    );
    expect(choice.context).toBe(4096);
  });

  test("ranks that share a GPU are refused, as are options that fit no number of ranks", async () => {
    expect(await outcomeOf(chooseWorld(model, { sharedGpu: true }))).toThrow(UnfitOptions);
    expect(() => Generator.check(model, { world: "auto", sharedGpu: true })).toThrow("`sharedGpu`");
    expect(() => Generator.check(model, { world: "auto", capacity: 16385 })).toThrow("was made for 16384");
    Generator.check(model, { world: "auto", capacity: 64 });
  });

  test.each([null, undefined, "x", 5])("options that are no object are refused: %p", async (options) => {
    const call = Reflect.apply(chooseWorld, undefined, [model, options]);
    expect(await outcomeOf(call)).toThrow(ArgumentError);
    expect(await outcomeOf(call)).toThrow("chooseWorld: `options` must be an object");
  });
});
