import { COPY_DST, STORAGE, UNIFORM } from "../device/buffer-usage.ts";
import type { WgslDispatch, WgslOperandRange, WgslProgram, WgslScratchRange, WgslWords } from "../wgsl.ts";

/** Runs programs by plain calls of WebGPU, in buffers that are known by the names of an op's arguments. */
export class ProgramRunner {
  readonly #device: GPUDevice;
  readonly #pipelines = new Map<string, GPUComputePipeline>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Submits a program. */
  run(program: WgslProgram, buffers: Readonly<Record<string, GPUBuffer>>): void {
    const device = this.#device;
    const scratch = program.scratch.map((size) => device.createBuffer({ size, usage: STORAGE | COPY_DST }));
    const made = [...scratch];
    const rangeOf = (contents: WgslOperandRange | WgslScratchRange | WgslWords): GPUBufferBinding => {
      if (contents.kind === "words") {
        const buffer = device.createBuffer({ size: contents.words.byteLength, usage: STORAGE | UNIFORM | COPY_DST });
        device.queue.writeBuffer(buffer, 0, contents.words as Uint32Array<ArrayBuffer>);
        made.push(buffer);
        return { buffer };
      }
      const buffer = contents.kind === "scratch" ? scratch[contents.scratch] : buffers[contents.argument];
      if (buffer === undefined) throw new RangeError(`no buffer for ${JSON.stringify(contents)}`);
      return { buffer, offset: contents.offset, size: contents.size };
    };
    const encoder = device.createCommandEncoder();
    for (const step of program.steps) {
      if (step.kind === "copy") {
        const [from, to] = [rangeOf(step.from), rangeOf(step.to)];
        encoder.copyBufferToBuffer(from.buffer, from.offset ?? 0, to.buffer, to.offset ?? 0, step.from.size);
        continue;
      }
      const pipeline = this.#pipelineOf(step);
      const entries = step.bindings.map(({ binding, contents }) => ({ binding, resource: rangeOf(contents) }));
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
      pass.dispatchWorkgroups(...step.workgroups);
      pass.end();
    }
    device.queue.submit([encoder.finish()]);
    for (const buffer of made) buffer.destroy();
  }

  /** The layout is what the bindings' types say, not what the WGSL says. */
  #pipelineOf({ key, code, entryPoint, constants, bindings, features }: WgslDispatch): GPUComputePipeline {
    const known = this.#pipelines.get(key);
    if (known !== undefined) return known;
    const missing = features.filter((name) => !this.#device.features.has(name as GPUFeatureName));
    if (missing.length > 0) throw new RangeError(`the device lacks ${missing}`);
    const entries = bindings.map(({ binding, type }) => ({ binding, visibility: COMPUTE, buffer: { type } }));
    const layout = this.#device.createPipelineLayout({
      bindGroupLayouts: [this.#device.createBindGroupLayout({ entries })],
    });
    const module = this.#device.createShaderModule({ code });
    const made = this.#device.createComputePipeline({ layout, compute: { module, entryPoint, constants } });
    this.#pipelines.set(key, made);
    return made;
  }
}

/** GPUShaderStage.COMPUTE */
const COMPUTE = 0x4;
