import { describe, expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "../backends/open-backend.ts";
import { EXACT, expectClose, expectSameBits, F32_TOLERANCE } from "./close.ts";
import { type CheckedOp, checkCase, type OpCase } from "./op-case.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

const heap = SharedHeap.create(32 << 20);
const f32 = (...values: number[]): Tensor => Tensor.from(heap, "f32", [values.length], values);
const half = (...values: number[]): Tensor => Tensor.from(heap, "f16", [values.length], values);

describe("expectClose", () => {
  test("accepts what is within tolerance", () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    expectClose("x", f32(1 + 9e-6, -0, nan, inf), f32(1, 0, nan, inf), F32_TOLERANCE);
    expectClose("x", half(1 + 2 ** -10), half(1), F32_TOLERANCE);
  });

  const wrong: [Tensor, Tensor][] = [
    [f32(1 + 4e-5), f32(1)],
    [f32(1e-9), f32(0)],
    [f32(Number.NaN), f32(1)],
    [f32(1), f32(Number.NaN)],
    [f32(3e38), f32(Number.POSITIVE_INFINITY)],
    [half(1 + 2 ** -9), half(1)],
  ];
  for (const [actual, expected] of wrong) {
    test(`rejects ${actual.toNumbers()} for ${expected.toNumbers()} in ${actual.dtype}`, () => {
      expect(() => expectClose("x", actual, expected, F32_TOLERANCE)).toThrow(/x: element 0/);
    });
  }

  test("exact means exact", () => {
    expect(() => expectClose("x", half(1 + 2 ** -10), half(1), EXACT)).toThrow();
    expect(() => expectSameBits("x", f32(-0), f32(0))).toThrow(/x: element 0/);
  });
});

describe("checkCase", () => {
  interface Doubling {
    readonly input: Tensor;
    readonly output: Tensor;
  }
  const item: OpCase<Doubling> = {
    name: "doubling",
    tolerance: F32_TOLERANCE,
    build: (arena) => ({
      input: Tensor.from(arena, "f32", [2], [1, 2]),
      output: Tensor.empty(arena, "f32", [4]).fill(Number.NaN).slice(0, 0, 4, 2),
    }),
  };
  const double = ({ input, output }: Doubling): void => {
    output.set(input.toNumbers().map((value) => 2 * value));
  };
  const check = async (run: (args: Doubling) => void): Promise<void> => {
    const op: CheckedOp<Doubling> = {
      name: "double",
      cases: [item],
      outputs: (args) => [["output", args.output]],
      reference: double,
      run: (_, args) => {
        run(args);
        return undefined;
      },
    };
    await using backend = await openBackend("reference", { heap });
    await checkCase(heap, op, item, backend);
  };

  test("passes what agrees", () => check(double));

  test("finds a wrong result", async () => {
    expect(await outcomeOf(check(({ output }) => void output.fill(2)))).toThrow(/output: element 1/);
  });

  test("finds an output that was not written", async () => {
    expect(await outcomeOf(check(() => {}))).toThrow(/output: element 0/);
  });

  for (const [what, damage] of [
    ["an input that was changed", ({ input }: Doubling) => void input.fill(7)],
    ["a write into the gaps of an output", ({ output }: Doubling) => void output.elements.fill(3, 1, 2)],
  ] as const) {
    test(`finds ${what}`, async () => {
      const run = (args: Doubling): void => {
        double(args);
        damage(args);
      };
      expect(await outcomeOf(check(run))).toThrow();
    });
  }
});
