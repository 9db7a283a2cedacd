import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";

setDefaultTimeout(240_000);

const script = fileURLToPath(new URL("./soak/soak.ts", import.meta.url));

/** The soak of a million takes minutes: `bun run soak`. */
test("15,000 mixed collectives over 8 ranks and interleaved groups, every element checked", async () => {
  const soak = Bun.spawn([process.execPath, script, "--collectives", "15000", "--seed", "3"], {
    stdout: "pipe",
    stderr: "pipe",
    timeout: 200_000,
  });
  const [stdout, stderr] = await Promise.all([new Response(soak.stdout).text(), new Response(soak.stderr).text()]);
  expect([await soak.exited, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/15000 collectives on each of 8 ranks over 5 partitions, \d+ elements checked, none wrong/);
});
