// The rank's side of the query gather and output reduction tests.
import { type Combine, dcpPrepareQuery, dcpReduceOutput, type ReduceOutputArgs } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { type BackendName, type LseBase, openBackend } from "@lockstep/kernels";
import { LockstepError, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** One reduction; tensors lie in the host's heap and hold every rank's part. */
export interface Reduction {
  /** Name of the group the keys are sharded over. */
  readonly dcpGroup: string;
  /** Name of the group whose heads were gathered. */
  readonly queryGroup: string;
  /** [world, B, H, D]: each rank's partial output. */
  readonly partialOut: TensorDescriptor;
  /** [world, B, H] */
  readonly partialLse: TensorDescriptor;
  /** Left out: the default. */
  readonly combine?: Combine;
  readonly base: LseBase;
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: BackendName }) {
  const { heap, rank } = context;
  const backend = await openBackend(options.backend, { heap, adapter: "software" });
  context.onClose(() => backend.close());

  return {
    /** Gathers this rank's slice of `query` [world, B, h, D] and returns the whole, as numbers. */
    prepareQuery(query: TensorDescriptor, group: string, heads: number): number[] {
      const queryGroup = context.group(group);
      const { start, end } = { start: chunk(heads, queryGroup.rank), end: chunk(heads, queryGroup.rank + 1) };
      const own = Tensor.fromDescriptor(query, heap).slice(1, start, end);
      const gathered = dcpPrepareQuery(own, queryGroup, { heads });
      const numbers = [...gathered.toNumbers()];
      gathered.free();
      return numbers;

      function chunk(count: number, index: number): number {
        return Math.floor((count * index) / queryGroup.size);
      }
    },

    /** What bad results of a reduction lead to, and how many bytes they leave: each refused before ranks meet. */
    async refused(combine: Combine): Promise<{ what: string; tag: string; argument: string; left: number }[]> {
      const heads = 2 * context.size;
      const tensor = (...shape: number[]): Tensor => Tensor.empty(heap, "f32", shape).fill(1);
      const [partialOut, partialLse, freed] = [tensor(1, heads, 4), tensor(1, heads), tensor(1, 2)];
      freed.free();
      const row = tensor(2, 2, 4);
      const wrong: Record<string, Partial<ReduceOutputArgs>> = {
        "lse of another shape": { lse: tensor(1, 7) },
        "lse freed": { lse: freed },
        "lse within partialLse": { lse: partialLse.slice(1, 0, 2) },
        "lse within out": { out: row.slice(0, 0, 1), lse: row.slice(0, 0, 1).select(2, 0) },
        "out within partialOut": { out: partialOut.slice(1, 0, 2) },
        "out that lies over itself": {
          out: Tensor.fromDescriptor({ ...row.descriptor, shape: [1, 2, 4], strides: [0, 0, 1] }, heap),
        },
        nonFinite: { nonFinite: "neither" as never },
        allocator: { allocator: {} as never },
      };
      const said: { what: string; tag: string; argument: string; left: number }[] = [];
      for (const [what, args] of Object.entries(wrong)) {
        const used = heap.usedBytes;
        const all = { backend, dcpGroup: context.world, partialOut, partialLse, combine, ...args };
        const error: unknown = await dcpReduceOutput(all).catch((thrown: unknown) => thrown);
        const tag = error instanceof LockstepError ? error._tag : "none";
        said.push({ what, tag, argument: String(Reflect.get(Object(error), "argument")), left: heap.usedBytes - used });
      }
      return said;
    },

    async reduce(reduction: Reduction): Promise<{ out: number[]; lse: number[]; isPartialKept: boolean }> {
      const partialOut = Tensor.fromDescriptor(reduction.partialOut, heap).select(0, rank).clone(heap);
      const partialLse = Tensor.fromDescriptor(reduction.partialLse, heap).select(0, rank).clone(heap);
      const before = [...partialOut.toNumbers()];
      const { out, lse } = await dcpReduceOutput({
        backend,
        dcpGroup: context.group(reduction.dcpGroup),
        queryGroup: context.group(reduction.queryGroup),
        partialOut,
        partialLse,
        ...(reduction.combine === undefined ? {} : { combine: reduction.combine }),
        base: reduction.base,
        returnLse: true,
      });
      const isPartialKept = partialOut.toNumbers().every((value, index) => Object.is(value, before[index]));
      const result = { out: [...out.toNumbers()], lse: [...(lse?.toNumbers() ?? [])], isPartialKept };
      for (const tensor of [out, lse, partialOut, partialLse]) tensor?.free();
      return result;
    },

    /** Bytes in use on this rank's heap: nothing may be left over. */
    usedBytes: (): number => heap.usedBytes,
  };
}
