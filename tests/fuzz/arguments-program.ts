// The rank's side: calls of the attention's public functions with arguments that are mostly wrong.
import {
  convertLse,
  DcpAttention,
  type DcpAttentionOptions,
  dcpCorrectAttnOut,
  dcpPrepareQuery,
  dcpReduceOutput,
  headLayout,
  packSeq,
  unpackSeq,
} from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend, SlotPlan } from "@lockstep/kernels";
import { LockstepError, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../random.ts";
import { wildValue } from "./wild-values.ts";

type Arguments = unknown[];

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext) {
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const tensor = (...shape: number[]): Tensor => Tensor.zeros(heap, "f32", shape).fill(0.25);
  const row = tensor(1, 2, 4);
  const [one, out] = [tensor(1, 1, 4), tensor(1, 2, 4)];
  const lengths = [1, 2];
  const options: DcpAttentionOptions = {
    backend,
    mergeBackend: backend,
    heap,
    dcpGroup: world,
    queryGroup: world,
    pcpGroup: world,
    layers: 1,
    queryHeads: 2,
    kvHeads: 1,
    headDim: 4,
    valueDim: 4,
    mla: false,
    headGroup: { size: 2, offset: 0 },
    kvDtype: "f32",
    queryDtype: "f32",
    gatherDtype: "f32",
    partialDtype: "f32",
    queryReplicated: false,
    blockSize: 4,
    interleave: 1,
    weights: new Array<number>(world.size).fill(2),
    numBlocks: 4,
    prefixCache: true,
    combine: "auto",
    scale: 1,
    softcap: 3,
    window: 4,
    sinks: tensor(1, 2),
    lseBase: "e",
    maxStepQueries: 8,
    prefillChunk: 8,
    deadlineMs: 60_000,
  };
  const attention = DcpAttention.open({ ...options, onPartialLse: () => {} });
  onClose(() => attention.close());
  const sequence = attention.createSequence();
  const size = { numBlocks: 2, blockSize: 4 };
  const [keyCache, valueCache] = [tensor(2, 4, 1, 4), tensor(2, 4, 1, 4)];
  const blockTable = Tensor.zeros(heap, "i32", [1, 1]);
  const plan = backend.planAttention({ blockTable, sequences: [0], positions: [2] }, size);
  const slots = new SlotPlan([1], size);

  /** Functions with arguments that they accept. */
  const functions: Readonly<Record<string, () => readonly [(...args: never[]) => unknown, Arguments]>> = {
    open: () => [(given: DcpAttentionOptions) => DcpAttention.open(given).close(), [{ ...options }]],
    dcpCorrectAttnOut: () => [dcpCorrectAttnOut, [backend, tensor(2, 2, 4), tensor(3, 2, 2), 1, { base: "2" }]],
    dcpPrepareQuery: () => [dcpPrepareQuery, [row, world, { heads: 2, deadlineMs: 1000 }]],
    dcpReduceOutput: () => [
      dcpReduceOutput,
      [
        {
          backend,
          dcpGroup: world,
          partialOut: tensor(1, 2, 4),
          partialLse: tensor(1, 2),
          combine: "a2a",
          base: "e",
          returnLse: true,
        },
      ],
    ],
    convertLse: () => [convertLse, [tensor(3), "e", "2"]],
    packSeq: () => [packSeq, [backend, tensor(3, 2), lengths, { padValue: 0 }]],
    unpackSeq: () => [unpackSeq, [backend, tensor(2, 2, 2), lengths]],
    headLayout: () => [
      headLayout,
      [{ sizes: { layout: "classic", tp: 4, dcp: 2 }, kv: "head-sharded", queryHeads: 8, kvHeads: 2 }, 1],
    ],
    forkSequence: () => [(id: number) => attention.freeSequence(attention.forkSequence(id)), [sequence]],
    createSequenceFrom: () => [
      (ids: never) => attention.freeSequence(attention.createSequenceFrom(ids).sequence),
      [[1, 2, 3]],
    ],
    keepPrefix: () => [(id: number, ids: never) => attention.keepPrefix(id, ids), [sequence, []]],
    knownPrefix: () => [(ids: never) => attention.knownPrefix(ids), [[1, 2, 3]]],
    sequenceLength: () => [(id: number) => attention.sequenceLength(id), [sequence]],
    truncateSequence: () => [(id: number, length: number) => attention.truncateSequence(id, length), [sequence, 0]],
    beginStep: () => [
      (items: never) => {
        attention.beginStep(items);
        attention.cancelStep();
      },
      [[{ sequence, tokens: 1, queries: 1 }]],
    ],
    beginPrefill: () => [
      (items: never) => {
        attention.beginPrefill(items);
        attention.cancelStep();
      },
      [[{ sequence, tokens: 1 }]],
    ],
    forward: () => [
      (async (layer: never, ...rest: [never, never, never, never, never]) => {
        attention.beginStep([{ sequence, tokens: 1 }]);
        try {
          await attention.forward(layer, ...rest);
        } finally {
          attention.cancelStep();
        }
      }) as (...args: never[]) => unknown,
      [0, row, one, one, out, tensor(1, 2)],
    ],
    forwardNow: () => [
      (async (layer: never, ...rest: [never, never, never, never, never]) => {
        attention.beginStep([{ sequence, tokens: 1 }]);
        try {
          await attention.forwardNow(layer, ...rest);
        } finally {
          attention.cancelStep();
        }
      }) as (...args: never[]) => unknown,
      [0, row, one, one, out, tensor(1, 2)],
    ],
    prepareAttention: () => [
      (args: never, given: never) => {
        using known = backend.prepared?.prepareAttention(args);
        known?.attend(given);
      },
      [{ query: row, keyCache, valueCache, out, lse: tensor(1, 2), plan, scale: 1, softcap: 3 }, plan],
    ],
    prepareWrite: () => [
      (args: never, given: never) => {
        using known = backend.prepared?.prepareWrite(args);
        known?.write(given);
      },
      [{ key: one, value: one, keyCache, valueCache, slotMapping: slots }, slots],
    ],
    prefill: () => [
      (async (layer: never, ...rest: [never, never, never, never, never]) => {
        attention.beginPrefill([{ sequence, tokens: 1 }]);
        try {
          await attention.prefill(layer, ...rest);
        } finally {
          attention.cancelStep();
        }
      }) as (...args: never[]) => unknown,
      [0, row, one, one, out, tensor(1, 2)],
    ],
    keyCache: () => [(layer: number) => attention.keyCache(layer), [0]],
    useGroups: () => [(groups: never) => attention.useGroups(groups), [{ dcpGroup: world, pcpGroup: world }]],
  };

  return {
    /** One call; undefined, or what is wrong about how it ended. */
    async run(seed: number): Promise<string | undefined> {
      const random = new RandomStream(seed ^ 0x5bd1e995);
      const names = Object.keys(functions);
      const name = names[random.below(names.length)] ?? "";
      const used = heap.usedBytes;
      const [call, args] = functions[name]?.() ?? [() => undefined, []];
      const given = [...args];
      const at = random.below(given.length);
      const inner = given[at];
      let changed = String(at);
      const isRecord = typeof inner === "object" && inner !== null && Object.getPrototypeOf(inner) === Object.prototype;
      if (isRecord && random.next() < 0.8) {
        const fields = Object.keys(inner);
        const field = fields[random.below(fields.length)] ?? "";
        changed = field;
        given[at] = { ...inner, [field]: wildValue(random) };
      } else if (Array.isArray(inner) && random.next() < 0.7) {
        const [first] = inner as unknown[];
        const isItem = typeof first === "object" && first !== null;
        const fields = isItem ? Object.keys(first) : [];
        const field = fields[random.below(Math.max(1, fields.length))] ?? "";
        changed = `item ${field}`;
        given[at] = [isItem ? { ...first, [field]: wildValue(random) } : wildValue(random), ...inner.slice(1)];
      } else given[at] = wildValue(random);
      try {
        await call(...(given as never[]));
      } catch (error) {
        if (!(error instanceof LockstepError)) {
          return `${name} with another ${changed}: no typed error, but ${String(error)} ${(error as Error)?.stack}`;
        }
      } finally {
        for (const value of args.flatMap((arg) => [arg, ...Object.values(Object(arg) as object)])) {
          const shared = [row, one, out, options.sinks, keyCache, valueCache];
          const isShared = shared.includes(value as Tensor);
          if (value instanceof Tensor && !isShared && !value.isFreed) value.free();
        }
      }
      return attention.sequenceLength(sequence) === 0 ? undefined : `${name}: left ${heap.usedBytes - used} bytes`;
    },
  };
}
