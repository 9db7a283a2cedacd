import { SharedHeap, Tensor } from "@lockstep/tensor";
import type { KernelBackend } from "../backends/backend.ts";

// A worker that opens a device, uses it, and releases it when told to. Its handler is set before anything is imported.

interface WorkerScope {
  onmessage: ((event: MessageEvent<"open" | "close">) => void) | null;
  postMessage(message: unknown): void;
}

const scope = globalThis as unknown as WorkerScope;
let backend: KernelBackend | undefined;

async function open(): Promise<void> {
  const { openWebgpuBackend } = await import("../backends/webgpu-backend.ts");
  const heap = SharedHeap.create(1 << 16);
  const opened = await openWebgpuBackend({ heap, adapter: "software" });
  backend = opened;
  const x = Tensor.from(heap, "f32", [3, 2], [1, 2, 3, 4, 5, 6]);
  const out = Tensor.empty(heap, "f32", [1, 3, 2]);
  await opened.packSeq({ x, lengths: [3], out });
  scope.postMessage([...out.f32]);
}

scope.onmessage = (event) => {
  const done = event.data === "open" ? open() : backend?.close().then(() => scope.postMessage("closed"));
  done?.catch((error: unknown) => scope.postMessage(String(error)));
};
scope.postMessage("ready");
