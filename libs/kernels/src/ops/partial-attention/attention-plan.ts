// What the query tokens of a step see of a paged KV cache. It is the same on every layer: planned and checked once, run
// many times, as FlashInfer's `plan()` and `run()`.
import { ArgumentError, describe, type SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import { checkKvShard, type KvShard, UNSHARDED, visibleRange } from "../../kv/kv-ownership.ts";
import { checkPagedCacheSize, type PagedCacheSize } from "../../kv/paged-cache-size.ts";
import { expectArguments, expectDType, expectInteger, expectList, expectShape, expectTensor } from "../../operand.ts";

/** Local indexes [first, first + count) of a sequence: its positions, unless it is sharded. */
export interface KvSegment {
  /** The first. */
  readonly first: number;
  /** How many. */
  readonly count: number;
}

/** Query tokens of a step, and where the keys lie that they may see. */
export interface AttentionStep {
  /**
   * Blocks of each sequence [B, maxBlocks], i32: entry i of row b holds local indexes [i*blockSize, (i+1)*blockSize).
   */
  readonly blockTable: Tensor;
  /** Row of `blockTable` of each of the T query tokens. */
  readonly sequences: ArrayLike<number>;
  /** Global position of each query token within its sequence; -1 sees nothing. */
  readonly positions: ArrayLike<number>;
  /** Which tokens the cache holds. Default: all of them. */
  readonly shard?: KvShard;
  /**
   * Which of the shard's local indexes (without a shard: positions) the cache holds of the sequence of each row of
   * `blockTable`, when not all of them: they begin at `first`. For workspaces that hold a chunk of a context. Default:
   * all from 0 on.
   */
  readonly segments?: readonly KvSegment[];
  /** Sliding window in global positions: a query sees at most this many positions, its own included. Default: all. */
  readonly window?: number;
}

/** Blocks of sequences: entry (row, column) is element row * rowStride + column * columnStride. */
export interface BlockTable {
  readonly rows: number;
  readonly columns: number;
  readonly elements: ArrayLike<number>;
  readonly rowStride: number;
  readonly columnStride: number;
  /** Where the first element lies in its heap. */
  readonly byteOffset: number;
  /** The tensor that the elements are of. */
  readonly tensor: Tensor;
}

/** What the tokens of a step see, after the checks. */
export interface VisibleKeys {
  readonly tokens: number;
  readonly blockSize: number;
  readonly numBlocks: number;
  readonly table: BlockTable;
  /** Row of the block table of each query token. */
  readonly sequences: Int32Array;
  /** Visible local indexes [start, end) of each query token; both -1 for padding, which sees not even a sink. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
}

/** Throws ArgumentError unless a step fits caches of a size; returns what its tokens see. Copies nothing. */
export function checkAttentionStep(name: string, step: AttentionStep, size: PagedCacheSize): VisibleKeys {
  const { blockTable } = step;
  expectTensor(name, "blockTable", blockTable);
  expectShape(name, "blockTable", blockTable, [null, null]);
  expectDType(name, "blockTable", blockTable, ["i32"]);
  expectList(name, "sequences", step.sequences);
  expectList(name, "positions", step.positions);
  if (step.window !== undefined) expectInteger(name, "window", step.window, 1, 2 ** 31 - 1);
  const shard = step.shard ?? UNSHARDED;
  // A workspace's blocks are none of the ranks' blocks, which turns must not cross.
  checkKvShard(name, shard, step.segments === undefined ? size.blockSize : undefined);
  checkSegments(name, step);
  const [rowStride = 0, columnStride = 0] = blockTable.strides;
  const [rows = 0, columns = 0] = blockTable.shape;
  const { elements, byteOffset } = blockTable;
  const table = { rows, columns, elements, rowStride, columnStride, byteOffset, tensor: blockTable };
  return { ...size, tokens: step.positions.length, table, ...checkRanges(name, step, shard, table, size) };
}

/**
 * A step that was checked, to be run on every layer: `partialAttention({ plan, query, ... })`. It keeps copies of what
 * was checked, in the heap, so that what is given to `planAttention` may change or be freed. Freed by `free()`.
 */
export class AttentionPlan implements Disposable {
  readonly #visible: VisibleKeys;
  readonly #given: Omit<AttentionStep, "blockTable" | "sequences">;
  readonly #memory: Tensor;
  readonly #onFree: () => void;

  /**
   * @param onFree called when it is freed
   * @throws ArgumentError, HeapExhausted
   */
  constructor(step: AttentionStep, size: PagedCacheSize, heap: SharedHeap, onFree: () => void = () => undefined) {
    this.#onFree = onFree;
    const name = "planAttention";
    expectArguments(name, step);
    checkPagedCacheSize(name, size);
    const { table, tokens, sequences, starts, ends, ...rest } = checkAttentionStep(name, step, size);
    const { rows, columns, elements, rowStride, columnStride } = table;
    const { shard, segments, window } = step;
    this.#given = {
      positions: new Int32Array(step.positions),
      ...(shard === undefined ? {} : { shard: structuredClone(shard) }),
      ...(segments === undefined ? {} : { segments: Array.from(segments, (segment) => ({ ...segment })) }),
      ...(window === undefined ? {} : { window }),
    };
    this.#memory = Tensor.empty(heap, "i32", [3 * tokens + rows * columns]);
    const words = this.#memory.i32;
    words.set(sequences, 0);
    words.set(starts, tokens);
    words.set(ends, 2 * tokens);
    for (let row = 0, at = 3 * tokens; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        words[at++] = elements[row * rowStride + column * columnStride] ?? -1;
      }
    }
    const copy = new TableCopy(this.#memory, 3 * tokens, rows, columns);
    this.#visible = { ...rest, tokens, table: copy, sequences, starts, ends };
  }

  /** A copy of the step, for whoever has to check it elsewhere. */
  get step(): AttentionStep {
    const { table, sequences } = this.#visible;
    return { ...this.#given, blockTable: table.tensor, sequences: sequences.slice() };
  }

  /** True for a plan, whatever `value` inherits: a proxy of one is none. */
  static isPlan(value: unknown): value is AttentionPlan {
    return typeof value === "object" && value !== null && #memory in value;
  }

  /** What its tokens see. @throws UseAfterFree */
  get visible(): VisibleKeys {
    if (this.#memory.isFreed) throw new UseAfterFree("partialAttention", "plan", "a plan that was not freed");
    return this.#visible;
  }

  /** Where its copies lie. */
  get heap(): SharedHeap {
    return this.#memory.heap;
  }

  /** Where `sequences`, `starts` and `ends` begin in the heap, in bytes. */
  get byteOffset(): number {
    return this.#memory.byteOffset;
  }

  /** Takes the memory of its copies back. Idempotent. */
  free(): void {
    if (this.#memory.isFreed) return;
    this.#onFree();
    this.#memory.free();
  }

  /** As `free`. */
  [Symbol.dispose](): void {
    this.free();
  }
}

/** A plan's copy of its block table. Views of it are made when they are asked for: the wasm kernels need none. */
class TableCopy implements BlockTable {
  readonly rows: number;
  readonly columns: number;
  readonly rowStride: number;
  readonly columnStride = 1;
  readonly byteOffset: number;
  readonly #memory: Tensor;
  readonly #from: number;
  #tensor: Tensor | undefined;

  /** The elements of `memory` from the index `from` on. */
  constructor(memory: Tensor, from: number, rows: number, columns: number) {
    this.rows = rows;
    this.columns = columns;
    this.rowStride = columns;
    this.byteOffset = memory.byteOffset + 4 * from;
    this.#memory = memory;
    this.#from = from;
  }

  get elements(): Int32Array {
    return this.#memory.i32.subarray(this.#from);
  }

  get tensor(): Tensor {
    const [from, count] = [this.#from, this.rows * this.columns];
    this.#tensor ??= this.#memory.slice(0, from, from + count).reshape([this.rows, this.columns]);
    return this.#tensor;
  }
}

/** Throws ArgumentError unless `plan` is one for caches of this size; returns what its tokens see. */
export function visibleOfPlan(name: string, plan: AttentionPlan, size: PagedCacheSize): VisibleKeys {
  if (!AttentionPlan.isPlan(plan)) {
    throw new ArgumentError(name, "plan", "what planAttention returned", describe(plan));
  }
  const { visible } = plan;
  if (visible.blockSize !== size.blockSize || visible.numBlocks > size.numBlocks) {
    const planned = `a cache of ${visible.numBlocks} blocks of ${visible.blockSize} or more blocks, as was planned`;
    throw new ArgumentError(name, "keyCache", planned, `${size.numBlocks} blocks of ${size.blockSize}`);
  }
  return visible;
}

function checkSegments(name: string, { segments, blockTable }: AttentionStep): void {
  if (segments === undefined) return;
  expectList(name, "segments", segments);
  const rows = blockTable.shape[0] ?? 0;
  if (segments.length !== rows) {
    throw new ArgumentError(name, "segments", `${rows}, one per row of blockTable`, String(segments.length));
  }
  for (let row = 0; row < rows; row++) {
    const segment: unknown = segments[row];
    if (typeof segment !== "object" || segment === null) {
      throw new ArgumentError(name, `segments[${row}]`, "an object with first and count", describe(segment));
    }
    const { first, count } = segment as KvSegment;
    expectInteger(name, `segments[${row}].first`, first, 0, 2 ** 31 - 2);
    expectInteger(name, `segments[${row}].count`, count, 0, 2 ** 31 - 2);
  }
}

/** The part of local indexes [start, end) that a segment holds, relative to its first. */
function withinSegment(start: number, end: number, { first, count }: KvSegment): { start: number; end: number } {
  const stop = Math.min(Math.max(end - first, 0), count);
  return { start: Math.min(Math.max(start - first, 0), stop), end: stop };
}

function checkRanges(
  name: string,
  step: AttentionStep,
  shard: KvShard,
  table: BlockTable,
  { numBlocks, blockSize }: PagedCacheSize,
): { sequences: Int32Array; starts: Int32Array; ends: Int32Array } {
  const { positions } = step;
  const tokens = positions.length;
  if (step.sequences.length !== tokens) {
    throw new ArgumentError(name, "sequences", `${tokens} entries, as many as positions`, `${step.sequences.length}`);
  }
  const sequences = new Int32Array(tokens);
  const starts = new Int32Array(tokens);
  const ends = new Int32Array(tokens);
  const checkedBlocks = new Int32Array(table.rows);
  const { elements, rowStride, columnStride } = table;
  for (let token = 0; token < tokens; token++) {
    const sequence = step.sequences[token] ?? -1;
    expectInteger(name, `sequences[${token}]`, sequence, 0, table.rows - 1);
    const position = positions[token] ?? -2;
    expectInteger(name, `positions[${token}]`, position, -1, 2 ** 31 - 2);
    const visible = visibleRange(shard, position, step.window);
    const segment = step.segments?.[sequence];
    const { start, end } = segment === undefined ? visible : withinSegment(visible.start, visible.end, segment);
    const blocks = Math.ceil(end / blockSize);
    if (blocks > table.columns) {
      throw new ArgumentError(
        name,
        "blockTable",
        `at least ${blocks} blocks wide for position ${position} of sequence ${sequence}`,
        `${table.columns} blocks wide`,
      );
    }
    const first = Math.max(Math.floor(start / blockSize), checkedBlocks[sequence] ?? 0);
    for (let index = start < end ? first : blocks; index < blocks; index++) {
      const block = elements[sequence * rowStride + index * columnStride] ?? -1;
      if (block < 0 || block >= numBlocks) {
        throw new ArgumentError(
          name,
          `blockTable[${sequence}, ${index}]`,
          `from 0 to ${numBlocks - 1}, a block of the cache`,
          String(block),
        );
      }
    }
    if (step.window === undefined) checkedBlocks[sequence] = Math.max(checkedBlocks[sequence] ?? 0, blocks);
    sequences[token] = sequence;
    starts[token] = position < 0 ? -1 : start;
    ends[token] = position < 0 ? -1 : end;
  }
  return { sequences, starts, ends };
}
