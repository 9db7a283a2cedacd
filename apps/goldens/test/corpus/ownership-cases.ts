// Groups of ranks, shares of lengths, cache slots.
import { Random } from "../../../../libs/kernels/src/testing/random.ts";
import type { CorpusBuilder } from "./corpus-builder.ts";
import type { OpParameters, Values } from "./corpus-values.ts";

const integers = (numbers: readonly number[]): Values => ({ dtype: "i32", shape: [numbers.length], numbers });

/** Adds all of them. */
export function addOwnershipCases(builder: CorpusBuilder): void {
  addGroups(builder);
  addLengths(builder);
  addRanges(builder);
  addSlots(builder);
}

function addGroups(builder: CorpusBuilder): void {
  const add = (layout: "classic" | "orthogonal", tp: number, pcp: number, dcp: number, dp = 1): void => {
    const name = `kv_groups/${layout}-${dp > 1 ? `dp${dp}-` : ""}tp${tp}-pcp${pcp}-dcp${dcp}`;
    builder.add({ name, op: "kv_groups", parameters: { layout, dp, pcp, tp, dcp }, inputs: {} });
  };
  for (const [tp, pcp, dcp] of [
    [1, 1, 1],
    [4, 1, 2],
    [8, 1, 4],
    [8, 1, 8],
    [4, 2, 2],
    [2, 2, 2],
    [6, 1, 3],
  ] as const) {
    add("classic", tp, pcp, dcp);
  }
  for (const [tp, pcp, dcp] of [
    [2, 2, 1],
    [2, 2, 2],
    [2, 2, 4],
    [4, 2, 2],
    [4, 2, 8],
    [3, 2, 6],
  ] as const) {
    add("orthogonal", tp, pcp, dcp);
  }
  add("classic", 4, 1, 2, 2);
  add("orthogonal", 2, 2, 4, 2);
  const refuse = (name: string, parameters: OpParameters, why: string): void => {
    builder.add({ name: `kv_groups/${name}`, op: "kv_groups", parameters, inputs: {}, refuse: why });
  };
  refuse(
    "classic-dcp-no-divisor",
    { layout: "classic", dp: 1, pcp: 1, tp: 4, dcp: 3 },
    "DCP must divide TP in the classic layout.",
  );
  refuse(
    "orthogonal-dcp-of-neither",
    { layout: "orthogonal", dp: 1, pcp: 2, tp: 4, dcp: 4 },
    "DCP must be 1, PCP or TP * PCP in the orthogonal layout.",
  );
}

function addLengths(builder: CorpusBuilder): void {
  const lengths = integers([0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 2049]);
  const add = (name: string, parameters: OpParameters): void => {
    builder.add({ name: `local_lengths/${name}`, op: "local_lengths", parameters, inputs: { lengths } });
  };
  for (const [world, interleave] of [
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 4],
    [5, 2],
    [8, 16],
    [7, 64],
  ] as const) {
    add(`world-${world}-interleave-${interleave}`, { world, interleave });
  }
  add("weights-3-1", { world: 2, interleave: 1, weights: [3, 1] });
  add("weights-2-0-1", { world: 3, interleave: 4, weights: [2, 0, 1] });
  builder.add({
    name: "local_lengths/weights-of-nobody",
    op: "local_lengths",
    parameters: { world: 2, interleave: 1, weights: [0, 0] },
    inputs: { lengths },
    refuse: "All weights are 0: no rank stores anything.",
  });
}

/** Chunks of contexts, whose borders lie within turns, at their ends, and between blocks. */
function addRanges(builder: CorpusBuilder): void {
  const borders = [0, 1, 4, 6, 7, 16, 17, 30, 32, 33, 64, 100];
  const [starts, ends] = [integers(borders.slice(0, -1)), integers(borders.slice(1))];
  const add = (name: string, parameters: OpParameters): void => {
    builder.add({ name: `local_ranges/${name}`, op: "local_ranges", parameters, inputs: { starts, ends } });
  };
  for (const [world, interleave] of [
    [1, 1],
    [2, 1],
    [3, 2],
    [4, 4],
    [2, 16],
  ] as const) {
    add(`world-${world}-interleave-${interleave}`, { world, interleave });
  }
  add("weights-3-1", { world: 2, interleave: 2, weights: [3, 1] });
  add("weights-2-0-1", { world: 3, interleave: 1, weights: [2, 0, 1] });
}

function addSlots(builder: CorpusBuilder): void {
  const random = new Random(20_250_703);
  const add = (name: string, parameters: OpParameters & { readonly world: number; readonly block_size: number }) => {
    const { world, block_size: size, weights } = parameters;
    const covered = size * (weights?.reduce((sum, weight) => sum + weight, 0) ?? world);
    const table = random.permutation(20).slice(0, 3);
    const positions = Array.from({ length: Math.min(3 * covered, 60) }, (_, index) =>
      3 * covered <= 60 ? index : random.integer(3 * covered),
    );
    const inputs = { positions: integers(positions), block_table: integers(table) };
    builder.add({ name: `slot_mapping/${name}`, op: "slot_mapping", parameters, inputs });
  };
  for (const [world, interleave, size] of [
    [1, 1, 4],
    [2, 1, 4],
    [2, 2, 4],
    [3, 4, 4],
    [4, 2, 6],
    [5, 1, 16],
    [8, 16, 16],
  ] as const) {
    add(`world-${world}-interleave-${interleave}-blocks-of-${size}`, { world, interleave, block_size: size });
  }
  add("weights-3-1", { world: 2, interleave: 2, block_size: 4, weights: [3, 1] });
  add("weights-2-0-1", { world: 3, interleave: 1, block_size: 2, weights: [2, 0, 1] });
  const refuse = (name: string, parameters: OpParameters, positions: readonly number[], why: string): void => {
    const inputs = { positions: integers(positions), block_table: integers([5, 2]) };
    builder.add({ name: `slot_mapping/${name}`, op: "slot_mapping", parameters, inputs, refuse: why });
  };
  refuse(
    "interleave-no-divisor",
    { world: 2, interleave: 3, block_size: 4 },
    [0, 1],
    "The interleave must divide the block size.",
  );
  refuse(
    "table-too-short",
    { world: 2, interleave: 1, block_size: 4 },
    [3, 16],
    "Position 16 needs a third block; the table has two.",
  );
}
