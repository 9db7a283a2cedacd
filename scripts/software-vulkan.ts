// Makes sure that software Vulkan (SwiftShader) is there for the tests of the `webgpu` backend.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import {
  findSwiftShader,
  hasVulkanLoader,
  type Machine,
  SOFTWARE_VULKAN_ADVICE,
} from "../libs/kernels/src/device/swiftshader.ts";

const PACKAGES = ["chromium-common", "libvulkan1"];

/**
 * Installs SwiftShader and the Vulkan loader where they are missing, on Debian and its derivatives as root. Does
 * nothing where they are present. Throws, saying what to install, where it cannot install them.
 */
export function ensureSoftwareVulkan(): void {
  if (isPresent()) return;
  if (process.platform !== "linux" || !existsSync("/etc/debian_version") || !existsSync("/usr/bin/apt-get")) {
    throw new Error(`software Vulkan is missing, and this is no Debian to install it on. ${SOFTWARE_VULKAN_ADVICE}.`);
  }
  if (process.getuid?.() !== 0) {
    throw new Error(`software Vulkan is missing, and installing it takes root. ${SOFTWARE_VULKAN_ADVICE}.`);
  }
  console.error(`installing ${PACKAGES.join(" and ")} for software Vulkan`);
  aptGet(["update", "-qq"]);
  aptGet(["install", "-y", "-qq", "--no-install-recommends", ...PACKAGES]);
  if (!isPresent()) {
    throw new Error(`${PACKAGES.join(" and ")} were installed, but hold no SwiftShader. ${SOFTWARE_VULKAN_ADVICE}.`);
  }
}

function isPresent(): boolean {
  const machine: Machine = { exists: existsSync, chosen: process.env.LOCKSTEP_SWIFTSHADER_ICD };
  return findSwiftShader(machine) !== undefined && hasVulkanLoader(machine);
}

/** Runs apt-get quietly and without questions; its output is shown only when it fails. */
function aptGet(commandLine: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync("apt-get", commandLine, {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
    timeout: 600_000,
  });
  if (error !== undefined || status !== 0) {
    const output = `${stdout ?? ""}${stderr ?? ""}`.trim();
    throw new Error(
      `apt-get ${commandLine.join(" ")} failed (${error?.message ?? `exit code ${status}`}):\n${output}\n` +
        `${SOFTWARE_VULKAN_ADVICE}.`,
    );
  }
}

if (import.meta.main) ensureSoftwareVulkan();
