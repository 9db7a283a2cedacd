// MPI jobs over hosts: that their bytes cross the network, take its time, and stop where it is cut; in C, so that what
// is seen is MPI's own behaviour.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MPI_IMPLEMENTATIONS } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { compileMpiProgram } from "./compile.ts";
import type { HostProcess } from "./host-processes.ts";
import { type Job, startJob } from "./job.ts";
import { LET_OTHERS_LIVE } from "./launch-command.ts";
import { openNetwork } from "./network.ts";
import { outcomeOf } from "../outcome-of.ts";

setDefaultTimeout(120_000);

/** Long enough for a busy machine; jobs that should end take a second or two. */
const DEADLINE_MS = 60_000;

interface Place {
  readonly rank: number;
  readonly host: string;
  readonly namespace: string;
}

describe.each(MPI_IMPLEMENTATIONS)("%s", (implementation) => {
  const program = compileMpiProgram(implementation);

  test.each([undefined, 0])(
    "sends every byte between hosts over their links, with a delay of %p ms",
    async (delayMs) => {
      const bytes = 3_000_000;
      await using network = await openNetwork({ hosts: 2, ...(delayMs === undefined ? {} : { delayMs }) });
      const before = [network.traffic(0), network.traffic(1)];
      const { ended } = startJob(network, {
        implementation,
        processesPerHost: 2,
        command: [program, "exchange", String(bytes)],
        deadlineMs: DEADLINE_MS,
      });
      const { exitCode, stdout, stderr, left } = await ended;
      expect([exitCode, stderr, left]).toEqual([0, "", []]);
      const places: Place[] = JSON.parse(stdout);
      const [first, second] = network.hosts.map(({ name, namespaceLink }) => ({
        host: name,
        namespace: namespaceLink,
      }));
      expect(places).toEqual([first, first, second, second].map((place, rank) => ({ rank, ...place })) as Place[]);
      // Rank 1 sends to rank 2, and rank 3 to rank 0.
      for (const host of [0, 1]) {
        const { sentBytes, receivedBytes } = network.traffic(host);
        expect(sentBytes - (before[host]?.sentBytes ?? 0)).toBeGreaterThanOrEqual(bytes);
        expect(receivedBytes - (before[host]?.receivedBytes ?? 0)).toBeGreaterThanOrEqual(bytes);
      }
    },
  );

  test("takes twice the delay for a round trip, at least", async () => {
    await using network = await openNetwork({ hosts: 2, delayMs: 0 });
    for (const delayMs of [5, 30]) {
      await network.setDelay(delayMs);
      const { ended } = startJob(network, {
        implementation,
        command: [program, "ping-pong", "10000", "5"],
        deadlineMs: DEADLINE_MS,
      });
      const { exitCode, stdout, stderr } = await ended;
      expect([exitCode, stderr]).toEqual([0, ""]);
      const { shortestMs }: { shortestMs: number } = JSON.parse(stdout);
      expect(shortestMs).toBeGreaterThanOrEqual(2 * delayMs);
    }
  });

  test.each([undefined, 1])("goes on where a cut was restored, with a delay of %p ms", async (delayMs) => {
    await using folder = temporaryFolder();
    const stop = join(folder.path, "stop");
    await using network = await openNetwork({ hosts: 2, ...(delayMs === undefined ? {} : { delayMs }) });
    await using job = startJob(network, {
      implementation,
      command: [program, "rounds", stop],
      deadlineMs: DEADLINE_MS,
    });
    await job.printed("round 10\n");
    network.cut();
    await Bun.sleep(300);
    const reached = lastRound(job);
    network.restore();
    await job.printed(`round ${reached + 20}\n`);
    writeFileSync(stop, "");
    const { exitCode, stderr, left } = await job.ended;
    expect([exitCode, stderr, left]).toEqual([0, "", []]);
  });

  test.each(["mpi", "all"] as const)("waits without an end where links are cut (%s)", async (links) => {
    await using folder = temporaryFolder();
    const stop = join(folder.path, "stop");
    await using network = await openNetwork({ hosts: 2, delayMs: 0 });
    await using job = startJob(network, {
      implementation,
      command: [program, "rounds", stop],
      deadlineMs: DEADLINE_MS,
    });
    await job.printed("round 10\n");
    network.cut({ host: 1, links });
    // Rank 0 sees it, but can tell nobody.
    writeFileSync(stop, "");
    await Bun.sleep(300);
    const { receivedBytes } = network.traffic(1);
    expect(await Promise.race([job.ended, Bun.sleep(1_500)])).toBeUndefined();
    expect(network.traffic(1).receivedBytes).toBe(receivedBytes);
    const { exitCode, killed } = await job.kill();
    expect([exitCode, killed, network.processes()]).toEqual([null, true, []]);
  });

  test.each([false, true])("ends when a rank is killed, unless others may live (%p)", async (mayLive) => {
    await using network = await openNetwork({ hosts: 2 });
    await using job = startJob(network, {
      implementation,
      command: [program, "idle"],
      launcherArguments: mayLive ? LET_OTHERS_LIVE[implementation] : [],
      deadlineMs: DEADLINE_MS,
    });
    await job.printed("idle\n");
    const ranksOn = (host: number): HostProcess[] =>
      network.processes(host).filter(({ command }) => command.startsWith(program));
    const [killed, ...others] = ranksOn(1);
    expect(others).toEqual([]);
    process.kill(killed?.pid ?? Number.NaN, "SIGKILL");
    if (mayLive) {
      expect(await Promise.race([job.ended, Bun.sleep(2_000)])).toBeUndefined();
      expect([ranksOn(0).length, ranksOn(1).length]).toEqual([1, 0]);
    } else {
      const result = await job.ended;
      expect([result.killed, result.left]).toEqual([false, []]);
      expect(result.exitCode).toBeGreaterThan(0);
    }
  });

  test("runs any command on every host, with the environment that was asked for", async () => {
    await using network = await openNetwork({ hosts: 3 });
    const { ended } = startJob(network, {
      implementation,
      command: ["sh", "-c", 'echo "$(hostname) says $GREETING"'],
      environment: { GREETING: "it's a  'fine' day" },
      deadlineMs: DEADLINE_MS,
    });
    const { exitCode, stdout, stderr } = await ended;
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout.trim().split("\n").sort()).toEqual(
      ["host0", "host1", "host2"].map((host) => `${host} says it's a  'fine' day`),
    );
  });

  test("is killed at its deadline, and then another job runs", async () => {
    await using network = await openNetwork({ hosts: 2 });
    const late = startJob(network, { implementation, command: ["sleep", "600"], deadlineMs: 1_500 });
    const { exitCode, killed } = await late.ended;
    expect([exitCode, killed, network.processes()]).toEqual([null, true, []]);
    const next = startJob(network, { implementation, command: ["sleep", "0.5"], deadlineMs: DEADLINE_MS });
    await late.kill();
    expect((await next.ended).exitCode).toBe(0);
    expect(await outcomeOf(next.printed("finished"))).toThrow('did not print "finished"');
  });

  test.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)(
    "leaves no process when %s ends its launcher",
    async (signal) => {
      await using network = await openNetwork({ hosts: 2 });
      await using job = startJob(network, { implementation, command: [program, "idle"], deadlineMs: DEADLINE_MS });
      await job.printed("idle\n");
      job.signal(signal);
      const { killed, left } = await job.ended;
      expect([killed, left]).toEqual([false, []]);
    },
  );

  test("tells the exit code of a rank that fails", async () => {
    await using network = await openNetwork({ hosts: 2 });
    const { ended } = startJob(network, { implementation, command: ["sh", "-c", "exit 7"], deadlineMs: DEADLINE_MS });
    const { exitCode, killed } = await ended;
    expect([exitCode, killed]).toEqual([7, false]);
  });
});

/** The last round that a job has printed. */
function lastRound(job: Job): number {
  return Number([...job.stdout().matchAll(/round (\d+)\n/g)].at(-1)?.[1]);
}

function temporaryFolder(): AsyncDisposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "lockstep-mpi-network-"));
  return {
    path,
    async [Symbol.asyncDispose]() {
      rmSync(path, { recursive: true, force: true });
    },
  };
}
