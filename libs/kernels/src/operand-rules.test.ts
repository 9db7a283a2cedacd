import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, ArgumentError, DTYPE_BYTES, LockstepError, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import type { Completion, KernelBackend } from "./backends/backend.ts";
import { BackendClosed } from "./errors.ts";
import { GpuTensor } from "./gpu-tensor.ts";
import { openBackend } from "./backends/open-backend.ts";
import type { Operand } from "./operand.ts";
import { openTestBackends } from "./testing/test-backends.ts";
import { type ValidArguments, validArguments } from "./testing/valid-arguments.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(8 << 20);
const backends = await openTestBackends(heap);
const OPS = [
  "correctAttnOut",
  "packSeq",
  "unpackSeq",
  "mergeAttnStates",
  "writeKvCache",
  "gatherKvCache",
  "partialAttention",
] as const;

async function call(backend: KernelBackend, { op, args }: ValidArguments): Promise<void> {
  await (backend[op] as (args: unknown) => Completion).call(backend, args);
}

/** What a call throws or rejects with; undefined when it succeeds. */
async function failure(run: () => Promise<void> | Completion): Promise<unknown> {
  try {
    await run();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Runs `use` with fresh arguments in an arena, for every op; the arena's bytes before and after are at hand. */
async function withArguments(
  use: (valid: ValidArguments, arena: Arena, bytes: () => Uint8Array) => Promise<void>,
): Promise<void> {
  for (let index = 0; index < OPS.length; index++) {
    const arena = new Arena(heap, 1 << 18);
    try {
      const start = arena.allocate(0);
      const valid = validArguments(arena)[index];
      if (valid === undefined) throw new Error("no arguments");
      const length = arena.usedBytes;
      await use(valid, arena, () => new Uint8Array(heap.buffer, start, length).slice());
    } finally {
      arena.close();
    }
  }
}

/** Tensors of an argument, which is one or a list of them. */
function tensorsOf(value: unknown): Tensor[] {
  return (Array.isArray(value) ? value : [value]).filter((part): part is Tensor => part instanceof Tensor);
}

for (const backend of backends) {
  describe(`operands on ${backend.name}`, () => {
    test("the arguments that the tests below damage are accepted", () =>
      withArguments(async (valid) => {
        expect(await failure(() => call(backend, valid))).toBeUndefined();
      }));

    test("an output that overlaps another operand is refused before anything is written", () =>
      withArguments(async (valid, _, bytes) => {
        for (const output of valid.outputs) {
          const model = tensorsOf(valid.args[output])[0];
          if (model === undefined) throw new Error("no output");
          for (const other of [...valid.inputs, ...valid.outputs]) {
            if (other === output) continue;
            for (const tensor of tensorsOf(valid.args[other])) {
              for (const shift of [0, 1, 2]) {
                const byteOffset = tensor.byteOffset + shift * DTYPE_BYTES[model.dtype];
                const over = Tensor.fromDescriptor({ ...model.descriptor, byteOffset }, heap);
                if (shift === 0 && valid.inPlace[output] === other) continue;
                const before = bytes();
                const error = await failure(() => call(backend, { ...valid, args: { ...valid.args, [output]: over } }));
                expect(error).toBeInstanceOf(ArgumentError);
                expect(String(error)).toMatch(/must be apart from `\w+` in memory, but is overlapping it/);
                expect(Buffer.compare(bytes(), before)).toBe(0);
              }
            }
          }
        }
      }));

    test("an output whose elements share places is refused", () =>
      withArguments(async (valid, _, bytes) => {
        for (const output of valid.outputs) {
          for (const tensor of tensorsOf(valid.args[output])) {
            const strides = tensor.strides.with(0, 0);
            const folded = Tensor.fromDescriptor({ ...tensor.descriptor, strides }, heap);
            const before = bytes();
            const error = await failure(() => call(backend, { ...valid, args: { ...valid.args, [output]: folded } }));
            expect(error).toBeInstanceOf(ArgumentError);
            expect(Buffer.compare(bytes(), before)).toBe(0);
          }
        }
      }));

    test("what may work in place does", () =>
      withArguments(async (valid) => {
        for (const [output, input] of Object.entries(valid.inPlace)) {
          const args = { ...valid.args, [output]: valid.args[input] };
          expect(await failure(() => call(backend, { ...valid, args }))).toBeUndefined();
        }
      }));

    test("a freed tensor, a view of one, and a tensor of an arena that was reset are refused", () =>
      withArguments(async (valid, arena, bytes) => {
        const kinds: ((tensor: Tensor) => Tensor)[] = [
          (tensor) => {
            const copy = tensor.clone(heap);
            copy.free();
            return copy;
          },
          (tensor) => {
            const copy = tensor.unsqueeze(0).clone(heap);
            const view = copy.select(0, 0);
            copy.free();
            return view;
          },
          (tensor) => {
            const mark = arena.usedBytes;
            const copy = tensor.clone(arena);
            arena.reset(mark);
            return copy;
          },
        ];
        for (const name of [...valid.inputs, ...valid.outputs]) {
          for (const kind of kinds) {
            const given = valid.args[name];
            const first = tensorsOf(given)[0];
            if (first === undefined) throw new Error("no tensor");
            const freed = kind(first);
            const value = Array.isArray(given) ? [freed, ...given.slice(1)] : freed;
            const before = bytes();
            const error = await failure(() => call(backend, { ...valid, args: { ...valid.args, [name]: value } }));
            expect(error).toBeInstanceOf(UseAfterFree);
            expect(Buffer.compare(bytes(), before)).toBe(0);
          }
        }
      }));

    test("arguments of any wrong kind end in a typed error, and nothing is written", async () => {
      const junk: readonly unknown[] = [
        undefined,
        null,
        Number.NaN,
        -1,
        0.5,
        2 ** 31,
        2 ** 32,
        1e308,
        "1",
        "",
        true,
        1n,
        Symbol("x"),
        {},
        [],
        [undefined],
        [null, null],
        [{}, {}],
        [Number.NaN, 0.5],
        [2 ** 31, 2 ** 31],
        ["0", "1"],
        { length: 2 },
        { length: 2 ** 40 },
        Object.create(null),
        () => 1,
        new Float32Array(2).fill(0.5),
        new BigInt64Array(2),
      ];
      let refused = 0;
      await withArguments(async (valid, _, bytes) => {
        for (const [name, value] of [...Object.keys(valid.args), "args"].flatMap((name) =>
          junk.map((value) => [name, value] as const),
        )) {
          const before = bytes();
          const args = name === "args" ? value : { ...valid.args, [name]: value };
          const error = await failure(() => call(backend, { ...valid, args: args as ValidArguments["args"] }));
          if (error === undefined) continue;
          refused++;
          if (!(error instanceof LockstepError)) {
            throw new Error(`${valid.op}: ${name} = ${JSON.stringify(value) ?? typeof value}`, { cause: error });
          }
          expect(Buffer.compare(bytes(), before)).toBe(0);
        }
      });
      // What is left out, or a number that is one, may be right.
      expect(refused).toBeGreaterThan(900);
    });

    test("views without elements work wherever they lie", async () => {
      const { buffer } = heap;
      const at = (dtype: "f32" | "i32", shape: number[], byteOffset: number): Tensor =>
        Tensor.fromDescriptor({ dtype, shape, strides: shape.map(() => 1), heapId: heap.id, byteOffset }, heap);
      for (const end of [buffer.byteLength, 128, 0]) {
        const empty = (...shape: number[]): Tensor => at("f32", shape, end);
        const done = async (result: Completion): Promise<void> => expect(await result).toBeUndefined();
        await done(backend.packSeq({ x: empty(0, 4), lengths: [0, 0], out: empty(2, 0, 4) }));
        await done(backend.unpackSeq({ packed: empty(2, 0, 4), lengths: [0, 0], out: empty(0, 4) }));
        const outs = [empty(0, 2, 4), empty(0, 2, 4)];
        const lses = [empty(0, 2), empty(0, 2)];
        await done(backend.mergeAttnStates({ outs, lses, out: empty(0, 2, 4), lse: empty(0, 2) }));
        const correct = { partialOut: empty(0, 2, 4), lses: empty(2, 0, 2), rank: 0 };
        await done(backend.correctAttnOut({ ...correct, out: empty(0, 2, 4), lse: empty(0, 2) }));
        const cache = Tensor.zeros(heap, "f32", [1, 4, 2, 4]);
        await done(backend.gatherKvCache({ cache, slots: [], rows: empty(0, 2, 4) }));
        const written = { key: empty(0, 2, 4), value: empty(0, 2, 4), slotMapping: [] };
        const valueCache = Tensor.zeros(heap, "f32", [1, 4, 2, 4]);
        await done(backend.writeKvCache({ ...written, keyCache: cache, valueCache }));
        const attention = { query: empty(0, 2, 4), keyCache: cache, valueCache, sequences: [], positions: [] };
        const blockTable = at("i32", [0, 0], end);
        await done(backend.partialAttention({ ...attention, blockTable, out: empty(0, 2, 4), lse: empty(0, 2) }));
        cache.free();
        valueCache.free();
      }
    });

    test("copies of overlapping, freed or unlike tensors are refused", async () => {
      const row = Tensor.from(heap, "f32", [6], [1, 2, 3, 4, 5, 6]);
      const freed = Tensor.zeros(heap, "f32", [5]);
      freed.free();
      const [left, right] = [row.slice(0, 0, 5), row.slice(0, 1, 6)];
      const bad: readonly (readonly [source: unknown, target: unknown])[] = [
        [left, right],
        [right, left],
        [freed, left],
        [left, freed],
        [undefined, left],
        [left, null],
        [left, row],
        [left, {}],
      ];
      for (const [source, target] of bad) {
        expect(await failure(() => backend.upload(source as Tensor, target as Tensor))).toBeInstanceOf(LockstepError);
        expect(await failure(() => backend.download(source as Tensor, target as Tensor))).toBeInstanceOf(LockstepError);
        expect([...row.toNumbers()]).toEqual([1, 2, 3, 4, 5, 6]);
      }
      row.free();
    });
  });
}

test("GPU operands: overlapping, freed, of another device, or beyond their buffer, are refused", async () => {
  const gpu = backends.find(({ name }) => name === "webgpu");
  if (gpu === undefined) throw new Error("no webgpu backend");
  const onGpu = (operand: Operand): GpuTensor => {
    if (operand instanceof GpuTensor) return operand;
    throw new Error("the backend computes on a GPU");
  };
  const x = onGpu(gpu.empty("f32", [6, 4]));
  const host = Tensor.from(
    heap,
    "f32",
    [6, 4],
    Array.from({ length: 24 }, (_, index) => index),
  );
  await gpu.upload(host, x);
  const refused = async (error: abstract new (...args: never[]) => Error, run: () => Completion): Promise<void> =>
    expect(await failure(run)).toBeInstanceOf(error);
  const over = new GpuTensor(x.memory, "f32", [2, 2, 4]);
  await refused(ArgumentError, () => gpu.packSeq({ x: x.slice(0, 0, 3), lengths: [2, 1], out: over }));
  await refused(ArgumentError, () => gpu.unpackSeq({ packed: over, lengths: [2, 1], out: x.slice(0, 1, 4) }));
  const back = Tensor.zeros(heap, "f32", [6, 4]);
  await gpu.download(x, back);
  expect([...back.toNumbers()]).toEqual([...host.toNumbers()]);
  for (const shape of [[7, 4], [2 ** 31], [2 ** 32, 2 ** 32]]) {
    expect(() => new GpuTensor(x.memory, "f32", shape)).toThrow(ArgumentError);
  }
  for (const offset of [-1, 0.5, Number.NaN, 1, 2 ** 32]) {
    expect(() => new GpuTensor(x.memory, "f32", [6, 4], [4, 1], offset)).toThrow(ArgumentError);
  }
  expect(onGpu(x).slice(0, 6, 6).slice(0, 0, 0).size).toBe(0);
  await gpu.packSeq({ x: x.slice(0, 6, 6), lengths: [], out: onGpu(gpu.empty("f32", [0, 0, 4])) });

  const other = await openBackend("webgpu", { heap, adapter: "any" });
  const foreign = onGpu(other.empty("f32", [6, 4]));
  await refused(ArgumentError, () => gpu.upload(host, foreign));
  await refused(ArgumentError, () => gpu.download(foreign, back));
  await refused(ArgumentError, () => gpu.packSeq({ x: foreign, lengths: [6], out: back.unsqueeze(0) }));
  await other.close();
  await refused(UseAfterFree, () => gpu.upload(host, foreign));

  const view = x.slice(0, 0, 3);
  x.free();
  expect([x.isFreed, view.isFreed]).toEqual([true, true]);
  await refused(UseAfterFree, () => gpu.upload(host, x));
  await refused(UseAfterFree, () => gpu.packSeq({ x: view, lengths: [3], out: back.slice(0, 0, 3).unsqueeze(0) }));
  expect(() => view.slice(0, 0, 1)).toThrow(UseAfterFree);
  host.free();
  back.free();
});

test("a result is not written to a tensor that was freed while it was under way; others of the batch are", async () => {
  const gpu = backends.find(({ name }) => name === "webgpu");
  if (gpu === undefined) throw new Error("no webgpu backend");
  const x = Tensor.from(heap, "f32", [2, 2], [1, 2, 3, 4]);
  const [freed, kept] = [Tensor.zeros(heap, "f32", [1, 2, 2]), Tensor.zeros(heap, "f32", [1, 2, 2])];
  const done = gpu.batch(() => {
    void gpu.packSeq({ x, lengths: [2], out: freed });
    void gpu.packSeq({ x, lengths: [2], out: kept });
  });
  freed.free();
  const other = Tensor.zeros(heap, "f32", [1, 2, 2]);
  expect(other.byteOffset).toBe(freed.byteOffset);
  expect(await failure(() => done)).toBeInstanceOf(UseAfterFree);
  expect([...other.toNumbers()]).toEqual([0, 0, 0, 0]);
  expect([...kept.toNumbers()]).toEqual([1, 2, 3, 4]);
  await gpu.packSeq({ x, lengths: [2], out: other });
  expect([...other.toNumbers()]).toEqual([1, 2, 3, 4]);
  for (const made of [x, kept, other]) made.free();
});

for (const name of ["reference", "wasm", "webgpu"] as const) {
  test(`every method of a closed ${name} backend says that it is closed`, async () => {
    const backend = await openBackend(name, { heap, adapter: "any" });
    const operand = backend.empty("f32", [2]);
    const tensor = Tensor.zeros(heap, "f32", [2]);
    await backend.close();
    await backend.close();
    const calls: (() => unknown)[] = [
      () => backend.empty("f32", [2]),
      () => backend.upload(tensor, operand),
      () => backend.download(operand, tensor),
      () => backend.batch(() => undefined),
      ...OPS.map((op) => () => backend[op]({} as never)),
      ...validArguments(heap).map((valid) => () => call(backend, valid)),
    ];
    for (const run of calls) expect(await failure(async () => void (await run()))).toBeInstanceOf(BackendClosed);
    tensor.free();
  });
}

test("opening with bad options, opening and failing, and closing leave the heap as it was", async () => {
  const own = SharedHeap.create(1 << 20);
  const free = own.freeBytes;
  const bad: readonly unknown[] = [
    undefined,
    null,
    {},
    { heap: {} },
    { heap: own.memory },
    { heap: own, adapter: "gpu" },
    { heap: own, index: -1 },
    { heap: own, index: 0.5 },
    { heap: own, matrices: "on" },
    { heap: own, batchInvariant: 1 },
    { heap: own, device: 4 },
  ];
  for (const options of bad) {
    for (const name of ["reference", "wasm", "webgpu", "auto"] as const) {
      expect(await failure(async () => void (await openBackend(name, options as never)))).toBeInstanceOf(ArgumentError);
    }
  }
  expect(await failure(async () => void (await openBackend(Symbol("x") as never, { heap: own })))).toBeInstanceOf(
    ArgumentError,
  );
  expect(own.freeBytes).toBe(free);
  for (let round = 0; round < 10_000; round++) {
    const backend = await openBackend("wasm", { heap: own });
    if (round % 100 === 0) {
      const x = backend.empty("f32", [4, 2]);
      expect(await failure(() => backend.packSeq({ x, lengths: [1, 2], out: x }))).toBeInstanceOf(ArgumentError);
      const out = backend.empty("f32", [2, 2, 2]);
      await backend.packSeq({ x, lengths: [1, 2], out });
      x.free();
      out.free();
    }
    await backend.close();
    if (own.freeBytes !== free) throw new Error(`round ${round}: ${own.freeBytes} of ${free} bytes are free`);
  }
  for (let round = 0; round < 5; round++) {
    const backend = await openBackend("webgpu", { heap: own, adapter: "any" });
    const x = backend.empty("f32", [4, 2]);
    expect(await failure(() => backend.packSeq({ x, lengths: [1, 2], out: x }))).toBeInstanceOf(ArgumentError);
    await backend.close();
  }
  expect(own.freeBytes).toBe(free);
});
