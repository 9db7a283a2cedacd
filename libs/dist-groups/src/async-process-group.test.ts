import { describe, test } from "bun:test";
import { ASYNC_CASES } from "../test/async-cases.ts";

for (const { name, sizes, run } of ASYNC_CASES) {
  describe(name, () => {
    test.each([...sizes])("%i ranks", async (size) => {
      await run(size);
    });
  });
}
