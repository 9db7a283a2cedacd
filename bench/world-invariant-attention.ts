import { openBackend } from "@lockstep/kernels";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { printTable } from "./print-table.ts";
import { repeatableTensor } from "./repeatable-tensor.ts";
import { formatSeconds } from "./timing.ts";

/** Decode attention of one query token for each of some sequences. */
interface Row {
  readonly dtype: DType;
  readonly batch: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly valueDim: number;
  readonly length: number;
  /** Values are the keys' first columns. */
  readonly mla?: boolean;
}

const ROWS: readonly Row[] = [
  ...(["f32", "f16", "bf16"] as const).map((dtype) => gqa(dtype, 1, 32, 8, 128, 16_384)),
  gqa("f16", 1, 8, 8, 128, 16_384),
  gqa("f16", 1, 64, 8, 64, 16_384),
  gqa("f16", 8, 32, 8, 128, 2_048),
  { dtype: "bf16", batch: 1, queryHeads: 16, kvHeads: 1, dim: 576, valueDim: 512, length: 16_384, mla: true },
];
const BLOCK_SIZE = 16;
/** Pairs of runs, one of each kind in turn; the median of their ratios counts. */
const PAIRS = 15;
/** Scores are kept from the first pass to the second up to so many, as DcpAttention keeps them. */
const MOST_KEPT_SCORES = 2 ** 20;
const TOLERANCE = 1e-5;

function gqa(dtype: DType, batch: number, queryHeads: number, kvHeads: number, dim: number, length: number): Row {
  return { dtype, batch, queryHeads, kvHeads, dim, valueDim: dim, length };
}

/**
 * What world-invariant decode attention costs on wasm beside plain attention: bounds, sums and results against one
 * partialAttention, on one thread, in turn. Outputs and LSEs of both are compared.
 */
export async function benchWorldInvariantAttention(): Promise<void> {
  const heap = SharedHeap.create(512 << 20);
  await using backend = await openBackend("wasm", { heap });
  console.log("\nDecode attention on wasm, one thread: world-invariant beside plain, results compared");
  const table: string[][] = [];
  for (const row of ROWS) {
    const { dtype, batch, queryHeads, kvHeads, dim, valueDim, length, mla = false } = row;
    const blocks = Math.ceil(length / BLOCK_SIZE);
    const keyCache = repeatableTensor(heap, dtype, [batch * blocks, BLOCK_SIZE, kvHeads, dim], 1);
    const valueShape = [batch * blocks, BLOCK_SIZE, kvHeads, valueDim];
    const valueCache = mla ? keyCache.slice(3, 0, valueDim) : repeatableTensor(heap, dtype, valueShape, 2);
    const query = repeatableTensor(heap, "f32", [batch, queryHeads, dim], 3);
    const numbers = Array.from({ length: batch * blocks }, (_, block) => block);
    const blockTable = Tensor.from(heap, "i32", [batch, blocks], numbers);
    const plan = backend.planAttention(
      {
        blockTable,
        sequences: Int32Array.from({ length: batch }, (_, sequence) => sequence),
        positions: new Int32Array(batch).fill(length - 1),
      },
      { numBlocks: batch * blocks, blockSize: BLOCK_SIZE },
    );
    const inputs = { query, keyCache, valueCache, plan };
    const results = () => ({
      out: Tensor.zeros(heap, "f32", [batch, queryHeads, valueDim]),
      lse: Tensor.zeros(heap, "f32", [batch, queryHeads]),
    });
    const [plain, invariant] = [results(), results()];
    const bounds = Tensor.zeros(heap, "f32", [3, batch, queryHeads]);
    const sums = Tensor.zeros(heap, "i32", [batch, queryHeads, valueDim + 1, 2]);
    const keepsScores = batch * queryHeads * length <= MOST_KEPT_SCORES;
    const kept = keepsScores ? Tensor.zeros(heap, "f32", [batch, queryHeads, length]) : undefined;
    const scores = kept === undefined ? {} : { scores: kept };
    const runPlain = (): void => void backend.partialAttention({ ...inputs, ...plain });
    const runBounds = (): void => void backend.attentionBounds({ ...inputs, ...scores, bounds });
    const runSums = (): void => void backend.latticeSums({ ...inputs, ...scores, bounds, sums });
    const runInvariant = (): void => {
      runBounds();
      runSums();
      void backend.finishLattice({ bounds, sums, ...invariant });
    };
    for (let warm = 0; warm < 3; warm++) for (const run of [runPlain, runInvariant]) run();
    expectClose(row, plain.out, invariant.out);
    expectClose(row, plain.lse, invariant.lse);
    const pairs = Array.from({ length: PAIRS }, () => [timed(runPlain), timed(runInvariant)] as const);
    const [ofPlain, ofInvariant, ratio] = [
      median(pairs.map(([time]) => time)),
      median(pairs.map(([, time]) => time)),
      median(pairs.map(([before, after]) => after / before)),
    ];
    const heads = `B${batch} Hq${queryHeads} Hkv${kvHeads} L${length} D${dim} ${mla ? "MLA " : ""}${dtype}`;
    table.push([heads, keepsScores ? "kept" : "twice", formatSeconds(ofPlain), formatSeconds(ofInvariant)]);
    const parts = [runBounds, runSums].map((run) => median(Array.from({ length: PAIRS }, () => timed(run))));
    table.at(-1)?.push(ratio.toFixed(2), ...parts.map(formatSeconds));
    plan.free();
    for (const tensor of [keyCache, query, blockTable, bounds, sums, ...Object.values(plain)]) tensor.free();
    for (const tensor of Object.values(invariant)) tensor.free();
    if (!mla) valueCache.free();
    kept?.free();
  }
  printTable(["step", "scores", "plain", "invariant", "times as long", "bounds", "sums"], table);
}

function timed(run: () => void): number {
  const started = performance.now();
  run();
  return (performance.now() - started) / 1e3;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function expectClose(row: Row, wanted: Tensor, got: Tensor): void {
  const numbers = got.toNumbers();
  for (const [index, value] of wanted.toNumbers().entries()) {
    const found = numbers[index] ?? Number.NaN;
    if (Math.abs(found - value) <= TOLERANCE * (1 + Math.abs(value))) continue;
    throw new Error(`${JSON.stringify(row)}: element ${index} is ${found} instead of ${value}`);
  }
}
