import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import type { KernelBackend } from "../backends/backend.ts";
import type { Operand } from "../operand.ts";
import { partialAttentionReference } from "../ops/partial-attention/reference.ts";
import { expectClose, F32_TOLERANCE, HALF_INPUT_TOLERANCE } from "../testing/close.ts";
import { Random } from "../testing/random.ts";
import { countCalls } from "../testing/count-calls.ts";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());

const BLOCKS = 40;
const BLOCK_SIZE = 16;
const KV_HEADS = 2;
const QUERY_HEADS = 8;

/** One sequence whose cache lives on the GPU, with the same bytes in the heap for the reference. */
class Decoder {
  readonly arena = new Arena(heap, 16 << 20);
  readonly random = new Random(11);
  readonly keyDim: number;
  readonly caches: readonly [key: Operand, value: Operand];
  readonly heapCaches: readonly [key: Tensor, value: Tensor];
  readonly blockTable: Tensor;
  readonly query: Tensor;
  readonly out: Tensor;
  readonly lse: Tensor;

  constructor(backend: KernelBackend, dtype: DType, keyDim: number) {
    const shape = [BLOCKS, BLOCK_SIZE, KV_HEADS, keyDim];
    this.keyDim = keyDim;
    this.caches = [backend.empty(dtype, shape), backend.empty(dtype, shape)];
    const cache = (): Tensor => Tensor.zeros(this.arena, dtype, shape);
    this.heapCaches = [cache(), cache()];
    this.blockTable = Tensor.from(this.arena, "i32", [1, BLOCKS], this.random.permutation(BLOCKS));
    this.query = this.randomTensor([1, QUERY_HEADS, keyDim]);
    this.out = Tensor.empty(this.arena, "f32", [1, QUERY_HEADS, keyDim]);
    this.lse = Tensor.empty(this.arena, "f32", [1, QUERY_HEADS]);
  }

  randomTensor(shape: readonly number[]): Tensor {
    const size = shape.reduce((product, dim) => product * dim, 1);
    return Tensor.from(this.arena, "f32", shape, this.random.normals(size));
  }

  slot(position: number): number {
    const block = this.blockTable.i32[Math.floor(position / BLOCK_SIZE)] ?? 0;
    return block * BLOCK_SIZE + (position % BLOCK_SIZE);
  }

  /** Writes the tokens [from, to) into both copies of the cache. */
  async write(on: KernelBackend, reference: KernelBackend, from: number, to: number): Promise<void> {
    const mark = this.arena.usedBytes;
    const shape = [to - from, KV_HEADS, this.keyDim];
    const [key, value] = [this.randomTensor(shape), this.randomTensor(shape)];
    const slotMapping = Array.from({ length: to - from }, (_, index) => this.slot(from + index));
    const [keyCache, valueCache] = this.caches;
    await on.writeKvCache({ key, value, slotMapping, keyCache, valueCache });
    const [heapKeys, heapValues] = this.heapCaches;
    await reference.writeKvCache({ key, value, slotMapping, keyCache: heapKeys, valueCache: heapValues });
    this.arena.reset(mark);
  }

  attend(on: KernelBackend, position: number): Promise<void> {
    const [keyCache, valueCache] = this.caches;
    return Promise.resolve(on.partialAttention({ ...this.#args(position), keyCache, valueCache }));
  }

  check(position: number, dtype: DType): void {
    const mark = this.arena.usedBytes;
    const out = Tensor.empty(this.arena, "f32", this.out.shape);
    const lse = Tensor.empty(this.arena, "f32", this.lse.shape);
    const [keyCache, valueCache] = this.heapCaches;
    partialAttentionReference({ ...this.#args(position), keyCache, valueCache, out, lse });
    const tolerance = dtype === "f32" ? F32_TOLERANCE : HALF_INPUT_TOLERANCE;
    expectClose("out", this.out, out, tolerance);
    expectClose("lse", this.lse, lse, tolerance);
    this.arena.reset(mark);
  }

  #args(position: number) {
    const { query, blockTable, out, lse } = this;
    return { query, blockTable, sequences: [0], positions: [position], out, lse };
  }
}

describe("a decode step with the cache on the GPU", () => {
  for (const [dtype, keyDim] of [
    ["f32", 64],
    ["f16", 64],
    ["bf16", 25],
  ] as const) {
    test(`${dtype} D${keyDim}: one upload, one submission, one map, and nothing is made`, async () => {
      const { openBackend } = await import("../backends/open-backend.ts");
      const reference = await openBackend("reference", { heap });
      const decoder = new Decoder(backend, dtype, keyDim);
      await decoder.write(backend, reference, 0, 300);
      const step = async (position: number): Promise<void> => {
        await decoder.write(backend, reference, position, position + 1);
        await decoder.attend(backend, position);
      };
      for (let position = 300; position < 303; position++) {
        await step(position);
        decoder.check(position, dtype);
      }
      const compiled = backend.context.entries.length;
      const hits = backend.context.hits;
      const counts = await countCalls(() => step(303));
      decoder.check(303, dtype);
      expect(counts).toEqual({
        submit: 1,
        writeBuffer: 1,
        mapAsync: 1,
        createBuffer: 0,
        createBindGroup: 0,
        createShaderModule: 0,
        createComputePipeline: 0,
        pushErrorScope: 0,
      });
      expect(backend.context.entries.length).toBe(compiled);
      expect(backend.context.hits).toBeGreaterThan(hits);
      // The same step again gives the same bits.
      const bits = [...decoder.out.elements];
      decoder.out.fill(0);
      await decoder.attend(backend, 303);
      expect([...decoder.out.elements]).toEqual(bits);
      decoder.arena.close();
      await reference.close();
    });
  }

  test("a second split compiles nothing that the first steps had not compiled", async () => {
    const decoder = new Decoder(backend, "f32", 32);
    await decoder.attend(backend, 10);
    const compiled = backend.context.entries.length;
    await decoder.attend(backend, 600);
    expect(backend.context.entries.length).toBe(compiled);
    decoder.arena.close();
  });
});
