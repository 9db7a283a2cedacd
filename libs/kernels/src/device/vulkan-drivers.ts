import { readdirSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { BackendUnavailable } from "../errors.ts";
import { setCEnvironment } from "./c-environment.ts";
import { findSwiftShader, SOFTWARE_VULKAN_ADVICE } from "./swiftshader.ts";

/** Variables that replace the Vulkan loader's own search for drivers, the newer name first. */
const REPLACING = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
const ADDING = "VK_ADD_DRIVER_FILES";

/** Manifests that the Vulkan loader finds by itself, of drivers (`icd.d`) or of layers: file names. */
export function vulkanManifests(kind: "icd.d" | "implicit_layer.d"): string[] {
  return manifestFolders(kind).flatMap((folder) => {
    try {
      return readdirSync(folder).filter((file) => file.endsWith(".json"));
    } catch {
      return [];
    }
  });
}

function manifestFolders(kind: string): string[] {
  const listed = (name: string, otherwise: string): string[] => (process.env[name] ?? otherwise).split(":");
  const home = homedir();
  return [
    process.env.XDG_CONFIG_HOME ?? join(home, ".config"),
    ...listed("XDG_CONFIG_DIRS", "/etc/xdg"),
    "/etc",
    "/usr/local/etc",
    process.env.XDG_DATA_HOME ?? join(home, ".local/share"),
    ...listed("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
    "/usr/local/share",
    "/usr/share",
    "/run/opengl-driver/share",
  ].map((folder) => join(folder, "vulkan", kind));
}

/**
 * False when no Vulkan driver is installed, so that asking Dawn for an adapter (which then prints warnings of its own)
 * is pointless. Always true on systems whose GPU API is not Vulkan.
 */
export function mayHaveVulkanDriver(): boolean {
  if (process.platform !== "linux") return true;
  if ([...REPLACING, ADDING].some((name) => (process.env[name] ?? "") !== "")) return true;
  return vulkanManifests("icd.d").length > 0;
}

/**
 * Lets the Vulkan loader find SwiftShader, beside the drivers it finds anyway. Takes effect in instances that are
 * created afterwards, in every thread of the process; hardware stays what an adapter request prefers. Throws
 * BackendUnavailable when SwiftShader is not installed.
 */
export function addSoftwareVulkan(): void {
  const manifest = findSwiftShader();
  if (manifest === undefined) {
    throw new BackendUnavailable("webgpu", "software Vulkan is not installed", `${SOFTWARE_VULKAN_ADVICE}.`);
  }
  const replaced = REPLACING.filter((name) => (process.env[name] ?? "") !== "");
  for (const name of replaced) {
    const files = (process.env[name] ?? "").split(":");
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
  if (process.platform !== "linux" || (process.env.XDG_RUNTIME_DIR ?? "") !== "") return;
  setCEnvironment("XDG_RUNTIME_DIR", tmpdir());
}
