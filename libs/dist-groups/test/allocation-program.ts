// What the allocation test runs: every collective, on tensors that are made once, many times over.
import { Tensor } from "@lockstep/tensor";
import type { RankContext } from "../src/index.ts";

/** Elements of a message that is staged by default, and of one that is not. */
const STAGED = 8;
const DIRECT = 4_000;
const WARM_UP_CALLS = 5_000;
/** An operation that does allocate, to see that the measure would tell. */
export const CONTROL = "one object";

export function setup({ heap, world }: RankContext) {
  const { rank, size } = world;
  const make = (...shape: number[]): Tensor => Tensor.zeros(heap, "f32", shape);
  const each = (elements: number): Tensor[] => Array.from({ length: size }, () => make(elements));
  const kept: unknown[] = [];
  let turn = 0;

  const collectives = (elements: number): Readonly<Record<string, () => void>> => {
    const [small, other, large] = [make(elements), make(elements), make(size * elements)];
    const [strided, all] = [make(4, elements).transpose(0, 1), make(size * elements, 4)];
    const [inputs, outputs] = [each(elements), each(elements)];
    const [pair, outputPair] = [
      [small, other],
      [large, make(size * elements)],
    ];
    const own = [small];
    const chunks = { dim: 0 };
    const read = (tensors: readonly (readonly Tensor[])[]): number => tensors.length;
    const reading = { read: (shown: readonly Tensor[]): number => shown.length };
    const [next, before] = [(rank + 1) % size, (rank + size - 1) % size];
    return {
      allGather: () => world.allGather(small, large),
      "allGather, read where it lies": () => world.allGather(small, large, reading),
      "allGather, strided": () => world.allGather(strided, all),
      allGatherCoalesced: () => world.allGatherCoalesced(pair, outputPair),
      reduceScatter: () => world.reduceScatter(large, small),
      allReduce: () => world.allReduce(small, other),
      "allReduce, in place": () => world.allReduce(small, small),
      allToAll: () => world.allToAll(inputs, outputs),
      broadcast: () => world.broadcast(small, 0),
      sendRecv: () => world.sendRecv(small, next, other, before),
      readPeers: () => world.readPeers(own, read),
      "readPeers, of chunks": () => world.readPeers(own, read, chunks),
    };
  };
  const operations = new Map<string, () => void>([
    [
      CONTROL,
      () => {
        kept[turn++ % 100] = { rank };
      },
    ],
    ["barrier", () => world.barrier()],
    ...Object.entries(collectives(STAGED)).map(([name, run]) => [`${name}, staged`, run] as const),
    ...Object.entries(collectives(DIRECT)).map(([name, run]) => [`${name}, direct`, run] as const),
  ]);

  return {
    names: (): string[] => [...operations.keys()],
    /** Bytes by which a call makes the heap of this rank's engine grow, after a warm-up. */
    bytesPerCall(name: string, calls: number): number {
      const operation = operations.get(name);
      if (operation === undefined) throw new Error(`no operation is called ${name}`);
      for (let call = 0; call < WARM_UP_CALLS; call++) operation();
      collectGarbage();
      const before = heapBytes();
      for (let call = 0; call < calls; call++) operation();
      return (heapBytes() - before) / calls;
    },
  };
}

/** What is used of `bun:jsc`. Declared here so that the source type-checks where Bun's modules are unknown. */
interface JavaScriptCore {
  edenGC(): void;
  heapStats(): { readonly heapCapacity: number };
}

const jsc = "Bun" in globalThis ? (process.getBuiltinModule("bun:jsc") as unknown as JavaScriptCore) : undefined;

function collectGarbage(): void {
  jsc?.edenGC();
}

/** Grows with every object until a collection: in steps of a block in Bun, by the byte in Deno. */
function heapBytes(): number {
  return jsc === undefined ? process.memoryUsage().heapUsed : jsc.heapStats().heapCapacity;
}
