import { type ElementArray, elementCount, type Tensor } from "@lockstep/tensor";
import { headRange, type RankContext } from "../src/index.ts";
import {
  type CollectiveCase,
  chunkBegin,
  chunkOf,
  firstDifference,
  foldReference,
  place,
  randomValues,
  rawOf,
  writeRaw,
} from "./collective-cases.ts";

const POISON = 77;
const none = new Uint8Array(0);

/** Runs cases of the collectives on every rank and compares each result, bit by bit, with the reference. */
export function setup(context: RankContext) {
  const { heap, world: group } = context;
  const { rank, size } = group;

  function check(testCase: CollectiveCase, output: Tensor, expected: ElementArray, repeat: number): void {
    const at = firstDifference(output, expected);
    if (at === -1) return;
    const got = output.toNumbers()[at];
    throw new Error(
      `rank ${rank} of ${size}, repeat ${repeat}, ${JSON.stringify(testCase)}: ` +
        `element ${at} is ${got}, expected ${expected[at]} (raw)`,
    );
  }

  function checkFloat64(
    testCase: CollectiveCase,
    output: Tensor,
    exact: readonly number[],
    magnitude: readonly number[],
  ): void {
    const unit = testCase.dtype === "f32" ? 2 ** -23 : testCase.dtype === "f16" ? 2 ** -10 : 2 ** -7;
    output.toNumbers().forEach((value, index) => {
      const bound = (magnitude[index] ?? 0) * size * 2 ** -23 + Math.abs(exact[index] ?? 0) * unit + 2 ** -24;
      if (Math.abs(value - (exact[index] ?? 0)) > bound)
        throw new Error(`rank ${rank}: ${value} is not near ${exact[index]}`);
    });
  }

  const runners: Record<CollectiveCase["op"], (testCase: CollectiveCase, seed: number, repeats: number) => void> = {
    allGather(testCase, seed, repeats) {
      const { dtype, shape, dim, input, output, inPlace } = testCase;
      const length = shape[dim] ?? 0;
      const begin = chunkBegin(length, rank, size);
      const end = chunkBegin(length, rank + 1, size);
      const all = randomValues(dtype, elementCount(shape), seed);
      const own = rawOf(dtype, chunkOf(all, shape, dim, begin, end));
      const expected = rawOf(dtype, all);
      const target = place(heap, dtype, shape, output);
      const chunkShape = shape.map((extent, at) => (at === dim ? end - begin : extent));
      const source = place(heap, dtype, chunkShape, input);
      const from = inPlace ? target.tensor.slice(dim, begin, end) : source.tensor;
      for (let repeat = 0; repeat < repeats; repeat++) {
        target.tensor.fill(POISON);
        writeRaw(from, own);
        group.allGather(from, target.tensor, { dim });
        check(testCase, target.tensor, expected, repeat);
        if (inPlace) continue;
        // Some ranks, others each time, look at large chunks where they lie.
        target.tensor.fill(POISON);
        let isRead = false;
        const read = (chunks: readonly Tensor[]): void => {
          isRead = true;
          if (chunks.length !== size) throw new Error(`rank ${rank} was shown ${chunks.length} chunks`);
          for (const [peer, chunk] of chunks.entries()) {
            const [first, last] = [chunkBegin(length, peer, size), chunkBegin(length, peer + 1, size)];
            check(testCase, chunk, rawOf(dtype, chunkOf(all, shape, dim, first, last)), repeat);
          }
        };
        group.allGather(from, target.tensor, (rank + repeat) % 2 === 0 ? { dim, read } : { dim });
        const left = rawOf(dtype, new Array<number>(expected.length).fill(POISON));
        check(testCase, target.tensor, isRead ? left : expected, repeat);
      }
      source.release();
      target.release();
    },

    /** Two pairs: one of the case's shape and dtype, one as slim as an LSE beside it, in f32. */
    allGatherCoalesced(testCase, seed, repeats) {
      const { dtype, shape, dim, input, output, inPlace } = testCase;
      const length = shape[dim] ?? 0;
      const begin = chunkBegin(length, rank, size);
      const end = chunkBegin(length, rank + 1, size);
      const slim = shape.map((extent, at) => (at === dim ? extent : Math.min(extent, 1)));
      const pairs = [
        { dtype, shape },
        { dtype: "f32" as const, shape: slim },
      ].map((of, which) => {
        const all = randomValues(of.dtype, elementCount(of.shape), seed + which);
        const target = place(heap, of.dtype, of.shape, output);
        const chunkShape = of.shape.map((extent, at) => (at === dim ? end - begin : extent));
        const source = place(heap, of.dtype, chunkShape, input);
        return {
          own: rawOf(of.dtype, chunkOf(all, of.shape, dim, begin, end)),
          expected: rawOf(of.dtype, all),
          from: inPlace ? target.tensor.slice(dim, begin, end) : source.tensor,
          target,
          source,
        };
      });
      for (let repeat = 0; repeat < repeats; repeat++) {
        for (const { target, from, own } of pairs) {
          target.tensor.fill(POISON);
          writeRaw(from, own);
        }
        group.allGatherCoalesced(
          pairs.map(({ from }) => from),
          pairs.map(({ target }) => target.tensor),
          { dim },
        );
        for (const { target, expected } of pairs) check(testCase, target.tensor, expected, repeat);
      }
      for (const { source, target } of pairs) {
        source.release();
        target.release();
      }
    },

    reduceScatter(testCase, seed, repeats) {
      const { dtype, shape, dim, input, output, inPlace, reduction } = testCase;
      const length = shape[dim] ?? 0;
      const begin = chunkBegin(length, rank, size);
      const end = chunkBegin(length, rank + 1, size);
      const count = elementCount(shape);
      const contributions = Array.from({ length: size }, (_, peer) => randomValues(dtype, count, seed + peer));
      const reduced = Array.from({ length: count }, (_, at) =>
        foldReference(
          dtype,
          reduction,
          contributions.map((values) => values[at] ?? 0),
        ),
      );
      const own = rawOf(dtype, contributions[rank] ?? []);
      const expected = rawOf(dtype, chunkOf(reduced, shape, dim, begin, end));
      const source = place(heap, dtype, shape, input);
      const chunkShape = shape.map((extent, at) => (at === dim ? end - begin : extent));
      const target = place(heap, dtype, chunkShape, output);
      const to = inPlace ? source.tensor.slice(dim, begin, end) : target.tensor;
      for (let repeat = 0; repeat < repeats; repeat++) {
        target.tensor.fill(POISON);
        writeRaw(source.tensor, own);
        group.reduceScatter(source.tensor, to, { dim, op: reduction });
        check(testCase, to, expected, repeat);
      }
      source.release();
      target.release();
    },

    allReduce(testCase, seed, repeats) {
      const { dtype, shape, input, output, inPlace, reduction } = testCase;
      const count = elementCount(shape);
      const contributions = Array.from({ length: size }, (_, peer) => randomValues(dtype, count, seed + peer));
      const reduced = Array.from({ length: count }, (_, at) =>
        foldReference(
          dtype,
          reduction,
          contributions.map((values) => values[at] ?? 0),
        ),
      );
      const own = rawOf(dtype, contributions[rank] ?? []);
      const expected = rawOf(dtype, reduced);
      const source = place(heap, dtype, shape, input);
      const target = place(heap, dtype, shape, output);
      const to = inPlace ? source.tensor : target.tensor;
      for (let repeat = 0; repeat < repeats; repeat++) {
        target.tensor.fill(POISON);
        writeRaw(source.tensor, own);
        group.allReduce(source.tensor, to, { op: reduction });
        check(testCase, to, expected, repeat);
        if (!inPlace) check(testCase, source.tensor, own, repeat);
      }
      if (reduction === "sum" && ["f32", "f16", "bf16"].includes(dtype)) {
        const sum = (values: (value: number) => number): number[] =>
          Array.from({ length: count }, (_, at) =>
            contributions.reduce((total, contribution) => total + values(contribution[at] ?? 0), 0),
          );
        checkFloat64(
          testCase,
          to,
          sum((value) => value),
          sum(Math.abs),
        );
      }
      source.release();
      target.release();
    },

    broadcast(testCase, seed, repeats) {
      const { dtype, shape, input, root } = testCase;
      const from = root % size;
      const values = rawOf(dtype, randomValues(dtype, elementCount(shape), seed));
      const target = place(heap, dtype, shape, input);
      for (let repeat = 0; repeat < repeats; repeat++) {
        target.tensor.fill(POISON);
        if (rank === from) writeRaw(target.tensor, values);
        group.broadcast(target.tensor, from);
        check(testCase, target.tensor, values, repeat);
      }
      target.release();
    },

    /**
     * From rank a to rank b goes a tensor of `shape` whose last dimension is split over the ranks and longer by a + 2b.
     */
    allToAll(testCase, seed, repeats) {
      const { dtype, shape, input, output } = testCase;
      const pairShape = (from: number, to: number): number[] =>
        shape.map((extent, at) =>
          at === shape.length - 1 && extent > 0 ? Math.ceil(extent / size) + from + 2 * to : extent,
        );
      const pairValues = (from: number, to: number): ElementArray =>
        rawOf(dtype, randomValues(dtype, elementCount(pairShape(from, to)), seed + 100 * from + to));
      const peers = Array.from({ length: size }, (_, peer) => peer);
      const sent = peers.map((peer) => pairValues(rank, peer));
      const expected = peers.map((peer) => pairValues(peer, rank));
      const sources = peers.map((peer) => place(heap, dtype, pairShape(rank, peer), input));
      const targets = peers.map((peer) => place(heap, dtype, pairShape(peer, rank), output));
      for (let repeat = 0; repeat < repeats; repeat++) {
        for (const { tensor } of targets) tensor.fill(POISON);
        sources.forEach(({ tensor }, peer) => {
          writeRaw(tensor, sent[peer] ?? none);
        });
        group.allToAll(
          sources.map(({ tensor }) => tensor),
          targets.map(({ tensor }) => tensor),
        );
        targets.forEach(({ tensor }, peer) => {
          check(testCase, tensor, expected[peer] ?? none, repeat);
        });
      }
      for (const { release } of [...sources, ...targets]) release();
    },

    /** Each rank publishes two tensors of its own sizes and reads all. */
    readPeers(testCase, seed, repeats) {
      const { dtype, shape, input } = testCase;
      const ownShape = (peer: number): number[] =>
        shape.map((extent, at) => (at === 0 ? Math.ceil(extent / size) + peer : extent));
      const values = Array.from({ length: size }, (_, peer) =>
        [0, 1].map((which) =>
          rawOf(dtype, randomValues(dtype, elementCount(ownShape(peer)), seed + 10 * peer + which)),
        ),
      );
      const own = [0, 1].map(() => place(heap, dtype, ownShape(rank), input));
      const sums: number[] = [];
      for (let repeat = 0; repeat < repeats; repeat++) {
        own.forEach(({ tensor }, which) => {
          writeRaw(tensor, values[rank]?.[which] ?? none);
        });
        sums.push(
          group.readPeers(
            own.map(({ tensor }) => tensor),
            (tensors) => {
              tensors.forEach((published, peer) => {
                published.forEach((tensor, which) => {
                  check(testCase, tensor, values[peer]?.[which] ?? none, repeat);
                });
              });
              return tensors.length;
            },
          ),
        );
      }
      if (sums.some((count) => count !== size)) throw new Error(`readPeers gave ${sums}`);
      const published = own.map(({ tensor }) => tensor);
      const wanted = values.map((of, peer) =>
        of.map((raw) => {
          const placed = place(heap, dtype, ownShape(peer), input);
          writeRaw(placed.tensor, raw);
          return placed;
        }),
      );
      for (let dim = -shape.length; dim < shape.length; dim++) {
        const chunk = (tensor: Tensor): Tensor => {
          const axis = dim < 0 ? dim + shape.length : dim;
          const { start, end } = headRange(tensor.dim(axis), group.rank, size);
          return tensor.slice(axis, start, end);
        };
        group.readPeers(
          published,
          (tensors) => {
            for (const [peer, found] of tensors.entries()) {
              for (const [which, tensor] of found.entries()) {
                const want = chunk(wanted[peer]?.[which]?.tensor ?? tensor);
                const numbers = tensor.toNumbers();
                const at = want.toNumbers().findIndex((value, index) => !Object.is(value, numbers[index]));
                if (at === -1 && want.shape.join() === tensor.shape.join()) continue;
                throw new Error(`rank ${rank} read element ${at} of rank ${peer}'s chunk along ${dim} wrong`);
              }
            }
          },
          { dim },
        );
      }
      for (const { release } of wanted.flat()) release();
      for (const { release } of own) release();
    },
  };

  return {
    /** Runs every case `repeats` times; returns how many ran and the bytes of the heap that were not given back. */
    run(cases: readonly CollectiveCase[], seed: number, repeats: number): { cases: number; leaked: number } {
      const before = heap.usedBytes;
      cases.forEach((testCase, index) => {
        runners[testCase.op](testCase, seed + 1000 * index, repeats);
      });
      return { cases: cases.length, leaked: heap.usedBytes - before };
    },
  };
}
