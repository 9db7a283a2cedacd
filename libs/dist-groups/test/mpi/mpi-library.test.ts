// Messages over every MPI and every layout that is there, in Bun and Deno. Where an implementation is missing these
// fail: `bun scripts/setup.ts --mpi` installs both.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../../../scripts/deno-binary.ts";
import { MPI_IMPLEMENTATIONS, type MpiImplementation, type MpiOutcome, mpiRun } from "./mpi-launcher.ts";
import { buildStandardAbiShim, type StandardAbiShim } from "./standard-abi-shim.ts";

setDefaultTimeout(180_000);
const DEADLINE_MS = 150_000;

const DENO = [denoBinary(), "run", "--no-check", "--quiet"];
const RUNTIMES = { bun: [process.execPath], deno: [...DENO, "--allow-all"] };
const BOTH = ["bun", "deno"] as const;
type RuntimeName = (typeof BOTH)[number];

const shims = new Map<MpiImplementation, StandardAbiShim>();
beforeAll(() => {
  for (const over of MPI_IMPLEMENTATIONS) shims.set(over, buildStandardAbiShim(over));
});
afterAll(() => {
  for (const shim of shims.values()) shim.remove();
});

interface Launch {
  readonly implementation: MpiImplementation;
  readonly runtime: RuntimeName;
  readonly program: string;
  readonly processes: number;
  readonly library?: string | undefined;
}

function launch({ implementation, runtime, program, processes, library }: Launch): Promise<MpiOutcome> {
  return mpiRun({
    implementation,
    processes,
    command: [...RUNTIMES[runtime], fileURLToPath(new URL(program, import.meta.url))],
    ...(library === undefined ? {} : { environment: { LOCKSTEP_MPI_LIBRARY: library } }),
    deadlineMs: DEADLINE_MS,
  });
}

const GOOD = { exitCode: 0, timedOut: false, leftOver: [] };

/** What `init-program.ts` and `exchange-program.ts` print of MPI, behind a word. */
function toldAfter(word: string, stdout: string): unknown {
  const found = new RegExp(`^${word} (\\{.*\\})$`, "m").exec(stdout)?.[1];
  return found === undefined ? `no line "${word} {...}" in: ${stdout}` : JSON.parse(found);
}

describe("main threads and workers exchange messages at once", () => {
  const libraries = [
    ["openmpi", "openmpi"],
    ["mpich", "mpich"],
    ["openmpi", "standard"],
    ["mpich", "standard"],
  ] as const;
  const cases = libraries.flatMap(([implementation, abi]) =>
    BOTH.flatMap((runtime) => [2, 3, 4].map((processes) => ({ implementation, abi, runtime, processes }))),
  );
  test.each(cases)("$processes processes, $implementation, layout $abi, in $runtime", async (which) => {
    const { implementation, abi, runtime, processes } = which;
    const library = abi === "standard" ? shims.get(implementation)?.library : undefined;
    const outcome = await launch({ implementation, runtime, program: "exchange-program.ts", processes, library });
    expect(outcome).toMatchObject(GOOD);
    for (const [rank, { stdout, stderr }] of outcome.ranks.entries()) {
      expect(stderr).toBe("");
      // 3 threads, 2 rounds, 5 sizes, from every process.
      const messages = 3 * 2 * 5 * processes;
      expect(toldAfter(`exchanged ${messages}`, stdout)).toMatchObject({ rank, size: processes, abi });
    }
  });
});

describe.each(MPI_IMPLEMENTATIONS)("over %s", (implementation) => {
  const other: MpiImplementation = implementation === "openmpi" ? "mpich" : "openmpi";
  const file = { openmpi: "libmpi.so.40", mpich: "libmpich.so.12" };

  test.each(BOTH)("what is refused, and how requests end, in %s", async (runtime) => {
    const outcome = await launch({ implementation, runtime, program: "failure-program.ts", processes: 2 });
    expect(outcome).toMatchObject(GOOD);
    for (const { stdout } of outcome.ranks) {
      const outcomes = JSON.parse(stdout);
      expect(outcomes).toEqual({
        sendToNobody: "MpiFailed of MPI_Isend: told why",
        receiveFromNobody: "MpiFailed of MPI_Irecv: told why",
        negativeTag: "MpiFailed of MPI_Isend: told why",
        probeOfNegativeTag: "MpiFailed of MPI_Improbe: told why",
        negativeBytes: expect.stringMatching(/^ArgumentError: isend: .*bytes.*0 to 2147483647.*-1/),
        tooManyBytes: expect.stringMatching(/^ArgumentError: irecv: .*bytes.*2147483648/),
        noAddress: expect.stringMatching(/^ArgumentError: isend: .*address/),
        testOfNothing: expect.stringMatching(/^ArgumentError: test: .*request/),
        cancelOfNothing: expect.stringMatching(/^ArgumentError: cancel: .*request/),
        receiveWithoutProbe: expect.stringMatching(/^ArgumentError: receiveProbed: .*probe/),
        openAfterRefusals: 0,
        cancelOfMatched: false,
        bytesOfMatched: 100,
        testAfterItsEnd: expect.stringMatching(/^ArgumentError: test: .*request/),
        cancelOfSend: expect.stringMatching(/^ArgumentError: cancel: .*an open receive/),
        probeBeforeReceive: expect.stringMatching(/^ArgumentError: probe: .*receiveProbed/),
        openAtOnce: 600,
        wrongValues: 0,
        openAtTheEnd: 0,
        addressOfNothing: 0,
        addressIsOfTheFirstByte: true,
        attachAfterTheEnd: expect.stringMatching(/^MpiUnsuitable: .*initMpi/),
      });
    }
  });

  test.each(BOTH)("WebAssembly traps as before, in %s", async (runtime) => {
    const outcome = await launch({ implementation, runtime, program: "trap-program.ts", processes: 1 });
    expect(outcome).toMatchObject(GOOD);
    expect(outcome.ranks[0]).toEqual({ stdout: "trapped 40\n", stderr: "" });
  });

  test.each(BOTH)("one process aborts all, in %s", async (runtime) => {
    const outcome = await launch({ implementation, runtime, program: "abort-program.ts", processes: 3 });
    expect(outcome).toMatchObject({ exitCode: 7, timedOut: false, leftOver: [] });
    for (const [rank, { stdout }] of outcome.ranks.entries()) expect(stdout).toBe(`rank ${rank} waits\n`);
  });

  test.each(BOTH)("a library that is not the launcher's is refused, in %s", async (runtime) => {
    const library = file[other];
    const outcome = await launch({ implementation, runtime, program: "init-program.ts", processes: 2, library });
    expect(outcome).toMatchObject({ timedOut: false, leftOver: [] });
    expect(outcome.exitCode).not.toBe(0);
    for (const { stdout } of outcome.ranks) {
      // Some launchers end the others as soon as one has failed.
      if (stdout === "") continue;
      expect(stdout).toMatch(/^failed MpiUnsuitable: .* started 2 processes .* sees 1 .*LOCKSTEP_MPI_LIBRARY/);
      expect(stdout).toContain(library);
    }
    expect(outcome.ranks.map(({ stdout }) => stdout).join("")).toContain("MpiUnsuitable");
  });

  test("a library that is not there is refused", async () => {
    const library = "/nowhere/libmpi.so";
    const outcome = await launch({ implementation, runtime: "bun", program: "init-program.ts", processes: 1, library });
    expect(outcome.exitCode).toBe(3);
    expect(outcome.ranks[0]?.stdout).toMatch(
      /^failed MpiNotFound: .*\/nowhere\/libmpi\.so: cannot open.*apt-get install openmpi-bin.*LOCKSTEP_MPI_LIBRARY/,
    );
  });

  test.each(BOTH)("without mpirun there is a world of one, which starts once, in %s", async (runtime) => {
    const { code, stdout } = await runAlone(
      [...RUNTIMES[runtime], fileURLToPath(new URL("init-program.ts", import.meta.url))],
      { LOCKSTEP_MPI_LIBRARY: file[implementation] },
    );
    expect(toldAfter("started", stdout)).toMatchObject({ rank: 0, size: 1, abi: implementation });
    expect(stdout).toMatch(/^again MpiUnsuitable: .*cannot start again/m);
    expect(code).toBe(0);
  });
});

describe("Deno's permissions", () => {
  const program = fileURLToPath(new URL("init-program.ts", import.meta.url));

  test("without --allow-ffi the error names it", async () => {
    const { code, stdout } = await runAlone([...DENO, "--allow-read", "--allow-env", program], {});
    expect(stdout).toMatch(/^failed MpiUnsuitable: .*--allow-ffi/);
    expect(code).toBe(3);
  });

  test("without --allow-env the launcher is known all the same", async () => {
    const outcome = await mpiRun({
      implementation: "mpich",
      processes: 2,
      command: [...DENO, "--allow-read", "--allow-ffi", program],
      deadlineMs: DEADLINE_MS,
    });
    expect(outcome).toMatchObject(GOOD);
    for (const { stdout } of outcome.ranks)
      expect(toldAfter("started", stdout)).toMatchObject({ size: 2, abi: "mpich" });
  });
});

/** Runs a command without mpirun. */
async function runAlone(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<{ code: number; stdout: string }> {
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    timeout: DEADLINE_MS,
    killSignal: "SIGKILL",
  });
  const stdout = await new Response(child.stdout).text();
  return { code: await child.exited, stdout };
}
