import type { CompiledKernel } from "./compiled-kernel.ts";

/** A range of a buffer. */
export interface BoundRange {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

const MOST_BIND_GROUPS = 1024;

/** Bind groups by kernel and bound ranges, so that a step that repeats makes none. */
export class BindGroupCache {
  readonly #device: GPUDevice;
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 1;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** The bind group for these ranges, if it was made before. */
  find(kernel: CompiledKernel, ranges: readonly BoundRange[]): GPUBindGroup | undefined {
    return this.#groups.get(this.#key(kernel, ranges));
  }

  make(kernel: CompiledKernel, ranges: readonly BoundRange[]): GPUBindGroup {
    if (this.#groups.size >= MOST_BIND_GROUPS) this.#groups.clear();
    const entries = ranges.map((resource, binding) => ({ binding, resource }));
    const group = this.#device.createBindGroup({ layout: kernel.layout, entries });
    this.#groups.set(this.#key(kernel, ranges), group);
    return group;
  }

  clear(): void {
    this.#groups.clear();
  }

  #key(kernel: CompiledKernel, ranges: readonly BoundRange[]): string {
    let key = `${kernel.id}`;
    for (const { buffer, offset, size } of ranges) key += `|${this.#bufferId(buffer)}:${offset}:${size}`;
    return key;
  }

  #bufferId(buffer: GPUBuffer): number {
    const known = this.#bufferIds.get(buffer);
    if (known !== undefined) return known;
    this.#bufferIds.set(buffer, this.#nextBufferId);
    return this.#nextBufferId++;
  }
}
