// Makes sure that software Vulkan (SwiftShader) is there for the tests of the `webgpu` backend.
import { existsSync } from "node:fs";
import {
  findSwiftShader,
  hasVulkanLoader,
  type Machine,
  SOFTWARE_VULKAN_ADVICE,
} from "../libs/kernels/src/device/swiftshader.ts";
import { installPackages } from "./apt-get.ts";

const PACKAGES = ["chromium-common", "libvulkan1"];

/**
 * Installs SwiftShader and the Vulkan loader where they are missing, on Debian and its derivatives as root. Does
 * nothing where they are present. Throws, saying what to install, where it cannot install them.
 */
export function ensureSoftwareVulkan(): void {
  if (isPresent()) return;
  installPackages({ packages: PACKAGES, purpose: "software Vulkan", advice: SOFTWARE_VULKAN_ADVICE });
  if (!isPresent()) {
    throw new Error(`${PACKAGES.join(" and ")} were installed, but hold no SwiftShader. ${SOFTWARE_VULKAN_ADVICE}.`);
  }
}

function isPresent(): boolean {
  const machine: Machine = { exists: existsSync, chosen: process.env.LOCKSTEP_SWIFTSHADER_ICD };
  return findSwiftShader(machine) !== undefined && hasVulkanLoader(machine);
}

if (import.meta.main) ensureSoftwareVulkan();
