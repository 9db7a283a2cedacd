import { expect, test } from "bun:test";
import { recordedAnchor } from "./recorded.ts";
import { ROWS } from "./rows.ts";

test("recorded times are found for rows of the bench, on the GPUs that they are of", () => {
  for (const [gpu, count] of [
    ["NVIDIA H100 80GB HBM3", 15],
    ["nvidia-h200", 17],
    ["NVIDIA A100", 0],
  ] as const) {
    const found = ROWS.map(({ op, shape, dtype }) => recordedAnchor(gpu, op, shape, dtype));
    expect([gpu, found.filter((anchor) => anchor !== undefined).length]).toEqual([gpu, count]);
  }
});
