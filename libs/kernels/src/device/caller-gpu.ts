// What callers hand over of WebGPU, by its shape: declarations of this package must compile where nobody has declared
// WebGPU's types. A `GPUDevice` and a `GPUBuffer` fit, of a browser, of Dawn or of another implementation.

/** A `GPUBuffer`. */
export interface CallerGpuBuffer {
  /** In bytes. */
  readonly size: number;
  /** Flags of `GPUBufferUsage`. */
  readonly usage: number;
  /** Gives its memory back. */
  destroy(): void;
}

/** A `GPUDevice`. */
export interface CallerGpuDevice {
  /** Names of what it can do beyond WebGPU's core. */
  readonly features: { has(name: string): boolean };
  /** How large things may be. */
  readonly limits: { readonly maxBufferSize: number; readonly maxStorageBufferBindingSize: number };
  /** Its only queue. */
  readonly queue: object;
  /**
   * Makes a buffer.
   * @param descriptor its size and usage
   */
  createBuffer(descriptor: never): CallerGpuBuffer;
}
