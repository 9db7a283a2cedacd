import { BackendUnavailable } from "../errors.ts";
import type { GpuInstance } from "./gpu-instance.ts";

/**
 * Dawn's WebGPU: the npm package `webgpu`, or its native addon, which loads in Bun, Deno and Node. Deno's built-in
 * WebGPU is not used: it takes 10 ms to map a buffer.
 */
export interface DawnModule {
  /** Makes an instance with Dawn's own options, such as `enable-dawn-features=...`. */
  create(options: string[]): GPU;
}

/** Instances must stay reachable as long as any device lives: collecting one earlier kills the process. */
const living = new Set<GPU>();

/** What {@link openDawn} loads. */
let load: () => Promise<DawnModule> = importPackage;

/** Has {@link openDawn} load another Dawn than the package `webgpu` that is found when it is called. */
export function setDawn(loader: () => Promise<DawnModule>): void {
  load = loader;
}

/** Loads Dawn and makes an instance with Dawn's own options. @throws BackendUnavailable */
export async function openDawn(options: string[] = []): Promise<GpuInstance> {
  const { create } = await loadDawn();
  const gpu = create(options);
  living.add(gpu);
  return {
    gpu,
    release: async () => {
      living.delete(gpu);
      await eventLoopTurns(3);
    },
  };
}

/** An optional package: bundlers must neither look for it nor take it in. */
async function importPackage(): Promise<DawnModule> {
  const name = "webgpu";
  return import(/* @vite-ignore */ /* webpackIgnore: true */ name);
}

async function loadDawn(): Promise<DawnModule> {
  try {
    return await load();
  } catch (error) {
    throw unavailable(error);
  }
}

function unavailable(error: unknown): BackendUnavailable {
  const [message = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  const { code } = (error ?? {}) as { readonly code?: unknown };
  if (code === "ERR_MODULE_NOT_FOUND" && !message.includes("dawn.node")) {
    return new BackendUnavailable(
      "webgpu",
      "the npm package webgpu, which has Dawn in it, is not installed",
      "Install it (bun add webgpu, npm install webgpu or deno add npm:webgpu), or use the wasm backend. A program " +
        "that is compiled to one file calls linkDawn() of @lockstep/kernels/dawn.",
    );
  }
  return new BackendUnavailable(
    "webgpu",
    `the npm package webgpu does not load (${message})`,
    "It needs Linux with glibc 2.36 or newer (Debian 12), macOS or Windows, on x64 or arm64, and in Deno the " +
      "permissions to read and to load native libraries (-A).",
  );
}

/** Lets callbacks that a native library has queued run: a worker ended before they did would abort the process. */
export async function eventLoopTurns(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
}
