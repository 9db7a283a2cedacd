import { describe, setDefaultTimeout, test } from "bun:test";
import { ASYNC_CASES } from "./async-cases.ts";

setDefaultTimeout(120_000);

for (const { name, sizes, run } of ASYNC_CASES) {
  describe(name, () => {
    test.each([...sizes])("%i ranks", async (size) => {
      await run(size);
    });
  });
}
