// Runs in Deno and in Bun: attention over a world of 4 ranks on the wasm backend; prints a digest of the result's bits.
import { createHash } from "node:crypto";
import { localLength } from "@lockstep/attention";
import { openWorld } from "@lockstep/dist-groups";
import { isQuantised } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";
import type * as program from "../../libs/attention/test/attention-program.ts";
import { RandomStream } from "../random.ts";

const steps = [
  [45, 3],
  [1, 1],
  [2, 5],
];
const rows = steps.flat().reduce((sum, tokens) => sum + tokens, 0);

const world = await openWorld<typeof program>({
  size: 4,
  program: new URL("../../libs/attention/test/attention-program.ts", import.meta.url),
  options: { backend: "wasm" },
});
try {
  const random = new RandomStream(11);
  const filled = (heads: number, dim: number): Tensor =>
    Tensor.from(world.heap, "f32", [rows, heads, dim], random.normals(rows * heads * dim));
  const [query, key, value] = [filled(8, 48), filled(2, 48), filled(2, 48)];
  const out = Tensor.empty(world.heap, "f32", [rows, 8, 48]);
  const lse = Tensor.empty(world.heap, "f32", [rows, 8]);
  const digest = createHash("sha256");
  for (const combine of ["ag-rs", "a2a", "one-shot"] as const) {
    for (const kvDtype of ["f32", "f16", "bf16", "f8e4m3", "i8"] as const) {
      out.fill(Number.NaN);
      const held = await world.call("replay", [
        {
          steps,
          query: query.descriptor,
          key: key.descriptor,
          value: value.descriptor,
          out: out.descriptor,
          lse: lse.descriptor,
          kvDtype,
          blockSize: 8,
          options: {
            interleave: 2,
            combine,
            softcap: 20,
            window: 30,
            ...(isQuantised(kvDtype) ? { kvScales: { key: 0.02, value: 0.03 } } : {}),
          },
        },
      ]);
      const lengths = [48, 9];
      for (const [index, { tokensHeld }] of held.entries()) {
        const shard = { index, count: 4, interleave: 2 };
        const expected = lengths.reduce((sum, length) => sum + localLength(shard, length), 0);
        if (tokensHeld !== expected) throw new Error(`rank ${index} holds ${tokensHeld} tokens instead of ${expected}`);
      }
      if (out.toNumbers().some((number) => !Number.isFinite(number))) throw new Error("the result is not finite");
      digest.update(out.bytes.slice()).update(lse.bytes.slice());
    }
  }
  console.log(digest.digest("hex"));
} finally {
  await world.close();
}
