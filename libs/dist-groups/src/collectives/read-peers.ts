// Read peers: every rank publishes its tensors, reads every rank's tensors where they lie, and returns when all have
// read.
//
// Two rounds: publish tensor records; read; acknowledge. No byte is copied. Nobody may change a published tensor before
// its call returns, and nobody may keep a view after it.

import { ArgumentError, DTYPES, describe, Tensor } from "@lockstep/tensor";
import type { SliceExchange } from "../transport/transport.ts";
import { MAX_DIMS, NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { recordAddress, recordWord, TENSOR_RECORD_WORDS, writeTensorRecord } from "../wire/tensor-record.ts";
import { checkAllLive, checkOptions, checkTensor } from "./arguments.ts";
import { giveAll } from "./give-all.ts";
import type { ReadOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "readPeers";
const SIGNATURE = signatureOf(OP_CODES.readPeers, NO_CODE, NO_CODE, 0, 1);

export class ReadPeers implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #shape = [0];
  /** Views of the last call, taken again when a peer publishes the same tensors. */
  readonly #views: (readonly Tensor[])[];
  #result: unknown;
  #own: readonly Tensor[] = [];
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
      if (tensor !== undefined) checkTensor(OP, "own", tensor, heap);
    }
    this.#shape[0] = own.length;
    run.begin(OP, SIGNATURE, this.#shape, 0, options?.deadlineMs);
    for (let at = 0; at < own.length; at++) {
      const tensor = own[at];
      if (tensor !== undefined) writeTensorRecord(words, recordWord(transport.staging(run.rank), at), tensor);
    }
    transport.fill(own.length * TENSOR_RECORD_WORDS * 4);
    this.#own = own;
    this.#read = read;
    this.bytesReceived = bytesRead;
  }

  /** Without a shared memory all of every tensor travels, whatever `read` takes of it. */
  transfer(round: number, slices: SliceExchange): boolean {
    if (round > 0) return false;
    for (let at = 0; at < this.#own.length; at++) giveAll(this.#member, slices, at);
    return true;
  }

  advance(round: number): boolean {
    if (round > 0) return false;
    const { run } = this.#member;
    for (let peer = 0; peer < run.size; peer++) {
      this.#views[peer] = peer === run.rank ? this.#own : this.#viewsOf(peer);
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
    const { words } = transport;
    const staging = transport.staging(peer);
    const before = this.#views[peer] ?? [];
    const count = this.#own.length;
    let same = before.length === count;
    for (let at = 0; same && at < count; at++) {
      const view = before[at];
      same = view !== undefined && isView(words, recordWord(staging, at), view);
    }
    return same ? before : this.#makeViews(staging, count);
  }

  /** Apart from {@link #viewsOf}, whose every call would allocate what a closure captures. */
  #makeViews(staging: number, count: number): readonly Tensor[] {
    const { transport, heap } = this.#member;
    const { words } = transport;
    return Array.from({ length: count }, (_, at) => {
      const record = recordWord(staging, at);
      const head = words[record] ?? 0;
      const dims = Array.from({ length: head >>> 8 }, (_, dim) => record + 2 + dim);
      return Tensor.fromDescriptor(
        {
          dtype: DTYPES[head & 0xff] ?? "u8",
          shape: dims.map((word) => words[word] ?? 0),
          strides: dims.map((word) => words[word + MAX_DIMS] ?? 0),
          heapId: heap.id,
          byteOffset: recordAddress(words, record),
        },
        heap,
      );
    });
  }
}

/** True when a record describes exactly this view. */
function isView(words: Int32Array, record: number, view: Tensor): boolean {
  const { shape, strides } = view;
  const head = words[record] ?? 0;
  if (DTYPES[head & 0xff] !== view.dtype || head >>> 8 !== shape.length) return false;
  if (recordAddress(words, record) !== view.byteOffset) return false;
  for (let dim = 0; dim < shape.length; dim++) {
    if (words[record + 2 + dim] !== shape[dim] || words[record + 2 + MAX_DIMS + dim] !== strides[dim]) return false;
  }
  return true;
}
