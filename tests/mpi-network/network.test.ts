// Networks themselves: what they refuse, that they stay apart, and that nothing of them is left.
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { processesIn } from "./host-processes.ts";
import { type Host, openNetwork } from "./network.ts";
import { NetworkError } from "./network-error.ts";
import { outcomeOf } from "../outcome-of.ts";

setDefaultTimeout(120_000);

/** Runs a shell's command on a host. */
function run(hostShell: string, host: string, command: string): { status: number | null; stdout: string } {
  return spawnSync(hostShell, [host, command], { encoding: "utf8", timeout: 60_000 });
}

test.each([undefined, 5])("hosts are apart but for the network, with a delay of %p ms", async (delayMs) => {
  await using network = await openNetwork({ hosts: 3, ...(delayMs === undefined ? {} : { delayMs }) });
  const { hostShell, hosts } = network;
  expect(hosts.map(({ name }) => run(hostShell, name, "hostname").stdout)).toEqual(["host0\n", "host1\n", "host2\n"]);
  expect(new Set(hosts.map(({ name }) => run(hostShell, name, "readlink /proc/self/ns/net").stdout))).toEqual(
    new Set(hosts.map(({ namespaceLink }) => `${namespaceLink}\n`)),
  );
  // As over ssh: nothing of the caller's environment, and the words are a line of shell.
  process.env.LOCKSTEP_TEST_LEAK = "leaked";
  const { stdout } = run(hostShell, "host1", 'echo "$LOCKSTEP_TEST_LEAK" $(( 2 + 3 )); ls -A /dev/shm');
  delete process.env.LOCKSTEP_TEST_LEAK;
  expect(stdout).toBe(" 5\n");
  expect(run(hostShell, "host7", "true").status).toBe(255);
});

test("two networks at a time do not mix, and nothing is left of them", async () => {
  const left: string[] = [];
  const links: string[] = [];
  {
    await using first = await openNetwork({ hosts: 2 });
    await using second = await openNetwork({ hosts: 2, delayMs: 0 });
    links.push(...[...first.hosts, ...second.hosts].map(({ namespaceLink }) => namespaceLink));
    expect(new Set(links).size).toBe(4);
    Bun.spawn([first.hostShell, "host1", "sleep 600"]);
    while (!first.processes().some(({ command }) => command === "sleep 600")) await Bun.sleep(10);
    expect(second.processes()).toEqual([]);
    left.push(...[first, second].map(({ hostShell }) => hostShell), ...[first, second].flatMap(namespacePaths));
    expect(left.filter(existsSync)).toEqual(left);
  }
  expect(left.filter((path) => existsSync(path))).toEqual([]);
  expect(processesIn(links)).toEqual([]);
});

function namespacePaths({ hosts }: { readonly hosts: readonly Host[] }): string[] {
  return hosts.map(({ namespace }) => `/run/netns/${namespace}`);
}

test("what a killed owner left is removed before the next network opens", async () => {
  const program = join(dirname(fileURLToPath(import.meta.url)), "leave-network.ts");
  await using owner = Bun.spawn([process.execPath, program], { stdout: "pipe" });
  const { value } = await owner.stdout.getReader().read();
  const hosts: Host[] = JSON.parse(new TextDecoder().decode(value));
  const links = hosts.map(({ namespaceLink }) => namespaceLink);
  const sleeping = (): number => processesIn(links).filter(({ command }) => command === "sleep 600").length;
  while (sleeping() < hosts.length) await Bun.sleep(10);
  const left = [...namespacePaths({ hosts }), `/tmp/${hosts[0]?.namespace.replace("-host0", "")}`];
  expect(left.filter((path) => existsSync(path))).toEqual(left);
  owner.kill("SIGKILL");
  await owner.exited;

  await using _ = await openNetwork({ hosts: 1 });
  expect(sleeping()).toBe(0);
  expect(left.filter((path) => existsSync(path))).toEqual([]);
});

test("a network refuses what it cannot do", async () => {
  for (const hosts of [0, 17, 1.5, Number.NaN]) expect(await outcomeOf(openNetwork({ hosts }))).toThrow(RangeError);
  for (const delayMs of [-1, Number.NaN, 1e6])
    expect(await outcomeOf(openNetwork({ hosts: 1, delayMs }))).toThrow(RangeError);
  await using bridged = await openNetwork({ hosts: 1 });
  expect(await outcomeOf(bridged.setDelay(1))).toThrow(NetworkError);
  expect(() => bridged.cut({ host: 1 })).toThrow(RangeError);
  expect(() => bridged.traffic(-1)).toThrow(RangeError);
});
