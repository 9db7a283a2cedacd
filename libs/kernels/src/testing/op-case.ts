import { describe, expect, test } from "bun:test";
import { Arena, type SharedHeap, type Tensor } from "@lockstep/tensor";
import type { Completion, KernelBackend } from "../backends/backend.ts";
import { copyRaw } from "../reference/raw-elements.ts";
import { expectClose, expectSameBits, type Tolerance } from "./close.ts";

/** One row of an op's case table. */
export interface OpCase<Args> {
  readonly name: string;
  /** The arguments, outputs filled with poison. The same bytes on every call with a fresh arena. */
  readonly build: (arena: Arena) => Args;
  /** "bits": the outputs must agree bit for bit. */
  readonly tolerance: Tolerance | "bits";
}

const CASE_BYTES = 12 << 20;
/** Compiling a pipeline on software Vulkan may take seconds on a busy machine. */
export const TEST_TIMEOUT_MS = 120_000;

/** An op as its case table sees it. */
export interface CheckedOp<Args> {
  readonly name: string;
  readonly cases: readonly OpCase<Args>[];
  /** What the op writes. */
  readonly outputs: (args: Args) => readonly (readonly [name: string, tensor: Tensor])[];
  readonly reference: (args: Args) => void;
  readonly run: (backend: KernelBackend, args: Args) => Completion;
}

/** Declares a test of every backend for every row of an op's case table. */
export function testCases<Args>(heap: SharedHeap, backends: readonly KernelBackend[], op: CheckedOp<Args>): void {
  for (const backend of backends) {
    describe(`${op.name} on ${backend.name}`, () => {
      for (const item of op.cases) test(item.name, () => checkCase(heap, op, item, backend), TEST_TIMEOUT_MS);
    });
  }
}

/**
 * Runs a case by the reference and by `backend`, each over its own copy of the arguments, and compares the outputs.
 * Whatever is no output (inputs, gaps of strided outputs, memory around them) must be left byte for byte as it was.
 */
export async function checkCase<Args>(
  heap: SharedHeap,
  op: CheckedOp<Args>,
  item: OpCase<Args>,
  backend: KernelBackend,
): Promise<void> {
  const arenas = [new Arena(heap, CASE_BYTES), new Arena(heap, CASE_BYTES)] as const;
  try {
    const [expectedBytes, actualBytes] = arenas.map((arena) => poisoned(arena));
    const expectedArgs = item.build(arenas[0]);
    const actualArgs = item.build(arenas[1]);
    const used = arenas[0].usedBytes;
    op.reference(expectedArgs);
    await op.run(backend, actualArgs);
    const expectedOutputs = op.outputs(expectedArgs);
    for (const [index, [name, tensor]] of op.outputs(actualArgs).entries()) {
      const expected = expectedOutputs[index]?.[1];
      if (expected === undefined) throw new Error(`no expected ${name}`);
      if (item.tolerance === "bits") expectSameBits(name, tensor, expected);
      else expectClose(name, tensor, expected, item.tolerance);
      copyRaw(expected, tensor);
    }
    const rest = (bytes: Buffer | undefined): Buffer => bytes?.subarray(0, used) ?? Buffer.alloc(0);
    expect(Buffer.compare(rest(actualBytes), rest(expectedBytes))).toBe(0);
  } finally {
    for (const arena of arenas) arena.close();
  }
}

/** The arena's bytes, all set to 0xa5. */
function poisoned(arena: Arena): Buffer {
  const start = arena.allocate(1);
  arena.reset();
  return Buffer.from(arena.heap.buffer, start, arena.totalBytes).fill(0xa5);
}

/** Expects a typed error from a call, thrown or rejected, and every byte of `tensors` unchanged. */
export async function expectRejected(
  call: () => Completion,
  error: abstract new (...args: never[]) => Error,
  argument: RegExp,
  tensors: readonly Tensor[],
): Promise<void> {
  const before = tensors.map((tensor) => [...tensor.elements]);
  let thrown: unknown;
  try {
    await call();
  } catch (caught) {
    thrown = caught;
  }
  expect(thrown).toBeInstanceOf(error);
  expect(String(thrown)).toMatch(argument);
  for (const [index, tensor] of tensors.entries()) expect([...tensor.elements]).toEqual(before[index] ?? []);
}
