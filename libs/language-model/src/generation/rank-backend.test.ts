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

test("ranks of different processes never share a device", () => {
  const processes = [
    [0, 1, 2],
    [3, 4],
  ];
  const placement = { processes, machines: 2, controlBytes: 0 };
  expect(gpuGroups(5, 1, placement)).toEqual(processes);
  expect(gpuGroups(5, 2, placement)).toEqual([[0, 2], [1], [4], [3]]);
  expect(gpuGroups(5, 8, placement)).toEqual([[0], [1], [2], [3], [4]]);
});
