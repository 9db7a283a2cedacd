import { builtinModule, platformName } from "@lockstep/tensor";
import { BackendUnavailable } from "../errors.ts";
import { setCEnvironment } from "./c-environment.ts";
import { processEnvironment } from "./process-environment.ts";
import { findSwiftShader, SOFTWARE_VULKAN_ADVICE } from "./swiftshader.ts";

/** Variables that replace the Vulkan loader's own search for drivers, the newer name first. */
const REPLACING = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
const ADDING = "VK_ADD_DRIVER_FILES";

/** Manifests that the Vulkan loader finds by itself, of drivers (`icd.d`) or of layers: file names. */
export function vulkanManifests(kind: "icd.d" | "implicit_layer.d"): string[] {
  const files = builtinModule<typeof import("node:fs")>("node:fs");
  if (files === undefined) return [];
  return manifestFolders(kind).flatMap((folder) => {
    try {
      return files.readdirSync(folder).filter((file) => file.endsWith(".json"));
    } catch {
      return [];
    }
  });
}

function manifestFolders(kind: string): string[] {
  const variables = processEnvironment();
  const listed = (name: string, otherwise: string): string[] => (variables[name] ?? otherwise).split(":");
  const home = builtinModule<typeof import("node:os")>("node:os")?.homedir() ?? "";
  return [
    variables.XDG_CONFIG_HOME ?? `${home}/.config`,
    ...listed("XDG_CONFIG_DIRS", "/etc/xdg"),
    "/etc",
    "/usr/local/etc",
    variables.XDG_DATA_HOME ?? `${home}/.local/share`,
    ...listed("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
    "/usr/local/share",
    "/usr/share",
    "/run/opengl-driver/share",
  ].map((folder) => `${folder}/vulkan/${kind}`);
}

/**
 * False when no Vulkan driver is installed, so that asking Dawn for an adapter (which then prints warnings of its own)
 * is pointless. Always true on systems whose GPU API is not Vulkan.
 */
export function mayHaveVulkanDriver(): boolean {
  if (platformName() !== "linux") return true;
  const variables = processEnvironment();
  if ([...REPLACING, ADDING].some((name) => (variables[name] ?? "") !== "")) return true;
  return vulkanManifests("icd.d").length > 0;
}

/**
 * Lets the Vulkan loader find SwiftShader, beside the drivers it finds anyway. Takes effect in instances that are
 * created afterwards, in every thread of the process; hardware stays what an adapter request prefers. Throws
 * BackendUnavailable when SwiftShader is not installed.
 */
export function addSoftwareVulkan(): void {
  const variables = processEnvironment();
  const files = builtinModule<typeof import("node:fs")>("node:fs");
  const manifest = findSwiftShader({
    exists: (path) => files?.existsSync(path) === true,
    chosen: variables.LOCKSTEP_SWIFTSHADER_ICD,
  });
  if (manifest === undefined) {
    throw new BackendUnavailable("webgpu", "software Vulkan is not installed", `${SOFTWARE_VULKAN_ADVICE}.`);
  }
  const replaced = REPLACING.filter((name) => (variables[name] ?? "") !== "");
  for (const name of replaced) {
    const files = (variables[name] ?? "").split(":");
    if (!files.includes(manifest)) setCEnvironment(name, [...files, manifest].join(":"));
  }
  if (replaced.length === 0) {
    setCEnvironment(ADDING, manifest);
    // Loaders before 1.3.234 know only the variables that replace; with no other driver nothing is lost by them.
    if (!mayHaveVulkanDriver()) for (const name of REPLACING) setCEnvironment(name, manifest);
  }
}

/** Vulkan layers that look for a display print errors when XDG_RUNTIME_DIR is unset: gives it a value on Linux. */
export function setRuntimeFolder(): void {
  if (platformName() !== "linux" || (processEnvironment().XDG_RUNTIME_DIR ?? "") !== "") return;
  const folder = builtinModule<typeof import("node:os")>("node:os")?.tmpdir();
  if (folder !== undefined) setCEnvironment("XDG_RUNTIME_DIR", folder);
}
