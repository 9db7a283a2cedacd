import { expect, test } from "bun:test";
import { gpuGroups } from "./rank-backend.ts";

test("ranks are dealt to the GPUs round-robin, and GPUs that get none have no group", () => {
  expect(gpuGroups(4, 1)).toEqual([[0, 1, 2, 3]]);
  expect(gpuGroups(5, 2)).toEqual([
    [0, 2, 4],
    [1, 3],
  ]);
  expect(gpuGroups(2, 8)).toEqual([[0], [1]]);
});
