import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { GpuDevice } from "../../libs/kernels/src/device/gpu-device.ts";
import {
  COPY_DST,
  COPY_SRC,
  MAP_MODE_READ,
  MAP_MODE_WRITE,
  MAP_READ,
  MAP_WRITE,
} from "../../libs/kernels/src/device/buffer-usage.ts";
import { STAGED_BYTES } from "../../libs/kernels/src/webgpu/submitter.ts";

/**
 * Median seconds of nothing but the transfers of a step: `up` bytes from the heap to the GPU, then `down` bytes from it
 * into the heap, one submission and one map. Many bytes go up by a buffer that is mapped anew while the others come
 * down.
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
  const usage = MAP_WRITE | COPY_SRC;
  const staging = device.createBuffer({ size: Math.ceil(up / 4) * 4, usage, mappedAtCreation: true });
  let mapped: Promise<unknown> = Promise.resolve();
  const times: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      const started = performance.now();
      const encoder = device.createCommandEncoder();
      const isStaged = up >= STAGED_BYTES;
      // Dawn takes views of shared memory, though the types do not say so.
      if (!isStaged) device.queue.writeBuffer(upload, 0, bytes as Uint8Array as Uint8Array<ArrayBuffer>);
      else {
        await mapped;
        new Uint8Array(staging.getMappedRange()).set(bytes);
        staging.unmap();
        encoder.copyBufferToBuffer(staging, 0, upload, 0, up);
      }
      encoder.copyBufferToBuffer(result, 0, readback, 0, down);
      device.queue.submit([encoder.finish()]);
      if (isStaged) mapped = staging.mapAsync(MAP_MODE_WRITE);
      await readback.mapAsync(MAP_MODE_READ, 0, down);
      target.bytes.set(new Uint8Array(readback.getMappedRange(0, down)));
      readback.unmap();
      times.push(performance.now() - started);
    }
    await mapped;
  } finally {
    for (const buffer of [upload, staging, result, readback]) buffer.destroy();
    source.free();
    target.free();
  }
  return (times.toSorted((a, b) => a - b)[rounds >> 1] ?? Number.NaN) / 1e3;
}
