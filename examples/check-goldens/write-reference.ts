// `bun write-reference.ts FILE`: writes inputs and what attention.ts makes of them as a reference file. With `--wrong`
// one number is off, as a bug would have it.
import { SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { attend, type Case } from "./attention.ts";

const CASES: readonly Case[] = [
  { lens: [5, 0, 70], queryHeads: 8, kvHeads: 2, headDim: 64 },
  { lens: [33], queryHeads: 4, kvHeads: 4, headDim: 113 },
];

const [path = "mine.safetensors"] = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const isWrong = process.argv.includes("--wrong");

/** The same numbers on every run, in [-2, 2), which f32 holds exactly: xorshift32. */
function numbersFrom(seed: number): (count: number) => Float64Array {
  let state = seed;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >> 12) / 2 ** 18;
  };
  return (count) => Float64Array.from({ length: count }, next);
}

const heap = SharedHeap.create(16 << 20);
const numbers = numbersFrom(7);
const tensors = CASES.flatMap((c, index): [string, Tensor][] => {
  const { lens, queryHeads, kvHeads, headDim } = c;
  const tokens = lens.reduce((sum, length) => sum + length, 0);
  const query = numbers(lens.length * queryHeads * headDim);
  const [keys, values] = [numbers(tokens * kvHeads * headDim), numbers(tokens * kvHeads * headDim)];
  const { out, lse } = attend(c, query, keys, values);
  if (isWrong && index === 0) out[3] = (out[3] ?? 0) + 0.01;
  const tensor = (shape: readonly number[], values: Float64Array): Tensor => Tensor.from(heap, "f32", shape, values);
  return [
    [`a${index}.q`, tensor([lens.length, queryHeads, headDim], query)],
    [`a${index}.k`, tensor([tokens, kvHeads, headDim], keys)],
    [`a${index}.v`, tensor([tokens, kvHeads, headDim], values)],
    [`a${index}.out`, tensor([lens.length, queryHeads, headDim], out)],
    [`a${index}.lse`, tensor([lens.length, queryHeads], lse)],
  ];
});
writeSafetensors(path, tensors, { cases: JSON.stringify(CASES.map(({ lens }) => ({ lens }))) });
