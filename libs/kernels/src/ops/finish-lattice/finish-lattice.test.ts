import { afterAll, describe, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "../../backends/open-backend.ts";
import { expectRejected, testCases } from "../../testing/op-case.ts";
import { FINISH_LATTICE_CASES } from "./cases.ts";
import type { FinishLatticeArgs } from "./index.ts";
import { finishLatticeReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = [await openBackend("reference", { heap }), await openBackend("wasm", { heap })];
afterAll(() => Promise.all(backends.map((backend) => backend.close())));

testCases(heap, backends, {
  name: "finishLattice",
  cases: FINISH_LATTICE_CASES,
  outputs: (args) => [
    ["out", args.out],
    ["lse", args.lse],
  ],
  reference: finishLatticeReference,
  run: (backend, args) => backend.finishLattice(args),
});

const tensor = (dtype: "f32" | "i32", ...shape: number[]): Tensor => Tensor.zeros(heap, dtype, shape);
const good = { bounds: tensor("f32", 3, 1, 2), sums: tensor("i32", 1, 2, 3, 2), out: tensor("f32", 1, 2, 2) };
const lse = tensor("f32", 1, 2);
const BAD: readonly [what: string, changes: Partial<FinishLatticeArgs>, message: RegExp][] = [
  ["two bounds", { bounds: tensor("f32", 2, 1, 2) }, /`bounds` must be of shape \[3, any, any\]/],
  ["integer bounds", { bounds: tensor("i32", 3, 1, 2) }, /`bounds` must be of dtype f32/],
  ["sums without a column of weights", { sums: tensor("i32", 1, 2, 2, 2) }, /`sums` must be of shape \[1, 2, 3, 2\]/],
  ["sums in f32", { sums: tensor("f32", 1, 2, 3, 2) }, /`sums` must be of dtype i32/],
  ["words that lie apart", { sums: tensor("i32", 1, 2, 2, 3).transpose(2, 3) }, /`sums` must be of strides 2 and 1/],
  ["an out of integers", { out: tensor("i32", 1, 2, 2) }, /`out` must be of dtype f32, f16, bf16/],
  ["an lse of another shape", { lse: tensor("f32", 2, 1) }, /`lse` must be of shape \[1, 2\]/],
];

for (const backend of backends) {
  describe(`finishLattice on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () => {
        const args = { ...good, lse, ...changes };
        return expectRejected(() => backend.finishLattice(args), ArgumentError, message, [good.out, lse]);
      });
    }
  });
}
