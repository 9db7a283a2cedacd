// Read peers: every rank publishes its tensors, reads every rank's tensors where they lie, and returns when all have
// read.
//
// Two rounds: publish tensor records; read; acknowledge. No byte is copied. Nobody may change a published tensor before
// its call returns, and nobody may keep a view after it.

import { ArgumentError, describe, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import type { SliceExchange } from "../transport/transport.ts";
import { NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { isViewOfRecord, viewOfRecord, WHOLE_TENSOR } from "../wire/record-view.ts";
import { recordShape, recordWord, TENSOR_RECORD_WORDS, writeTensorRecord } from "../wire/tensor-record.ts";
import { checkAllLive, checkDim, checkDimNumber, checkOptions, checkTensor } from "./arguments.ts";
import { giveAll } from "./give-all.ts";
import { giveChunks } from "./give-chunks.ts";
import { chunkOf } from "./record-chunk.ts";
import type { ReadOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "readPeers";

/** What readers of all, or of chunks along a dimension, announce: its number from 1 on, or from the end. */
function signatureAlong(dim: number | undefined): number {
  const axis = dim === undefined ? 0 : dim < 0 ? dim : dim + 1;
  return signatureOf(OP_CODES.readPeers, NO_CODE, NO_CODE, axis & 0xff, 1);
}

export class ReadPeers implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #shape = [0];
  /** Views of the last call, taken again when a peer publishes the same tensors. */
  readonly #views: (readonly Tensor[])[];
  #result: unknown;
  #own: readonly Tensor[] = [];
  #dim: number | undefined;
  #read: ((tensors: readonly (readonly Tensor[])[]) => unknown) | undefined;

  constructor(member: GroupMember) {
    this.#member = member;
    this.#views = member.run.ranks.map(() => []);
  }

  prepare(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => unknown,
    options?: ReadOptions,
  ): void {
    checkOptions(OP, options);
    checkAllLive(OP, "own", own);
    const bytesRead = options?.bytesRead ?? 0;
    const dim = options?.dim;
    if (dim !== undefined) checkDimNumber(OP, dim);
    const { run, transport, heap } = this.#member;
    const { words } = transport;
    const most = Math.floor(transport.stagingBytes / (4 * TENSOR_RECORD_WORDS));
    if (typeof read !== "function") throw new ArgumentError(OP, "read", "a function", describe(read));
    if (!(Number.isFinite(bytesRead) && bytesRead >= 0)) {
      throw new ArgumentError(OP, "bytesRead", "a number of bytes", describe(bytesRead));
    }
    if (own.length > most) {
      throw new ArgumentError(OP, "own", `at most ${most} tensors`, `${own.length} tensors`);
    }
    for (let at = 0; at < own.length; at++) {
      const tensor = own[at];
      if (tensor === undefined) continue;
      checkTensor(OP, "own", tensor, heap);
      if (dim !== undefined) checkDim(OP, dim, tensor);
    }
    this.#shape[0] = own.length;
    run.begin(OP, signatureAlong(dim), this.#shape, 0, options?.deadlineMs);
    for (let at = 0; at < own.length; at++) {
      const tensor = own[at];
      if (tensor !== undefined) writeTensorRecord(words, recordWord(transport.staging(run.rank), at), tensor);
    }
    transport.fill(own.length * TENSOR_RECORD_WORDS * 4);
    this.#own = own;
    this.#dim = dim;
    this.#read = read;
    this.bytesReceived = bytesRead;
  }

  /** Without a shared memory all of every tensor travels, or chunks of a dimension, whatever `read` takes of it. */
  transfer(round: number, slices: SliceExchange): boolean {
    if (round > 0) return false;
    const dim = this.#dim;
    for (let at = 0; at < this.#own.length; at++) {
      if (dim === undefined) giveAll(this.#member, slices, at);
      else giveChunks(this.#member, slices, at, dim);
    }
    return true;
  }

  advance(round: number): boolean {
    if (round > 0) return false;
    const { run } = this.#member;
    for (let peer = 0; peer < run.size; peer++) {
      const isWhole = peer === run.rank && this.#dim === undefined;
      this.#views[peer] = isWhole ? this.#own : this.#viewsOf(peer);
    }
    const read = this.#read;
    this.#read = undefined;
    const result: unknown = read?.(this.#views);
    // What it does later reads tensors that their ranks may have changed.
    if (result instanceof Promise)
      throw new ArgumentError(OP, "read", "synchronous", "a function that returns a promise");
    this.#result = result;
    return true;
  }

  /** What `read` returned, once. */
  result(): unknown {
    const result = this.#result;
    this.#result = undefined;
    return result;
  }

  #viewsOf(peer: number): readonly Tensor[] {
    const { transport } = this.#member;
    const staging = transport.staging(peer);
    const before = this.#views[peer] ?? [];
    const count = this.#own.length;
    let same = before.length === count;
    for (let at = 0; same && at < count; at++) {
      const view = before[at];
      same = view !== undefined && this.#isView(recordWord(staging, at), view);
    }
    return same ? before : this.#makeViews(staging, count);
  }

  /** Apart from {@link #viewsOf}, whose every call would allocate what a closure captures. */
  #makeViews(staging: number, count: number): readonly Tensor[] {
    const { transport, heap, run } = this.#member;
    const { words } = transport;
    return Array.from({ length: count }, (_, at) => {
      const record = recordWord(staging, at);
      const range = this.#dim === undefined ? WHOLE_TENSOR : chunkOf(words, record, this.#dim, run.rank, run.size);
      return viewOfRecord(words, record, heap, range);
    });
  }

  /** True when a view is exactly what is read of a record. */
  #isView(record: number, view: Tensor): boolean {
    const { run, transport } = this.#member;
    const { words } = transport;
    if (this.#dim === undefined) return isViewOfRecord(words, record, view, -1, 0, 0);
    // As chunkOf says, without an object for each look.
    const dims = (words[record] ?? 0) >>> 8;
    const axis = this.#dim < 0 ? this.#dim + dims : this.#dim;
    const length = words[recordShape(record) + axis] ?? 0;
    const start = firstOfChunk(length, run.rank, run.size);
    const count = firstOfChunk(length, run.rank + 1, run.size) - start;
    return isViewOfRecord(words, record, view, axis, start, count);
  }
}
