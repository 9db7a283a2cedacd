import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { GpuDevice } from "../../libs/kernels/src/device/gpu-device.ts";
import { COPY_DST, COPY_SRC, MAP_MODE_READ, MAP_READ } from "../../libs/kernels/src/webgpu/buffer-usage.ts";

/**
 * Median seconds of nothing but the transfers of a step: `up` bytes from the heap to the GPU, then `down` bytes from it into the
 * heap, one submission and one map.
 */
export async function transferSeconds(
  gpu: GpuDevice,
  heap: SharedHeap,
  up: number,
  down: number,
  rounds: number,
): Promise<number> {
  const { device } = gpu;
  const [source, target] = [Tensor.zeros(heap, "u8", [up]), Tensor.zeros(heap, "u8", [down])];
  const upload = device.createBuffer({ size: up, usage: COPY_DST });
  const result = device.createBuffer({ size: down, usage: COPY_SRC | COPY_DST });
  const readback = device.createBuffer({ size: down, usage: MAP_READ | COPY_DST });
  const bytes = new Uint8Array(heap.buffer, source.byteOffset, up);
  const times: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      const started = performance.now();
      // Dawn takes views of shared memory, though the types do not say so.
      device.queue.writeBuffer(upload, 0, bytes as Uint8Array as Uint8Array<ArrayBuffer>);
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(result, 0, readback, 0, down);
      device.queue.submit([encoder.finish()]);
      await readback.mapAsync(MAP_MODE_READ, 0, down);
      target.bytes.set(new Uint8Array(readback.getMappedRange(0, down)));
      readback.unmap();
      times.push(performance.now() - started);
    }
  } finally {
    for (const buffer of [upload, result, readback]) buffer.destroy();
    source.free();
    target.free();
  }
  return (times.toSorted((a, b) => a - b)[rounds >> 1] ?? Number.NaN) / 1e3;
}
