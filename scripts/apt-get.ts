// Installs Debian packages that tests need.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** What to install, and for what. */
export interface DebianPackages {
  readonly packages: readonly string[];
  /** What they are for: `software Vulkan`. */
  readonly purpose: string;
  /** How to install it without this script, as a sentence without its full stop. */
  readonly advice: string;
}

/**
 * Installs packages on Debian and its derivatives, as root.
 * @throws Error saying what to install, where it cannot install
 */
export function installPackages({ packages, purpose, advice }: DebianPackages): void {
  if (process.platform !== "linux" || !existsSync("/etc/debian_version") || !existsSync("/usr/bin/apt-get")) {
    throw new Error(`${purpose} is missing, and this is no Debian to install it on. ${advice}.`);
  }
  if (process.getuid?.() !== 0) {
    throw new Error(`${purpose} is missing, and installing it takes root. ${advice}.`);
  }
  console.error(`installing ${packages.join(", ")} for ${purpose}`);
  aptGet(["update", "-qq"], advice);
  aptGet(["install", "-y", "-qq", "--no-install-recommends", ...packages], advice);
}

/** Runs apt-get quietly and without questions; its output is shown only when it fails. */
function aptGet(commandLine: readonly string[], advice: string): void {
  // Something else may be installing at the same time.
  const lock = ["-o", "DPkg::Lock::Timeout=300"];
  const { status, stdout, stderr, error } = spawnSync("apt-get", [...lock, ...commandLine], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
    timeout: 600_000,
  });
  if (error !== undefined || status !== 0) {
    const output = `${stdout ?? ""}${stderr ?? ""}`.trim();
    throw new Error(
      `apt-get ${commandLine.join(" ")} failed (${error?.message ?? `exit code ${status}`}):\n${output}\n${advice}.`,
    );
  }
}
