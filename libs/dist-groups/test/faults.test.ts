import { describe, setDefaultTimeout, test } from "bun:test";
import { FAULTS } from "./fault-matrix.ts";

setDefaultTimeout(120_000);

for (const { name, sizes, run } of FAULTS) {
  describe(name, () => {
    test.each([...sizes])("%i ranks", async (size) => {
      await run(size);
    });
  });
}
