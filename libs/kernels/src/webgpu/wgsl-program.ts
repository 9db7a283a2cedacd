// What runs an op on a GPU, in WebGPU's terms. Declared apart from what makes it: these declarations are public.

/** A range of the buffer that an operand lies in. */
export interface WgslOperandRange {
  /** Marks what this is. */
  readonly kind: "operand";
  /** Name of an argument whose buffer it is: `partialOut`, `outs[1]`. Arguments in one buffer share it. */
  readonly argument: string;
  /** From the start of the buffer, in bytes, a multiple of 256 for bindings. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
}

/** A range of a scratch buffer. */
export interface WgslScratchRange {
  /** Marks what this is. */
  readonly kind: "scratch";
  /** Index within {@link WgslProgram.scratch}. */
  readonly scratch: number;
  /** From the start of the buffer, in bytes. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
}

/** A word of a kernel's parameters. */
export interface WgslField {
  /** As in the WGSL's struct `Params`, in camel case; of a struct within it both names. */
  readonly name: string;
  /** The WGSL type. */
  readonly type: "u32" | "i32" | "f32";
  /** From the start of the struct, in bytes. */
  readonly offset: number;
}

/** Words that a kernel reads, computed from the arguments: to be written to a buffer of their size. */
export interface WgslWords {
  /** Marks what this is. */
  readonly kind: "words";
  /** What to write. Floats stand as their bits. */
  readonly words: Uint32Array;
  /** What the words are, of parameters; undefined of lists (slots, lengths, block tables), which the WGSL describes. */
  readonly fields: readonly WgslField[] | undefined;
}

/** A binding of a kernel. */
export interface WgslBinding {
  /** Of `@group`. */
  readonly group: 0;
  /** Of `@binding`. */
  readonly binding: number;
  /** The variable in the WGSL. */
  readonly name: string;
  /** As in WebGPU's `GPUBufferBindingType`. */
  readonly type: "uniform" | "read-only-storage" | "storage";
  /** What is bound. */
  readonly contents: WgslOperandRange | WgslScratchRange | WgslWords;
}

/** A dispatch of a kernel. */
export interface WgslDispatch {
  /** Marks what this is. */
  readonly kind: "dispatch";
  /** Names the kernel and everything that `code` is specialised for: equal keys have equal code. */
  readonly key: string;
  /** The WGSL. */
  readonly code: string;
  /** Name of the compute function. */
  readonly entryPoint: string;
  /** Values of the WGSL's `override` constants. */
  readonly constants: Readonly<Record<string, number>>;
  /** Features of the device that the WGSL enables, as WebGPU names them. */
  readonly features: readonly string[];
  /** Threads of a workgroup, in x. */
  readonly workgroupSize: number;
  /** Everything that is bound, in order. */
  readonly bindings: readonly WgslBinding[];
  /** For `dispatchWorkgroups`. */
  readonly workgroups: readonly [x: number, y: number, z: number];
}

/** A copy from one buffer to another, where one dispatch could not bind what it reads and what it writes. */
export interface WgslCopy {
  /** Marks what this is. */
  readonly kind: "copy";
  /** Where the bytes come from. */
  readonly from: WgslOperandRange;
  /** Where they go to. */
  readonly to: WgslScratchRange;
}

/** What runs an op. */
export interface WgslProgram {
  /** To be done in order, each seeing what those before it wrote. */
  readonly steps: readonly (WgslDispatch | WgslCopy)[];
  /** Bytes of the buffers (STORAGE, COPY_DST) that hold what goes from step to step. They need not be zero. */
  readonly scratch: readonly number[];
}
