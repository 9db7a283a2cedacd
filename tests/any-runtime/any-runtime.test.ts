import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";
import { checkWorlds } from "./check-worlds.ts";

setDefaultTimeout(240_000);

test("worlds over workers of their own: the same bits and failures in Bun and in Deno", async () => {
  const inBun = await checkWorlds(
    (rank) => new Worker(new URL("./rank.ts", import.meta.url), { name: `rank ${rank}` }),
  );
  expect(Object.keys(inBun.digests)).toEqual(["1", "2", "3", "4", "8"]);
  expect(new Set(Object.values(inBun.digests)).size).toBe(5);
  expect(inBun.failures).toEqual({
    "a rank throws": "RankCrashed: rank 1",
    "a rank throws in a timer": "RankCrashed: rank 1",
    "a rank rejects a promise": "RankCrashed: rank 1",
    "a rank ends its worker": "RankCrashed: rank 1",
    "a rank does not come": "CollectiveTimeout: barrier without ranks 1",
    "ranks differ": "CollectiveMismatch: 2 sides",
    "a bad argument": "ArgumentError",
    "an argument that cannot be copied": "ArgumentError",
    "a call that misses its deadline": "CallTimeout: ranks 1",
    "a signal fires": "CallInterrupted: ranks 1",
    "a rank is terminated while it waits for ever": "RankCrashed: rank 1",
    "the world closes while a rank waits for a peer": "WorldClosed",
  });
  const script = fileURLToPath(new URL("./print-report.ts", import.meta.url));
  const deno = Bun.spawn([denoBinary(), "run", "--allow-all", "--no-check", "--quiet", script], {
    stdout: "pipe",
    stderr: "inherit",
    timeout: 180_000,
  });
  expect(JSON.parse(await new Response(deno.stdout).text())).toEqual(inBun);
});
