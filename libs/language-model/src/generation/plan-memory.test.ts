import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { UnfitOptions } from "../errors.ts";
import { openModel } from "../model/model.ts";
import { checkWorlds } from "./choose-world.ts";
import { planMemory, planWorlds } from "./plan-memory.ts";
import { spreadOptions } from "./world-candidates.ts";

const model = openModel(MODEL_FOLDER);
const least = { backend: "wasm", capacity: 64 } as const;

test("the plan of a number of ranks that is to be chosen: those of all that can be", () => {
  const plans = planWorlds(model, least);
  expect(plans.map(({ sizes }) => sizes)).toEqual(checkWorlds(model, { ...least, world: "auto" }));
  for (const { sizes, plan } of plans) {
    expect(plan).toEqual(planMemory(model, spreadOptions({ ...least, world: "auto" }, sizes)));
    expect(plan.ranks.length).toBe(sizes.world);
    expect(plan.problem).toBeUndefined();
  }
});

test("where none fits, that of the most ranks, with what does not fit and what would make it fit", () => {
  const plans = planWorlds(model, { backend: "wasm", texts: 100_000, capacity: 16384 });
  expect(plans.map(({ sizes: { world } }) => world)).toEqual([8]);
  expect(plans[0]?.plan.problem).toContain("of each of 8 ranks, but a memory holds");
  expect(plans[0]?.plan.advice).toContain("fewer texts at a time");
});

test("refuses what no number of ranks allows", () => {
  expect(() => planWorlds(model, { ...least, sharedGpu: true })).toThrow(UnfitOptions);
  expect(() => planWorlds(model, { ...least, dcp: 9 })).toThrow("`dcp` must be at most");
  expect(() => planWorlds(model, { capacity: 16385 })).toThrow("was made for 16384");
  for (const options of [null, undefined, "x"]) {
    for (const plan of [planWorlds, planMemory]) {
      const call = () => Reflect.apply(plan, undefined, [model, options]);
      expect(call).toThrow(ArgumentError);
      expect(call).toThrow(`${plan.name}: \`options\` must be an object`);
    }
  }
});

test("a number of ranks is needed for one plan: the refusal names what plans all", () => {
  const call = () => Reflect.apply(planMemory, undefined, [model, { ...least, world: "auto" }]);
  expect(call).toThrow(ArgumentError);
  expect(call).toThrow('planMemory: `world` must be a number of ranks (planWorlds plans those of auto), but is "auto"');
});
