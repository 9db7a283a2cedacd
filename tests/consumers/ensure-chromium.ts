// Makes sure that Chromium is there for the page.
import { existsSync } from "node:fs";
import { runCommand } from "./run-command.ts";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const ADVICE = "Install Chromium (Debian and Ubuntu: `apt-get install chromium`), or set CHROMIUM to its path";

/**
 * Path of Chromium: of the variable CHROMIUM, or one that is installed. Installs it where it is missing, on Debian as
 * root.
 * @throws Error that says what to install, where it cannot
 */
export async function ensureChromium(): Promise<string> {
  const given = process.env.CHROMIUM;
  if (given !== undefined) {
    if (existsSync(given)) return given;
    throw new Error(`CHROMIUM names ${given}, which is not there`);
  }
  const found = PATHS.find((path) => existsSync(path));
  if (found !== undefined) return found;
  if (!existsSync("/etc/debian_version") || !existsSync("/usr/bin/apt-get") || process.getuid?.() !== 0) {
    throw new Error(`Chromium is missing, and this is no Debian with root to install it on. ${ADVICE}.`);
  }
  console.error("installing chromium for the page");
  const env = { ...(process.env as Record<string, string>), DEBIAN_FRONTEND: "noninteractive" };
  const options = { cwd: "/", env, deadlineMs: 600_000 };
  // Something else may be installing at the same time.
  const lock = ["-o", "DPkg::Lock::Timeout=300"];
  try {
    await runCommand(["apt-get", ...lock, "update", "-qq"], options);
    await runCommand(["apt-get", ...lock, "install", "-y", "-qq", "--no-install-recommends", "chromium"], options);
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${ADVICE}.`);
  }
  const installed = PATHS.find((path) => existsSync(path));
  if (installed === undefined)
    throw new Error(`chromium was installed, but none is in ${PATHS.join(", ")}. ${ADVICE}.`);
  return installed;
}
