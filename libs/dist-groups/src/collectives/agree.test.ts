import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { CollectiveMismatch, CollectiveTimeout, OptionsDisagree } from "../errors/errors.ts";
import { openWorld } from "../world/world.ts";
import type { AgreedFields } from "./agreed-options.ts";
import { AllToAll } from "./all-to-all.ts";

setDefaultTimeout(120_000);

type AgreeProgram = typeof import("../../test/agree-program.ts");
const program = new URL("../../test/agree-program.ts", import.meta.url);

describe.each([1, 2, 3, 4, 8])("%i ranks", (size) => {
  const everyone = Array.from({ length: size }, (_, rank) => rank);
  const open = (stagingBytes: number) =>
    openWorld<AgreeProgram>({ size, program, stagingBytes, heapBytesPerRank: 1 << 20 });

  test("agree on the same options, of any length, and disagree with every side on every rank", async () => {
    // The smallest staging area takes many rounds for a long text; the default one.
    for (const stagingBytes of [Math.max(256, Math.ceil(AllToAll.recordBytes(size) / 128) * 128), 65_536]) {
      await using world = await open(stagingBytes);
      for (const asyncRanks of [[], everyone, [0]]) {
        for (const length of [0, 1, 119, 120, 121, 4_000, 16_000]) {
          const fields: AgreedFields = { text: "y".repeat(length), window: undefined, scale: 0.125 };
          const same = await world.call("agree", [["Thing.open"], [fields], asyncRanks]);
          expect(same).toEqual(everyone.map(() => ({ error: undefined, message: "", leaked: 0 })));
          if (size === 1) continue;
          // The last rank's text is longer, so that ranks bring different numbers of pieces.
          const odd = { ...fields, text: `${fields.text}z`, scale: 0.25 };
          const each = everyone.map((rank) => (rank === size - 1 ? odd : fields));
          const differ = await world.call("agree", [["Thing.open"], each, asyncRanks]);
          for (const { error, message, leaked } of differ) {
            expect(error).toEqual(differ[0]?.error);
            expect(error?.disagreements.map(({ option }) => option)).toEqual(["scale", "text"]);
            const sides = [
              { ranks: everyone.slice(0, -1), value: "0.125" },
              { ranks: [size - 1], value: "0.25" },
            ];
            expect(error).toMatchObject({ group: "world", what: "Thing.open", option: "scale", sides });
            expect(message).toContain(`0.25 on rank ${size - 1}`);
            expect(message).toContain("0.125 on rank");
            expect(leaked).toBe(0);
          }
        }
      }
    }
  });
});

test("the host gets it as itself; ranks that open different things are told so", async () => {
  await using world = await openWorld<AgreeProgram>({ size: 3, program, heapBytesPerRank: 1 << 20 });
  const error: unknown = await world.call("open", ["Thing.open", [{ a: 1 }, { a: 2 }, {}]]).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(OptionsDisagree);
  expect(error).toHaveProperty(
    "message",
    'Thing.open: the ranks of group "world" disagree: `a` is 1 on rank 0, 2 on rank 1, not given on rank 2. ' +
      "Give every rank the same options.",
  );
  const things = await world.call("agree", [["Thing.open", "Other.open", "Thing.open"], [{ a: 1 }], []]);
  expect(things[1]?.error?.sides).toEqual([
    { ranks: [0, 2], value: '"Thing.open"' },
    { ranks: [1], value: '"Other.open"' },
  ]);
});

test("a rank that does something else, or does not come", async () => {
  for (const [method, errorClass] of [
    ["mixed", CollectiveMismatch],
    ["alone", CollectiveTimeout],
  ] as const) {
    await using world = await openWorld<AgreeProgram>({ size: 3, program, heapBytesPerRank: 1 << 20 });
    const error: unknown = await world.call(method, [method === "alone" ? 300 : 60_000]).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(errorClass);
    expect(error).toHaveProperty("message", expect.stringContaining("agree"));
  }
});
