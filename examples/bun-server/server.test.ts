import { expect, setDefaultTimeout, test } from "bun:test";
import { checkAttentionServer } from "../../tests/attention-server/check-attention-server.ts";

setDefaultTimeout(120_000);

test("sequences decode as attention in float64, wrong requests are refused, and it ends when told to", async () => {
  expect(await checkAttentionServer([process.execPath, "server.ts"], import.meta.dir)).toBe(0);
});
