import { COPY_DST, COPY_SRC, MAP_READ, STORAGE } from "./buffer-usage.ts";
import { SUBGROUP_WIDTH_WGSL } from "./subgroup-width.wgsl.ts";

const THREADS = 128;
const WIDEST = 32;

/**
 * How many consecutive threads of a workgroup are sure to lie in one subgroup, or 0 when subgroup operations cannot be
 * used. WebGPU promises neither a subgroup size nor that consecutive threads share a subgroup, so a small kernel looks.
 */
export async function subgroupWidth(device: GPUDevice): Promise<number> {
  if (!device.features.has("subgroups")) return 0;
  const smallest = (device.adapterInfo as GPUAdapterInfo | undefined)?.subgroupMinSize ?? 0;
  if (smallest < 2) return 0;
  const width = Math.min(WIDEST, 2 ** Math.floor(Math.log2(smallest)));
  const places = await placesInSubgroups(device);
  if (places === undefined) return 0;
  for (let thread = 0; thread < THREADS; thread++) {
    const place = places[2 * thread] ?? 0;
    const size = places[2 * thread + 1] ?? 0;
    if (size < width || size % width !== 0 || place !== thread % size) return 0;
  }
  return width;
}

/** Runs the kernel; undefined when the device rejects it (some know the feature, but not the WGSL directive). */
async function placesInSubgroups(device: GPUDevice): Promise<Uint32Array | undefined> {
  const bytes = THREADS * 8;
  const places = device.createBuffer({ size: bytes, usage: STORAGE | COPY_SRC });
  const readback = device.createBuffer({ size: bytes, usage: MAP_READ | COPY_DST });
  try {
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code: SUBGROUP_WIDTH_WGSL });
    const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
    if ((await device.popErrorScope()) !== null) return undefined;
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: places } }],
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(places, 0, readback, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await readback.mapAsync(1);
    const result = new Uint32Array(readback.getMappedRange().slice(0));
    readback.unmap();
    return result;
  } finally {
    places.destroy();
    readback.destroy();
  }
}
