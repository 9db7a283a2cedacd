/**
 * Dawn, WebGPU of native programs, as part of one that is compiled to one file.
 *
 * @module @lockstep/kernels/dawn
 */
import { RUNTIME } from "@lockstep/tensor";
import { type DawnModule, setDawn } from "./device/dawn.ts";

declare const process: { readonly platform: string; readonly arch: string };
declare function require(path: string): DawnModule;

/**
 * Has the `webgpu` backends that this thread opens from here on use the Dawn (npm package `webgpu`) that this module
 * imports by name, so that `bun build --compile` and `deno compile` take it into the program. Without it a backend
 * looks for the package when it is opened, in `node_modules`, which a compiled program lacks. Loads nothing before a
 * backend is opened. Not for Windows, where Dawn needs libraries beside it.
 *
 * A call, and no option of `openBackend`: ranks of a world open backends in workers to which no function can be sent,
 * so the module of a worker calls it; and no effect of the import alone, which bundlers may drop.
 */
export function linkDawn(): void {
  setDawn(RUNTIME === "bun" ? loadAddon : () => import("webgpu"));
}

/**
 * Bun's bundler embeds native addons that are required by a literal name, and only the one whose conditions hold on the
 * platform that it compiles for: it knows `process.platform` and `process.arch`.
 */
async function loadAddon(): Promise<DawnModule> {
  if (process.platform === "darwin") return require("webgpu/dist/darwin-universal/dawn.node");
  if (process.platform === "linux") {
    if (process.arch === "arm64") return require("webgpu/dist/linux-arm64/dawn.node");
    return require("webgpu/dist/linux-x64/dawn.node");
  }
  return import("webgpu");
}
