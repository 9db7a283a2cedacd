import { expect, test } from "bun:test";
import fc from "fast-check";
import { FreeBlocks } from "./free-blocks.ts";

test("whatever is taken and put back, the lowest goes next", () => {
  fc.assert(
    fc.property(fc.nat(30), fc.array(fc.nat(100), { maxLength: 200, size: "max" }), (total, draws) => {
      const free = new FreeBlocks(total);
      const here = new Set(Array.from({ length: total }, (_, block) => block));
      const taken: number[] = [];
      for (const draw of draws) {
        if (draw % 2 === 0) {
          const lowest = here.size === 0 ? undefined : Math.min(...here);
          expect(free.takeLowest()).toBe(lowest);
          if (lowest === undefined) continue;
          here.delete(lowest);
          taken.push(lowest);
        } else {
          const [back] = taken.splice(draw % Math.max(1, taken.length), 1);
          if (back === undefined) continue;
          free.add(back);
          here.add(back);
        }
        expect(free.size).toBe(here.size);
      }
    }),
  );
});
