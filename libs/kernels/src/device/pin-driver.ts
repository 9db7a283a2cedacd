import { builtinModule, platformName, RUNTIME } from "@lockstep/tensor";

const RTLD_LAZY = 1;
const RTLD_NOLOAD = 4;
const RTLD_NODELETE = 0x1000;
/** The Vulkan loader, its layers and the driver's libraries. */
const DRIVER_LIBRARY = /(vulkan|nvidia|VkLayer|libGLX|mesa|radeon|intel)/i;

interface DynamicLinker {
  dlopen(
    library: string,
    symbols: { dlopen: { args: readonly ["cstring", "i32"]; returns: "ptr" } },
  ): { symbols: { dlopen(path: Uint8Array, flags: number): number | null } };
}

/**
 * Keeps a hardware driver's libraries mapped until the process ends. The Vulkan loader unloads them with the last
 * instance, but threads that used them may end later and then run the driver's thread-exit code: unmapped by that time,
 * which kills the process. Bun on Linux only; elsewhere nothing is done.
 */
export function pinDriverLibraries(): void {
  if (platformName() !== "linux" || RUNTIME !== "bun") return;
  const ffi = builtinModule<DynamicLinker>("bun:ffi");
  const files = builtinModule<typeof import("node:fs")>("node:fs");
  if (ffi === undefined || files === undefined) return;
  const { dlopen } = ffi.dlopen("libc.so.6", { dlopen: { args: ["cstring", "i32"], returns: "ptr" } }).symbols;
  const mapped = files
    .readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .map((line) => line.slice(line.indexOf("/")))
    .filter((path) => path.includes(".so") && DRIVER_LIBRARY.test(path));
  for (const path of new Set(mapped)) {
    dlopen(new TextEncoder().encode(`${path}\0`), RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  }
}
