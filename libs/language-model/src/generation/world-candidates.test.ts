import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { UnfitOptions } from "../errors.ts";
import { openModel } from "../model/model.ts";
import type { GeneratorOptions } from "./generator-options.ts";
import { worldCandidates } from "./world-candidates.ts";

const model = openModel(MODEL_FOLDER);
const least: GeneratorOptions = { world: "auto", backend: "wasm", capacity: 64 };

/** `4/2s` for 4 ranks, DCP 2, KV heads sharded. */
function named(options: object, cores: number): string {
  const candidates = worldCandidates(model, { ...least, ...options }, cores);
  return candidates.map(({ world, dcp, kvLayout }) => `${world}/${dcp}${kvLayout === "sharded" ? "s" : ""}`).join(" ");
}

test.each([
  [1, "1/1"],
  [2, "1/1 2/1s"],
  [3, "1/1 2/1s"],
  [4, "1/1 2/1s 4/2s 4/1s"],
  [64, "1/1 2/1s 4/2s 4/1s 8/4s 8/1s"],
] as const)(
  "on %d cores: up to so many ranks, and to the query heads, by layouts that may be fastest",
  (cores, names) => {
    expect(named({}, cores)).toBe(names);
  },
);

test("what is given is kept", () => {
  expect(named({ kvHeads: "replicated" }, 4)).toBe("1/1 2/2 2/1 4/4 4/1");
  expect(named({ kvHeads: "sharded" }, 4)).toBe("1/1s 2/1s 4/2s 4/1s");
  expect(named({ dcp: 2 }, 4)).toBe("2/2 4/2s");
  // More than there are cores: as few as can be.
  expect(named({ dcp: 3 }, 2)).toBe("3/3");
});

test("only what holds the model and the context: more ranks than cores where fewer do not", () => {
  expect(named({ capacity: 16384, texts: 40 }, 2)).toBe("2/1s");
  expect(named({ capacity: 16384, texts: 40 }, 4)).toBe("2/1s 4/2s 4/1s");
  expect(named({ capacity: 16384, texts: 40 }, 1)).toBe("2/1s");
  // Without a capacity what holds the longest text.
  expect(named({ capacity: undefined, texts: 40 }, 4)).toBe("2/1s 4/2s 4/1s");
  // Twice as much a rank does not fit.
  expect(named({ capacity: 16384, texts: 100 }, 8)).toBe("4/2s 8/4s");
});

test("where none fits, the refusal is that of the most ranks", () => {
  const { capacity: _, ...open } = least;
  const refused = (options: object) => () => worldCandidates(model, { ...open, ...options }, 4);
  expect(refused({ capacity: 16384, texts: 100_000 })).toThrow(UnfitOptions);
  expect(refused({ capacity: 16384, texts: 100_000 })).toThrow("of each of 8 ranks, but a memory holds");
  expect(refused({ capacity: 16385 })).toThrow("was made for 16384");
  expect(refused({ dcp: 16 })).toThrow("`dcp` must be at most the model's 8 query heads, but is 16.");
  expect(refused({ dcp: 1_000_000 })).toThrow("`dcp` must be at most the model's 8 query heads, but is 1000000.");
});

test.each([
  [{ dcp: 0 }, "`dcp`"],
  [{ capacity: -1 }, "`capacity`"],
  [{ kvHeads: "all" }, "`kvHeads`"],
])("values that no model takes are refused: %j", (options, message) => {
  const check = () => worldCandidates(model, { ...least, ...(options as object) }, 2);
  expect(check).toThrow(ArgumentError);
  expect(check).toThrow(message);
});
