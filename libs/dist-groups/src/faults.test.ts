import { describe, test } from "bun:test";
import { FAULTS } from "../test/fault-matrix.ts";

for (const { name, sizes, run } of FAULTS) {
  describe(name, () => {
    test.each([...sizes])("%i ranks", async (size) => {
      await run(size);
    });
  });
}
