// The demo and the server, started by `mpirun`: the same texts as with workers of one process, told by the first
// process alone.

import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createServer } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";
import { MPI_IMPLEMENTATIONS, mpiRun, startMpi } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";

setDefaultTimeout(300_000);

const DEADLINE_MS = 240_000;
const root = fileURLToPath(new URL("../..", import.meta.url));
const demo = fileURLToPath(new URL("../../apps/demo/src/main.ts", import.meta.url));
const server = fileURLToPath(new URL("../../apps/server/src/main.ts", import.meta.url));
const options = ["--max-tokens", "24", "--backend", "wasm"];

/** What the demo writes that does not depend on time or ranks: the text. */
const textOf = (output: string): string => output.slice(0, output.indexOf("\n\nTP"));

function demoInWorkers(world: number): string {
  const args = [demo, ...options, "--world", String(world)];
  const { stdout, status } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  expect(status).toBe(0);
  return textOf(stdout);
}

const expected = demoInWorkers(1);

test("workers of one process give the text on any number of ranks", () => {
  expect(expected).toStartWith("Psa23:1 The LORD is my shepherd; I shall not want.\n");
  for (const world of [2, 4]) expect(demoInWorkers(world)).toBe(expected);
});

for (const implementation of MPI_IMPLEMENTATIONS) {
  test.each([2, 4])(`the demo under ${implementation}'s mpirun, on %i processes`, async (processes) => {
    const command = [process.execPath, demo, ...options];
    const { exitCode, ranks, leftOver, stderr } = await mpiRun({
      implementation,
      processes,
      command,
      deadlineMs: DEADLINE_MS,
    });
    expect({ exitCode, leftOver, stderr: exitCode === 0 ? "" : stderr }).toEqual({
      exitCode: 0,
      leftOver: [],
      stderr: "",
    });
    const [first, ...others] = ranks.map(({ stdout }) => stdout);
    expect(textOf(first ?? "")).toBe(expected);
    expect(first).toMatch(new RegExp(`world auto: ${processes} ranks`));
    expect(others).toEqual(others.map(() => ""));
  });
}

test("the demo under mpirun in Deno: letters to ranks that have ended hold nothing up", async () => {
  const command = [denoBinary(), "run", "-A", "--unstable-no-legacy-abort", demo, ...options];
  const launch = { implementation: "openmpi", processes: 2, command, deadlineMs: DEADLINE_MS } as const;
  const { exitCode, ranks, leftOver, stderr } = await mpiRun(launch);
  expect({ exitCode, leftOver, stderr: exitCode === 0 ? "" : stderr }).toEqual({
    exitCode: 0,
    leftOver: [],
    stderr: "",
  });
  expect(textOf(ranks[0]?.stdout ?? "")).toBe(expected);
});

test("the demo on two processes of two ranks each", async () => {
  const command = [process.execPath, demo, ...options, "--world", "4"];
  const { exitCode, ranks } = await mpiRun({
    implementation: "openmpi",
    processes: 2,
    command,
    deadlineMs: DEADLINE_MS,
  });
  expect(exitCode).toBe(0);
  expect(textOf(ranks[0]?.stdout ?? "")).toBe(expected);
});

async function freePort(): Promise<number> {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  if (address === null || typeof address === "string") throw new Error("there is no free port");
  return address.port;
}

test("the server under mpirun answers as the demo does, and drains", async () => {
  const port = await freePort();
  const running = startMpi({
    implementation: "openmpi",
    processes: 2,
    command: [process.execPath, server, "--port", String(port), "--backend", "wasm"],
    deadlineMs: DEADLINE_MS,
  });
  try {
    const url = `http://127.0.0.1:${port}`;
    while (!running.output(0).stdout.includes('"listening"')) await new Promise((resolve) => setTimeout(resolve, 100));
    const asked = Array.from({ length: 3 }, async () => {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
      const body = JSON.stringify({ model: data[0]?.id, prompt: "Psa23:1 The LORD", max_tokens: 16, temperature: 0 });
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      });
      return (await response.json()) as { choices: { text: string }[] };
    });
    for (const { choices } of await Promise.all(asked)) {
      expect(`Psa23:1 The LORD${choices[0]?.text}`).toStartWith("Psa23:1 The LORD is my shepherd; I shall not want.\n");
    }
    const flight = await (await fetch(`${url}/debug/flight`)).text();
    expect(flight).toContain("world");
    const pid = running.pid(0);
    if (pid === undefined) throw new Error("the server does not run");
    process.kill(pid, "SIGTERM");
    const { exitCode, leftOver } = await running.outcome;
    expect({ exitCode, leftOver }).toEqual({ exitCode: 0, leftOver: [] });
  } finally {
    running.kill();
  }
});
