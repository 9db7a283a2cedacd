// Network namespaces by iproute2: commands, names that tell their owner, and the removal of what a dead owner left.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { killProcesses } from "./host-processes.ts";
import { NetworkError } from "./network-error.ts";

const FOLDER = "/run/netns";
/** `lockstep-PID-SERIAL` and, of a namespace, `-switch` or `-hostN`. */
const OWNED = /^lockstep-(\d+)-\d+(-switch|-host\d+)?$/;
const ADVICE = "This takes Linux, root and iproute2: `apt-get install iproute2`";

/** Where programs are looked for: also where Debian has those of administrators. */
export const PROGRAM_PATH = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;

let serial = 0;

/** A name that no other network has, on this machine and now: of its folder, and the start of its namespaces' names. */
export function freshName(): string {
  serial++;
  return `lockstep-${process.pid}-${serial}`;
}

/** Where a network keeps its files. Short, since paths of Unix sockets in it may have 107 bytes. */
export function folderOf(name: string): string {
  return join(tmpdir(), name);
}

/** Runs `ip WORDS...`, with `lines` as its standard input. Returns what it printed. @throws NetworkError */
export function ip(words: readonly string[], lines: readonly string[] = []): string {
  const { status, stdout, stderr, error } = spawnSync("ip", words, {
    input: lines.map((line) => `${line}\n`).join(""),
    env: { ...process.env, PATH: PROGRAM_PATH },
    encoding: "utf8",
    timeout: 30_000,
  });
  if (status === 0) return stdout;
  const why = error?.message ?? `exit code ${status}`;
  const commands = lines.length === 0 ? "" : ` with\n${lines.join("\n")}\n`;
  throw new NetworkError(`ip ${words.join(" ")}${commands} failed (${why}): ${(stderr ?? "").trim()}. ${ADVICE}.`);
}

/** What a process in the namespace has as its `/proc/PID/ns/net`. */
export function namespaceLink(namespace: string): string {
  return `net:[${statSync(join(FOLDER, namespace)).ino}]`;
}

/** Kills what runs in the namespaces, and removes them. Those that are gone are no error. */
export async function removeNamespaces(namespaces: readonly string[]): Promise<void> {
  const present = namespaces.filter((namespace) => existsSync(join(FOLDER, namespace)));
  await killProcesses(present.map(namespaceLink));
  for (const namespace of present) {
    try {
      ip(["netns", "delete", namespace]);
    } catch (error) {
      // Another process may have removed the same.
      if (existsSync(join(FOLDER, namespace))) throw error;
    }
  }
}

/** Removes the namespaces, processes and files of networks whose owner died before it could. */
export async function removeStaleNetworks(): Promise<void> {
  await removeNamespaces(ofDeadOwners(FOLDER));
  for (const name of ofDeadOwners(tmpdir())) rmSync(folderOf(name), { recursive: true, force: true });
}

function ofDeadOwners(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => {
    const owner = OWNED.exec(name)?.[1];
    return owner !== undefined && !isAlive(owner);
  });
}

function isAlive(pid: string): boolean {
  try {
    readlinkSync(`/proc/${pid}/ns/net`);
    return true;
  } catch {
    return false;
  }
}
