import { describe, setDefaultTimeout, test } from "bun:test";
import { CALL_CASES } from "../../test/call-cases.ts";

setDefaultTimeout(120_000);

for (const { name, sizes, run } of CALL_CASES) {
  describe(name, () => {
    test.each([...sizes])("%i ranks", async (size) => {
      await run(size);
    });
  });
}
