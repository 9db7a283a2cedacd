import { expect, test } from "bun:test";
import { layerScales } from "./kv-scales.ts";

test.each([1, 2])("keeps copies of lists of scales, which the caller may change: %d given", (count) => {
  const given = Array.from({ length: count }, () => ({ key: [1, 2], value: [3, 4] }));
  const layers = layerScales(count === 1 ? given[0] : given, 2, false);
  for (const { key, value } of given) for (const list of [key, value]) list.fill(9);
  expect(layers).toEqual([
    { keyScale: [1, 2], valueScale: [3, 4] },
    { keyScale: [1, 2], valueScale: [3, 4] },
  ]);
});
