import { COPY_DST, COPY_SRC, MAP_MODE_READ, MAP_READ, STORAGE } from "../device/buffer-usage.ts";

/** A buffer of a caller's, with these bytes in it. */
export function bufferOfBytes(device: GPUDevice, bytes: Uint8Array, usage = STORAGE | COPY_SRC | COPY_DST): GPUBuffer {
  const buffer = device.createBuffer({ size: Math.ceil(bytes.length / 4) * 4, usage: usage | COPY_DST });
  const words = new Uint8Array(buffer.size);
  words.set(bytes);
  device.queue.writeBuffer(buffer, 0, words);
  return buffer;
}

/** The bytes of a buffer, once all that was submitted has run. */
export async function bytesOfBuffer(device: GPUDevice, buffer: GPUBuffer): Promise<Uint8Array> {
  const readback = device.createBuffer({ size: buffer.size, usage: MAP_READ | COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, readback, 0, buffer.size);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(MAP_MODE_READ);
  const bytes = new Uint8Array(readback.getMappedRange().slice(0));
  readback.destroy();
  return bytes;
}
