// Every rank finds the same tokens, whatever the number of ranks, the split of the vocabulary and the rest of the step.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import fc from "fast-check";
import { chunk } from "../src/model/tensor-parallel.ts";
import { GREEDY, type RowRequest } from "../src/sampling/row-request.ts";
import { anyRequest, logitsOf } from "./sampling-cases.ts";
import type * as program from "./sampler-program.ts";
import type { SampledStep, SampledTokens, Starts } from "./sampler-program.ts";
import { chooseToken, PLAIN } from "./sampling-reference.ts";

setDefaultTimeout(120_000);

const MAX_ROWS = 11;

/** As models are split: parts of equal length, as far as can be. */
function evenly(size: number, world: number): Starts {
  return Array.from({ length: world + 1 }, (_, rank) => chunk({ start: 0, end: size }, rank, world).start);
}

/** What all ranks chose, which must be the same. */
async function choose(
  world: World<MethodsOf<typeof program>>,
  starts: Starts,
  steps: readonly SampledStep[],
  maxWholeRows = MAX_ROWS,
): Promise<SampledTokens[]> {
  const [first = [], ...others] = await world.call("choose", [starts, steps, MAX_ROWS, maxWholeRows]);
  for (const other of others) expect(other).toEqual(first);
  return first;
}

function expectTokens(found: SampledTokens | undefined, step: SampledStep): void {
  expect(found?.tag).toBe("");
  for (const [row, request] of step.requests.entries()) {
    const { token, logprob, top } = chooseToken(step.logits[row] ?? [], request);
    const chosen = found?.tokens[row];
    expect(chosen?.token).toBe(token);
    if (logprob === undefined) expect(chosen).toEqual({ token });
    else expect(chosen?.logprob).toBeCloseTo(logprob, 9);
    expect(chosen?.top?.map(({ id }) => id)).toEqual(top?.map(({ id }) => id));
    for (const [at, likely] of (top ?? []).entries()) expect(chosen?.top?.[at]?.logprob).toBeCloseTo(likely.logprob, 9);
  }
}

const drawn = (changes: Partial<typeof PLAIN>, index = 0): RowRequest => ({
  sampling: { ...PLAIN, ...changes },
  index,
});

describe.each([1, 2, 3, 4, 8])("%d ranks", (size) => {
  let world: World<MethodsOf<typeof program>>;
  beforeAll(async () => {
    world = await openWorld<typeof program>({
      size,
      program: new URL("./sampler-program.ts", import.meta.url),
      heapBytesPerRank: 16 << 20,
    });
  });
  afterAll(() => world.close());

  test.each([
    [1, 6],
    [3, 6],
    [5, 6],
    [7, 6],
    [113, 12],
    [4096, 4],
  ])("tokens of %d are those that one float64 row gives", async (tokens, numRuns) => {
    const steps = fc.array(fc.array(fc.tuple(fc.nat(), anyRequest), { maxLength: MAX_ROWS }), { maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(steps, async (drawnSteps) => {
        const asked = drawnSteps.map((rows) => ({
          logits: rows.map(([seed]) => logitsOf(seed, tokens)),
          requests: rows.map(([, request]) => request),
        }));
        const found = await choose(world, evenly(tokens, size), asked);
        for (const [step, { control }] of found.entries()) expect(control).toBe(step);
        for (const [step, ask] of asked.entries()) expectTokens(found[step], ask);
      }),
      { numRuns },
    );
  });

  test("it does not matter where the vocabulary is split, or who has none of it", async () => {
    const tokens = 113;
    const cuts = fc.array(fc.nat(tokens), { minLength: size - 1, maxLength: size - 1 });
    const rows = fc.array(fc.tuple(fc.nat(), anyRequest), { minLength: 1, maxLength: MAX_ROWS });
    await fc.assert(
      fc.asyncProperty(cuts, rows, async (inner, asked) => {
        const starts = [0, ...inner.sort((a, b) => a - b), tokens];
        const step = {
          logits: asked.map(([seed]) => logitsOf(seed, tokens)),
          requests: asked.map(([, request]) => request),
        };
        const [found] = await choose(world, starts, [step]);
        expectTokens(found, step);
      }),
      { numRuns: 8 },
    );
  });

  test("a row's token does not depend on the rest of its step, to the last bit", async () => {
    const rows = Array.from({ length: MAX_ROWS }, (_, row) => logitsOf(row, 113));
    const requests = rows.map((_, row) => {
      return drawn({ temperature: row % 3 === 0 ? 0 : 0.9, topP: 0.95, seed: 5, logprobs: (row % 4) - 1 }, row);
    });
    const alone = rows.map((row, at) => ({ logits: [row], requests: requests.slice(at, at + 1) }));
    const reversed = { logits: rows.toReversed(), requests: requests.toReversed() };
    const found = await choose(world, evenly(113, size), [{ logits: rows, requests }, reversed, ...alone]);
    const [together, backwards, ...single] = found.map(({ tokens }) => tokens);
    expect(backwards?.toReversed()).toEqual([...(together ?? [])]);
    expect(single.flat()).toEqual([...(together ?? [])]);
    expect(together?.length).toBe(MAX_ROWS);
  });

  test("greedy rows take one exchange, and so does a step without rows", async () => {
    const greedy = { logits: [logitsOf(1, 7), logitsOf(2, 7)], requests: [GREEDY, drawn({ topK: 1 })] };
    const mixed = { logits: [logitsOf(1, 7), logitsOf(2, 7)], requests: [GREEDY, drawn({ logprobs: 2 })] };
    const none = { logits: [], requests: [] };
    const found = await choose(world, evenly(7, size), [greedy, none, mixed, none]);
    expect(found.map(({ collectives }) => collectives)).toEqual(size === 1 ? [0, 0, 0, 0] : [1, 1, 3, 1]);
    expect(found.map(({ control }) => control)).toEqual([0, 1, 2, 3]);
    expectTokens(found[0], { ...greedy, requests: [GREEDY, GREEDY] });
    expectTokens(found[2], mixed);
  });

  test("logits that are not finite are refused on every rank, wherever they are; the next step goes on", async () => {
    const damaged = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const steps = damaged.flatMap((value) =>
      [0, 3, 6].map((at) => {
        const row = logitsOf(4, 7).with(at, value);
        return { logits: [logitsOf(3, 7), row], requests: [drawn({ logprobs: 1 }), at === 3 ? GREEDY : drawn({})] };
      }),
    );
    const whole = { logits: [logitsOf(3, 7)], requests: [drawn({ seed: 9 })] };
    const found = await choose(world, evenly(7, size), [...steps, whole]);
    expect(found.slice(0, -1).map(({ tag }) => tag)).toEqual(steps.map(() => "LogitsNotFinite"));
    expect(found[0]?.message).toContain("logits are not finite");
    expectTokens(found.at(-1), whole);
  });

  test("what was not asked for at first is refused before anything is exchanged", async () => {
    const two = [logitsOf(1, 7), logitsOf(2, 7)];
    const steps = [
      { logits: two, requests: [GREEDY] },
      { logits: two, requests: [drawn({}), drawn({})] },
      { logits: two, requests: [GREEDY, drawn({ logprobs: 21 })] },
      {
        logits: new Array<number[]>(MAX_ROWS + 1).fill(two[0] ?? []),
        requests: new Array<RowRequest>(MAX_ROWS + 1).fill(GREEDY),
      },
      { logits: two, requests: [drawn({ logprobs: 0 }), GREEDY] },
    ];
    const found = await choose(world, evenly(7, size), steps, 1);
    const refused = ["ArgumentError", 0];
    expect(found.map(({ tag, collectives }) => [tag, collectives])).toEqual([
      ...new Array<typeof refused>(4).fill(refused),
      ["", size === 1 ? 0 : 3],
    ]);
    expect(found[1]?.message).toContain("at most 1 drawn by chance");
  });

  test("it takes the memory that was foretold", async () => {
    for (const [tokens, maxRows, wholeRows] of [
      [7, 3, 0],
      [7, 3, 3],
      [5000, 64, 64],
      [200_000, 9, 9],
    ] as const) {
      const found = await world.call("memory", [evenly(tokens, size), maxRows, wholeRows]);
      for (const [taken, foretold] of found) expect(taken).toBe(foretold);
    }
  });

  test("many rows of a large vocabulary go round in several rounds", async () => {
    const tokens = 60_000;
    const logits = Array.from({ length: MAX_ROWS }, (_, row) => logitsOf(row, tokens));
    const requests = logits.map((_, row) => drawn({ topP: 0.9, seed: row, logprobs: row === 4 ? 3 : -1 }, row));
    const step = { logits, requests };
    const [found] = await choose(world, evenly(tokens, size), [step]);
    expectTokens(found, step);
    if (size > 1) expect(found?.collectives).toBe(2 + Math.ceil(MAX_ROWS / (size * Math.max(1, Math.floor(4 / size)))));
  });
});
