// Rows of KV caches on their way from rank to rank.
//
// Each round moves the same slots of every part (a layer's keys, values, scales): gathered from the old cache, sent
// with one all-to-all, written to the new one. What a rank tells each peer begins with a header, whose first byte is 1
// when the rank has failed: so all know of it in the same round, and nobody waits for a rank that gave up.
import type { ProcessGroup } from "@lockstep/dist-groups";
import type { KernelBackend } from "@lockstep/kernels";
import { Arena, ArgumentError, DTYPE_BYTES, elementCount, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { KvCaches, RowPart } from "../kv/kv-caches.ts";
import { RedistributeFailed } from "./redistribute-failed.ts";
import type { RedistributeCounts } from "./redistribute-metrics.ts";
import type { RowRun } from "./row-runs.ts";

const HEADER_BYTES = 16;

/** One end of the way of a row. */
export interface CacheEnd {
  readonly backend: KernelBackend;
  readonly caches: KvCaches;
}

/** What moves rows, and how. */
export interface RowMoverOptions {
  readonly group: ProcessGroup;
  readonly heap: SharedHeap;
  /** What this rank stores in the old layout, if anything. */
  readonly source: CacheEnd | undefined;
  /** What it is to store in the new one, if anything. */
  readonly target: CacheEnd | undefined;
  readonly workspaceBytes: number;
  readonly deadlineMs: number | undefined;
  /** Called before each part of a round; what it throws makes the move fail. */
  readonly beforeRound: () => void;
}

/** The least workspace that moves rows of these parts among so many ranks. */
export function leastWorkspace(parts: readonly RowPart[], ranks: number): number {
  return paddingBytes(ranks) + 3 * Math.max(1, ...parts.map(rowBytes));
}

/** Headers, and the gaps between what goes to one peer and to the next. */
function paddingBytes(ranks: number): number {
  return 2 * ranks * 2 * HEADER_BYTES + 4 * 128;
}

function rowBytes({ dtype, shape }: RowPart): number {
  return DTYPE_BYTES[dtype] * elementCount(shape);
}

/** Moves rows between the caches of ranks. Every rank of the group has one, and runs the same rounds. */
export class RowMover implements Disposable {
  /** Most rows that a rank sends, receives or keeps in a round. */
  readonly mostRows: number;
  /** Why this rank cannot go on: the peers hear of it. */
  failure: Error | undefined;
  readonly #options: RowMoverOptions;
  readonly #parts: readonly RowPart[];
  readonly #counts: RedistributeCounts;
  readonly #arena: Arena;
  readonly #send: Tensor;
  readonly #receive: Tensor;
  readonly #mark: number;

  /** @throws ArgumentError when not even a row fits the workspace; HeapExhausted */
  constructor(options: RowMoverOptions, parts: readonly RowPart[], counts: RedistributeCounts) {
    const { group, heap, workspaceBytes } = options;
    this.#options = options;
    this.#parts = parts;
    this.#counts = counts;
    const least = leastWorkspace(parts, group.size);
    if (workspaceBytes < least) {
      const expected = `at least ${least} bytes, which a row takes`;
      throw new ArgumentError("DcpAttention.redistribute", "workspaceBytes", expected, `${workspaceBytes}`);
    }
    const widest = Math.max(1, ...parts.map(rowBytes));
    this.mostRows = Math.floor((workspaceBytes - paddingBytes(group.size)) / (3 * widest));
    const travelling = 2 * group.size * HEADER_BYTES + this.mostRows * widest;
    this.#arena = new Arena(heap, 3 * 128 + 2 * travelling + this.mostRows * widest);
    counts.workspaceBytes = this.#arena.totalBytes;
    this.#send = Tensor.zeros(this.#arena, "u8", [travelling]);
    this.#receive = Tensor.zeros(this.#arena, "u8", [travelling]);
    this.#mark = this.#arena.usedBytes;
  }

  /** Moves the rows of a round, of every part. @param round runs from rank to rank of the group */
  async move(round: readonly RowRun[]): Promise<void> {
    const { group } = this.#options;
    const slots = new RoundSlots(round, group.rank, group.size);
    const { sent, received, kept } = slots;
    this.#counts.rounds++;
    this.#counts.rowsSent += sent.slots.length;
    this.#counts.rowsReceived += received.slots.length;
    this.#counts.rowsKept += kept.from.length;
    for (const part of this.#parts) {
      await this.#attempt(async () => this.#options.beforeRound());
      await this.#keep(part, kept);
      // Where nothing is sent the next exchange, or the last vote, tells of failures.
      if (!slots.crosses) continue;
      await this.#pack(part, sent);
      await this.#exchange(part, slots);
      await this.#attempt(() => this.#unpack(part, received));
    }
  }

  /** Runs what this rank has to do, unless it has failed. What is thrown is told to the peers. */
  async #attempt(act: () => Promise<void>): Promise<void> {
    if (this.failure !== undefined) return;
    try {
      await act();
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
    }
  }

  async #keep(part: RowPart, { from, to }: RoundSlots["kept"]): Promise<void> {
    const rows = await this.#read(part, from);
    await this.#attempt(() => this.#write(part, to, rows));
  }

  async #pack(part: RowPart, { slots, counts }: PeerSlots): Promise<void> {
    const rows = await this.#read(part, slots);
    await this.#attempt(async () => {
      let row = 0;
      const bytes = rowBytes(part);
      for (const { start, count } of placesOf(counts, bytes)) {
        const own = rows.bytes.subarray(row * bytes, (row + count) * bytes);
        this.#send.bytes.set(own, start + HEADER_BYTES);
        row += count;
      }
    });
  }

  async #unpack(part: RowPart, { slots, counts }: PeerSlots): Promise<void> {
    const rows = this.#rows(part, slots.length);
    let row = 0;
    const bytes = rowBytes(part);
    for (const { start, count } of placesOf(counts, bytes)) {
      const from = start + HEADER_BYTES;
      rows.bytes.set(this.#receive.bytes.subarray(from, from + count * bytes), row * bytes);
      row += count;
    }
    await this.#write(part, slots, rows);
  }

  /** @throws this rank's failure, or RedistributeFailed when a peer's header says that it failed */
  async #exchange(part: RowPart, { sent, received }: RoundSlots): Promise<void> {
    const { group, deadlineMs } = this.#options;
    const bytes = rowBytes(part);
    const cut = (buffer: Tensor, { counts }: PeerSlots): Tensor[] =>
      placesOf(counts, bytes).map(({ start, count }) => buffer.slice(0, start, start + HEADER_BYTES + count * bytes));
    const [inputs, outputs] = [cut(this.#send, sent), cut(this.#receive, received)];
    for (const input of inputs) input.bytes.fill(this.failure === undefined ? 0 : 1, 0, 1);
    await group.async.allToAll(inputs, outputs, { deadlineMs });
    this.#counts.bytesSent += sent.slots.length * bytes;
    this.#counts.bytesReceived += received.slots.length * bytes;
    if (this.failure !== undefined) throw this.failure;
    const failed = outputs.flatMap((output, rank) => (output.bytes[0] === 1 ? [rank] : []));
    if (failed.length > 0) throw new RedistributeFailed(failed, "see its error");
  }

  /**
   * Rows of the old cache. Every rank reads as often as every other one, also when it has nothing to read or has failed:
   * for ranks that share a device through one of them that is a collective.
   */
  async #read(part: RowPart, wanted: readonly number[]): Promise<Tensor> {
    const { source, target } = this.#options;
    const end = source ?? target;
    const slots = this.failure === undefined ? wanted : [];
    const rows = this.#rows(part, slots.length);
    if (end === undefined) return rows;
    try {
      await end.backend.gatherKvCache({ cache: end.caches.part(part.name), slots, rows });
    } catch (error) {
      this.failure ??= error instanceof Error ? error : new Error(String(error));
    }
    return rows;
  }

  #rows({ dtype, shape }: RowPart, count: number): Tensor {
    this.#arena.reset(this.#mark);
    return Tensor.empty(this.#arena, dtype, [count, ...shape]);
  }

  async #write({ name }: RowPart, slots: readonly number[], rows: Tensor): Promise<void> {
    const { target } = this.#options;
    if (slots.length === 0) return;
    if (target === undefined) throw new RangeError("a rank without a new cache receives nothing");
    await target.backend.writeKvCache({ key: rows, slotMapping: slots, keyCache: target.caches.part(name) });
  }

  [Symbol.dispose](): void {
    this.#arena.close();
  }
}

/** Slots of this rank's rows, one peer's after another's. */
interface PeerSlots {
  readonly slots: readonly number[];
  /** How many are each peer's. */
  readonly counts: readonly number[];
}

/** What one rank does in a round. */
class RoundSlots {
  /** Whether any rank sends anything. */
  readonly crosses: boolean;
  readonly sent: PeerSlots;
  readonly received: PeerSlots;
  readonly kept: { readonly from: readonly number[]; readonly to: readonly number[] };

  constructor(round: readonly RowRun[], rank: number, size: number) {
    this.crosses = round.some(({ from, to }) => from !== to);
    const sent = Array.from({ length: size }, (): number[] => []);
    const received = Array.from({ length: size }, (): number[] => []);
    const kept = { from: [] as number[], to: [] as number[] };
    for (const { from, fromSlot, to, toSlot, count } of round) {
      for (let at = 0; at < count; at++) {
        if (from === to && from === rank) {
          kept.from.push(fromSlot + at);
          kept.to.push(toSlot + at);
        } else if (from === rank) sent[to]?.push(fromSlot + at);
        else if (to === rank) received[from]?.push(toSlot + at);
      }
    }
    const joined = (lists: readonly number[][]): PeerSlots => {
      return { slots: lists.flat(), counts: lists.map(({ length }) => length) };
    };
    this.sent = joined(sent);
    this.received = joined(received);
    this.kept = kept;
  }
}

/** Where what goes to or comes from each peer begins in a buffer. */
function placesOf(counts: readonly number[], bytes: number): { start: number; count: number }[] {
  let start = 0;
  return counts.map((count) => {
    const place = { start, count };
    start += HEADER_BYTES + Math.ceil((count * bytes) / HEADER_BYTES) * HEADER_BYTES;
    return place;
  });
}
