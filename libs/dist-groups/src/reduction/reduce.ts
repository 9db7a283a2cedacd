import { readFile } from "node:fs/promises";
import { LockstepError, registerErrorClass } from "@lockstep/tensor";
import { printedValue } from "../errors/printed-value.ts";

/** The exports of `reduce.as.ts`: see there for the operand table and the numerical contract. */
export interface ReduceKernels {
  /** Copies `bytes` bytes between byte addresses. */
  move(target: number, source: number, bytes: number): void;
  /** Copies operand 1 to operand 0 of the table at byte address `table`. */
  copy(table: number, dims: number, elementBytes: number): void;
  /** Folds operands 1 to `sources` into operand 0, from left to right. */
  fold(table: number, dims: number, sources: number, dtype: number, reduction: number): void;
}

/** The compiled kernels are missing, or cannot be read; then the cause says why. */
export class KernelsNotBuilt extends LockstepError {
  static {
    registerErrorClass("KernelsNotBuilt", KernelsNotBuilt);
  }

  readonly _tag = "KernelsNotBuilt";

  constructor(path: string, cause: unknown) {
    const isMissing = cause instanceof Error && Reflect.get(cause, "code") === "ENOENT";
    const advice = isMissing ? "Build them with `bun run build:wasm`." : `${printedValue(cause)}.`;
    super(`cannot read the compiled reduction kernels at ${path}. ${advice}`, { cause });
  }
}

let compiled: Promise<WebAssembly.Module> | undefined;

/** The compiled module, shared by every world of the process. */
export function compileReduceKernels(): Promise<WebAssembly.Module> {
  compiled ??= (async () => {
    const url = new URL("../../build/reduce.wasm", import.meta.url);
    const bytes = await readFile(url).catch((cause: unknown) => {
      throw new KernelsNotBuilt(url.pathname, cause);
    });
    return WebAssembly.compile(bytes);
  })();
  compiled.catch(() => {
    compiled = undefined;
  });
  return compiled;
}

/** The kernels over a shared memory. */
export function instantiateReduceKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): ReduceKernels {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as ReduceKernels;
}
