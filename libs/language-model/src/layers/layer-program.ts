import { type SharedHeap, Tensor } from "@lockstep/tensor";

/** Layers that can be recorded, in the order of their numbers in layer-program.as.ts. */
export const OPERATIONS = [
  "linearF32",
  "linearBf16",
  "linearF16",
  "linearFiniteF16",
  "linearInt8",
  "quantiseInputs",
  "rmsNorm",
  "rotate",
  "swiGlu",
  "addInto",
  "embedF32",
  "embedBf16",
  "embedF16",
  "embedInt8",
  "rotations",
] as const;

export type RecordableLayer = (typeof OPERATIONS)[number];

/** Words of a layer: its number and its arguments, as in layer-program.as.ts. */
const WORDS = 10;
/** The argument that is an f32 and no integer. */
const EPSILON = { layer: "rmsNorm", argument: 5 } as const;

/** Runs `count` layers from a byte offset on. */
export type RunProgram = (at: number, count: number) => void;

/**
 * Layers that run one after another in one call, as `Layers.record` takes them down: their operands were checked then,
 * and have to stay where they are. Freed by `free`.
 */
export class LayerProgram implements Disposable {
  /** The layers by name, in order. */
  readonly operations: readonly RecordableLayer[];
  readonly #run: RunProgram;
  readonly #memory: Tensor;
  readonly #at: number;

  /** @throws HeapExhausted */
  constructor(run: RunProgram, heap: SharedHeap, recorded: readonly RecordedLayer[]) {
    this.operations = recorded.map(({ name }) => name);
    this.#run = run;
    this.#memory = Tensor.zeros(heap, "i32", [Math.max(1, recorded.length * WORDS)]);
    this.#at = this.#memory.byteOffset;
    const words = this.#memory.i32;
    const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
    for (const [index, { name, args }] of recorded.entries()) {
      const first = index * WORDS;
      words[first] = OPERATIONS.indexOf(name);
      words.set(args, first + 1);
      if (name === EPSILON.layer) floats[first + 1 + EPSILON.argument] = args[EPSILON.argument] ?? 0;
    }
  }

  /** Runs all of them. */
  run(): void {
    this.#run(this.#at, this.operations.length);
  }

  /** Runs one of them, by its place among `operations`. */
  runOne(index: number): void {
    this.#run(this.#at + 4 * WORDS * index, 1);
  }

  /** Gives its memory back. Idempotent. */
  free(): void {
    if (!this.#memory.isFreed) this.#memory.free();
  }

  /** As `free`. */
  [Symbol.dispose](): void {
    this.free();
  }
}

/** A layer and its arguments. */
export interface RecordedLayer {
  readonly name: RecordableLayer;
  readonly args: readonly number[];
}

/** Functions by the layers' names that take down their calls in `recorded` and compute nothing. */
export function recorderOf(
  recorded: RecordedLayer[],
): Readonly<Record<RecordableLayer, (...args: readonly number[]) => void>> {
  const record =
    (name: RecordableLayer) =>
    (...args: readonly number[]) => {
      recorded.push({ name, args });
    };
  return Object.fromEntries(OPERATIONS.map((name) => [name, record(name)])) as Record<
    RecordableLayer,
    (...args: readonly number[]) => void
  >;
}
