import { type DType, elementCount, Tensor } from "@lockstep/tensor";
import { chunkStart, type Determinism, type ProcessGroup, type RankContext, type Reduction } from "../src/index.ts";
import { firstDifference, randomValues, randomWords, rawOf, SUMMED_DTYPES, writeRaw } from "./collective-cases.ts";

/** A case of the laws. */
export interface LawCase {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly dim: number;
  readonly reduction: Reduction;
  readonly deterministic: Determinism;
  readonly seed: number;
}

function pause(next: () => number): void {
  const end = performance.now() + (next() % 8 === 0 ? (next() % 300) / 1000 : 0);
  while (performance.now() < end);
}

export function setup(context: RankContext) {
  const { heap, rank, size, world } = context;

  function chunkShape(shape: readonly number[], dim: number): number[] {
    const length = shape[dim] ?? 0;
    const count = chunkStart(length, rank + 1, size) - chunkStart(length, rank, size);
    return shape.map((extent, at) => (at === dim ? count : extent));
  }

  function mustEqual(law: string, a: Tensor, b: Tensor): void {
    const raw = rawOf(a.dtype, []);
    const other = b.isContiguous ? b.elements : raw;
    const at = firstDifference(a, other);
    if (at !== -1) throw new Error(`${law}: element ${at} is ${a.toNumbers()[at]}, not ${b.toNumbers()[at]}`);
  }

  function digest(hash: number, tensor: Tensor): number {
    let value = hash;
    for (const word of tensor.elements) value = Math.imul(value ^ Math.round(word * 65536), 16777619) >>> 0;
    return value;
  }

  return {
    /** Checks the laws on every case; returns a digest of all reductions. */
    laws(cases: readonly LawCase[]): number {
      let hash = 2166136261;
      for (const { dtype, shape, dim, reduction, deterministic, seed } of cases) {
        const next = randomWords(seed + 31 * rank);
        const mine = Tensor.from(heap, dtype, shape, randomValues(dtype, elementCount(shape), seed + rank));
        const make = (of: readonly number[]): Tensor => Tensor.zeros(heap, dtype, of);
        const reduced = make(shape);
        const chunk = make(chunkShape(shape, dim));
        const gathered = make(shape);
        pause(next);
        world.allReduce(mine, reduced, { op: reduction, deterministic });
        pause(next);
        world.reduceScatter(mine, chunk, { dim, op: reduction, deterministic });
        pause(next);
        world.allGather(chunk, gathered, { dim });
        mustEqual("allReduce = allGather of reduceScatter", gathered, reduced);

        const parts = context.world.ranks.map(() => mine);
        const received = parts.map(() => make(shape));
        const returned = parts.map(() => make(shape));
        world.allToAll(parts, received);
        pause(next);
        world.allToAll(received, returned);
        for (const back of returned) mustEqual("allToAll is its own inverse", back, mine);

        const root = seed % size;
        const copy = mine.clone(heap);
        world.broadcast(copy, root);
        const fromRoot = received[root];
        if (fromRoot !== undefined) mustEqual("broadcast gives what allToAll brings from the root", copy, fromRoot);

        const same = make(shape);
        world.allReduce(copy, same, { op: "max" });
        mustEqual("the maximum of equal tensors is the tensor", same, copy);
        hash = digest(hash, reduced);
        for (const tensor of [mine, reduced, chunk, gathered, copy, same, ...received, ...returned]) tensor.free();
      }
      return hash;
    },

    /** Random collectives of random sizes over several groups, every result checked; returns how many there were. */
    soak(groups: readonly string[], ops: number, seed: number): number {
      const next = randomWords(seed);
      const own = randomWords(seed + 7 * rank + 1);
      for (let op = 0; op < ops; op++) {
        const group = context.group(groups[next() % groups.length] ?? "world");
        const dtype = SUMMED_DTYPES[next() % SUMMED_DTYPES.length] ?? "f32";
        const length = next() % 16 === 0 ? next() % 30_000 : next() % 600;
        pause(own);
        soakOne(group, next() % 7, dtype, length, op);
      }
      return ops;
    },
  };

  /** Small whole numbers, so that every sum is exact in every dtype. */
  function contribution(place: number, at: number, op: number): number {
    return (at * 7 + place * 13 + op) % 16;
  }

  function soakOne(group: ProcessGroup, kind: number, dtype: DType, length: number, op: number): void {
    const n = group.size;
    const me = group.rank;
    const begin = chunkStart(length, me, n);
    const end = chunkStart(length, me + 1, n);
    const filled = (place: number, from: number, to: number): Tensor => {
      const values = Array.from({ length: to - from }, (_, at) => contribution(place, from + at, op));
      const tensor = Tensor.empty(heap, dtype, [to - from]);
      writeRaw(tensor, rawOf(dtype, values));
      return tensor;
    };
    const verify = (what: string, tensor: Tensor, from: number, expected: (at: number) => number): void => {
      const values = Array.from({ length: tensor.size }, (_, at) => expected(from + at));
      const at = firstDifference(tensor, rawOf(dtype, values));
      if (at !== -1) throw new Error(`${what} of ${dtype} [${length}], op ${op}: element ${at} of rank ${rank}`);
    };
    const sum = (at: number): number => {
      let total = 0;
      for (let place = 0; place < n; place++) total += contribution(place, at, op);
      return total;
    };
    const used: Tensor[] = [];
    // What a rank has sent it may change at once: a peer that still reads it would see this.
    const spoil = (tensor: Tensor | undefined): void => {
      tensor?.elements.fill(99);
    };
    const keep = (tensor: Tensor): Tensor => {
      used.push(tensor);
      return tensor;
    };
    if (kind === 0) group.barrier();
    else if (kind === 1) {
      const input = keep(filled(me, 0, length));
      group.allReduce(input, input);
      verify("allReduce", input, 0, sum);
    } else if (kind === 2) {
      const output = keep(Tensor.zeros(heap, dtype, [end - begin]));
      const input = keep(filled(me, 0, length));
      group.reduceScatter(input, output);
      spoil(input);
      verify("reduceScatter", output, begin, sum);
    } else if (kind === 3) {
      const output = keep(Tensor.zeros(heap, dtype, [length]));
      const input = keep(filled(0, begin, end));
      group.allGather(input, output);
      spoil(input);
      verify("allGather", output, 0, (at) => contribution(0, at, op));
    } else if (kind === 4) {
      const root = op % n;
      const tensor = keep(filled(me === root ? 5 : 0, 0, length));
      group.broadcast(tensor, root);
      if (me === root) spoil(tensor);
      else verify("broadcast", tensor, 0, (at) => contribution(5, at, op));
    } else if (kind === 5) {
      const outputs = group.ranks.map((_, peer) => keep(Tensor.zeros(heap, dtype, [length + peer])));
      const inputs = group.ranks.map((_, peer) => keep(filled(me + 2 * peer, 0, length + me)));
      group.allToAll(inputs, outputs);
      for (const input of inputs) spoil(input);
      outputs.forEach((output, peer) => {
        verify("allToAll", output, 0, (at) => contribution(peer + 2 * me, at, op));
      });
    } else {
      const published = keep(filled(me, 0, length));
      group.readPeers([published], (tensors) => {
        tensors.forEach(([tensor], peer) => {
          if (tensor !== undefined) verify("readPeers", tensor, 0, (at) => contribution(peer, at, op));
        });
      });
      spoil(published);
    }
    for (const tensor of used) tensor.free();
  }
}
