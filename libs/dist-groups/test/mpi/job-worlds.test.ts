// Worlds of one job: one after the other without anything left of them, several at once, and none where the launcher is
// to be ignored.
import { expect, setDefaultTimeout, test } from "bun:test";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { MPI_IMPLEMENTATIONS, type MpiImplementation, mpiRun } from "./mpi-launcher.ts";
import type { Held } from "./worlds-program.ts";

setDefaultTimeout(200_000);

const program = fileURLToPath(new URL("./worlds-job.ts", import.meta.url));

async function outputs(
  implementation: MpiImplementation,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const { exitCode, leftOver, ranks, stderr } = await mpiRun({
    implementation,
    processes: 3,
    command: [process.execPath, program, ...args],
    environment,
    deadlineMs: 180_000,
  });
  expect({ exitCode, leftOver, stderr: exitCode === 0 ? "" : stderr }).toEqual({
    exitCode: 0,
    leftOver: [],
    stderr: "",
  });
  return ranks.map(({ stdout }) => stdout);
}

interface World {
  readonly gathered: readonly (readonly number[])[];
  readonly held: readonly Held[];
}

const gatheredBy = (size: number, base: number): number[][] =>
  Array.from({ length: size }, () => Array.from({ length: size }, (_, rank) => base + rank));

test.each([...MPI_IMPLEMENTATIONS])(
  "%s: twenty worlds one after the other, of fewer ranks and of more",
  async (mpi) => {
    const [first = "", ...others] = await outputs(mpi, ["again", "20"]);
    // Followers say nothing.
    expect(others).toEqual(["", ""]);
    const worlds = JSON.parse(first) as World[];
    expect(worlds).toHaveLength(20);
    for (const [index, { gathered, held }] of worlds.entries()) {
      const size = 1 + (index % 5);
      expect(gathered).toEqual(gatheredBy(size, 10 * index));
      expect(new Set(held.map(({ pid }) => pid)).size).toBe(Math.min(size, 3));
    }
    // The same processes all along, with no more open than after the first worlds.
    const inLast = (from: number): Map<number, number> =>
      new Map(
        worlds.slice(from, from + 5).flatMap(({ held }) => held.map(({ pid, descriptors }) => [pid, descriptors])),
      );
    const [early, late] = [inLast(5), inLast(15)];
    expect([...late.keys()].toSorted()).toEqual([...early.keys()].toSorted());
    for (const [pid, descriptors] of late) expect(descriptors).toBeLessThanOrEqual((early.get(pid) ?? 0) + 4);
  },
);

test.each([...MPI_IMPLEMENTATIONS])("%s: several worlds at once do not meet", async (mpi) => {
  const [first = ""] = await outputs(mpi, ["together", "3"]);
  const found = JSON.parse(first) as number[][][][];
  for (const [index, rounds] of found.entries()) {
    for (const [round, gathered] of rounds.entries()) {
      expect(gathered).toEqual(gatheredBy(2 + index, 1000 * index + round));
    }
  }
});

test("LOCKSTEP_MPI=0: every process is a program of its own", async () => {
  const texts = await outputs("openmpi", ["again", "1"], { LOCKSTEP_MPI: "0" });
  for (const text of texts) {
    const [world] = JSON.parse(text) as World[];
    expect(world?.gathered).toEqual([[0]]);
    expect(world?.held).toMatchObject([{ process: 0 }]);
  }
});
