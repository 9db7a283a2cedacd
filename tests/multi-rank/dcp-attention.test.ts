import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import type * as program from "./dcp-attention-program.ts";

setDefaultTimeout(60_000);

let world: World<MethodsOf<typeof program>>;
beforeAll(async () => {
  world = await openWorld<typeof program>({
    size: 2,
    program: new URL("./dcp-attention-program.ts", import.meta.url),
  });
});
afterAll(() => world.close());

describe("DcpAttention refuses options that disagree", () => {
  test.each([
    ["an interleave that does not divide the block size", { interleave: 3 }, "interleave"],
    ["no layers", { layers: 0 }, "layers"],
    ["half a head", { queryHeads: 1.5 }, "queryHeads"],
    ["no blocks", { numBlocks: 0 }, "numBlocks"],
    ["a cache in integers", { kvDtype: "i32" }, "kvDtype"],
    ["a window of 0", { window: 0 }, "window"],
    ["windows for more layers than there are", { window: [3, null] }, "one for each of the 1 layers"],
    ["MLA with two KV heads", { mla: true, kvHeads: 2 }, "kvHeads` must be 1 with mla"],
    ["MLA values wider than the keys", { mla: true, valueDim: 5 }, "valueDim` must be at most headDim = 4"],
    ["an LSE base of 10", { lseBase: "10" as "2" }, "lseBase"],
    ["a negative softcap", { softcap: -1 }, "softcap"],
    ["query heads that are no multiple of the KV heads", { queryHeads: 3, kvHeads: 2 }, "queryHeads"],
  ] as const)("%s", async (_, options, named) => {
    for (const { tag, message, usedBytes } of await world.call("refusal", [options])) {
      expect(tag).toBe("ArgumentError");
      expect(message).toContain(named);
      expect(usedBytes).toBe(0);
    }
  });
});

test("running out of blocks reserves nothing and loses nothing", async () => {
  for (const result of await world.call("outOfBlocks", [])) {
    expect(result.tag).toBe("OutOfBlocks");
    expect(result.message).toContain("needs 2 more, 1 of 2 are free");
    expect(result.lengthAfter).toBe(result.lengthBefore);
    expect(result.outAfter).toEqual(result.outBefore);
  }
});

test("a cancelled step gives its slots back", async () => {
  for (const { length, held } of await world.call("cancelStep", [])) {
    expect(length).toBe(0);
    expect(held).toBe(0);
  }
});

test("methods out of order are refused with the order to follow", async () => {
  for (const tags of await world.call("outOfOrder", [])) {
    expect(tags).toEqual(["StepOrderError", "StepOrderError", "StepOrderError", "StepOrderError"]);
  }
});

test("a query of the wrong shape is refused before anything is exchanged", async () => {
  for (const { tag, message } of await world.call("wrongQuery", [])) {
    expect(tag).toBe("ArgumentError");
    expect(message).toContain("query");
  }
});

test("closing returns every byte", async () => {
  for (const usedBytes of await world.call("openAndClose", [])) expect(usedBytes).toBe(0);
});
