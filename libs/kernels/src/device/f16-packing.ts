import { COPY_DST, COPY_SRC, MAP_MODE_READ, MAP_READ, STORAGE } from "./buffer-usage.ts";
import { FLOAT_FORMATS_WGSL } from "./float-formats.wgsl.ts";
import { F16_PACKING_WGSL } from "./f16-packing.wgsl.ts";

/** The kernel. Exported for its test. */
export const PACKING_SOURCE = `${FLOAT_FORMATS_WGSL}\n${F16_PACKING_WGSL}`;
const FINITE_HALVES = 0x7c00;
const THREADS = 256;

/**
 * True when pack2x16float rounds to the nearest f16, ties to even, subnormals and overflow included. WGSL promises none
 * of this; where it holds it takes one instruction instead of about thirty. A small kernel tries every f16.
 */
export async function packsHalvesExactly(device: GPUDevice, source = PACKING_SOURCE): Promise<boolean> {
  const differing = device.createBuffer({ size: 4, usage: STORAGE | COPY_SRC });
  const readback = device.createBuffer({ size: 4, usage: MAP_READ | COPY_DST });
  try {
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code: source });
    const pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module, entryPoint: "count_differing" },
    });
    if ((await device.popErrorScope()) !== null) return false;
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: differing } }],
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(Math.ceil(FINITE_HALVES / THREADS));
    pass.end();
    encoder.copyBufferToBuffer(differing, 0, readback, 0, 4);
    device.queue.submit([encoder.finish()]);
    await readback.mapAsync(MAP_MODE_READ);
    const [count = 1] = new Uint32Array(readback.getMappedRange());
    readback.unmap();
    return count === 0;
  } finally {
    differing.destroy();
    readback.destroy();
  }
}
