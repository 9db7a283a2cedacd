import { BackendUnavailable } from "../errors.ts";

/**
 * Dawn's WebGPU, from the npm package `webgpu`: a Node-API library that loads in Bun, Deno and Node. Deno's built-in
 * WebGPU is not used: it takes 10 ms to map a buffer.
 */
export interface DawnInstance {
  readonly gpu: GPU;
  /** Lets go of the instance. To be called once, after every device made from it was destroyed. */
  release(): Promise<void>;
}

/** Instances must stay reachable as long as any device lives: collecting one earlier kills the process. */
const living = new Set<GPU>();

/** Loads Dawn and makes an instance with Dawn's own options, such as `enable-dawn-features=...`. */
export async function openDawn(options: string[] = []): Promise<DawnInstance> {
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

async function loadDawn(): Promise<typeof import("webgpu")> {
  try {
    return await import("webgpu");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new BackendUnavailable(
      "webgpu",
      `the npm package webgpu does not load (${reason.split("\n")[0]})`,
      "It needs Linux with glibc 2.36 or newer (Debian 12), macOS or Windows, on x64 or arm64, and in Deno the " +
        "permissions to read and to load native libraries (-A).",
    );
  }
}

/** Lets callbacks that a native library has queued run: a worker ended before they did would abort the process. */
export async function eventLoopTurns(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
}
