// Worlds over hosts: their bits come through, over the network and nothing else; its delay shows; and where it is cut,
// every rank has a typed error by its deadline and the same job goes on once it is back.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { MPI_IMPLEMENTATIONS } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { startJob } from "./job.ts";
import { openNetwork } from "./network.ts";

setDefaultTimeout(240_000);

const DEADLINE_MS = 180_000;
const program = fileURLToPath(new URL("./world-job.ts", import.meta.url));

describe.each(MPI_IMPLEMENTATIONS)("%s", (implementation) => {
  test.each([2, 3])("%i hosts gather the right bits over their links", async (hosts) => {
    const elements = 200_000;
    await using network = await openNetwork({ hosts });
    const command = [process.execPath, program, "rounds", String(hosts), String(elements), "3"];
    const { exitCode, left, stderr } = await startJob(network, { implementation, command, deadlineMs: DEADLINE_MS })
      .ended;
    expect({ exitCode, left, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, left: [], stderr: "" });
    // Each host sends its part to every other.
    const least = 3 * elements * 4 * (hosts - 1);
    for (const host of network.hosts.keys()) {
      expect(network.traffic(host).sentBytes).toBeGreaterThanOrEqual(least);
      expect(network.traffic(host).receivedBytes).toBeGreaterThanOrEqual(least);
    }
  });

  test("a round takes the network's delay, at least", async () => {
    const delayMs = 10;
    await using network = await openNetwork({ hosts: 2, delayMs });
    const command = [process.execPath, program, "rounds", "2", "16", "5"];
    const { exitCode, stdout } = await startJob(network, { implementation, command, deadlineMs: DEADLINE_MS }).ended;
    expect(exitCode).toBe(0);
    const line = stdout.split("\n").find((text) => text.startsWith("{")) ?? "{}";
    const { milliseconds } = JSON.parse(line) as { milliseconds: number[] };
    for (const round of milliseconds) expect(round).toBeGreaterThanOrEqual(delayMs);
  });

  test("a cut network is a timeout on every rank by its deadline, and the job goes on when it is back", async () => {
    const folder = mkdtempSync(join(tmpdir(), "lockstep-cut-"));
    const file = join(folder, "back");
    try {
      await using network = await openNetwork({ hosts: 2, delayMs: 0 });
      const command = [process.execPath, program, "cut", "2", "30000", "1500", file];
      await using job = startJob(network, { implementation, command, deadlineMs: DEADLINE_MS });
      await job.printed("begun");
      // In the middle of rounds.
      await new Promise((resolve) => setTimeout(resolve, 500));
      network.cut();
      for (const rank of [0, 1])
        await job.printed(`ended {"rank":${rank},"error":"CollectiveTimeout","missing":[${1 - rank}]}`);
      await job.printed('host {"error":"CollectiveTimeout","missing":[1],"has":true}');
      network.restore();
      writeFileSync(file, "");
      const { exitCode, stdout, stderr, left } = await job.ended;
      expect(stdout).toContain("went on");
      expect({ exitCode, left, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, left: [], stderr: "" });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
