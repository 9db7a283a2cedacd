/** A WebGPU that adapters are asked of, and what lets go of it. */
export interface GpuInstance {
  readonly gpu: GPU;
  /** To be called once, after every device made from it was destroyed. */
  release(): Promise<void>;
}
