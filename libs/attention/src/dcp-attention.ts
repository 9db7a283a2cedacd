import type { Completion, KvShard, Operand } from "@lockstep/kernels";
import { ArgumentError, describe, ResourceClosed, SharedHeap, type Tensor } from "@lockstep/tensor";
import { isOnGpu, withHeapOperands } from "./arguments/operand-memory.ts";
import { type DcpAttentionMetrics, ReceivedBytes } from "./dcp-attention-metrics.ts";
import { after } from "./decode/after.ts";
import { DecodeAttention } from "./decode/decode-attention.ts";
import { NonFiniteKeyValue, StepOrderError } from "./errors.ts";
import type { BlockCounts } from "./kv/block-manager.ts";
import type { ContextImage } from "./kv/context-image.ts";
import { type CachePart, KvCaches, type RowPart, type RowScales } from "./kv/kv-caches.ts";
import { KvSequences } from "./kv/kv-sequences.ts";
import type { GiveBlock, PendingPrefixes, PrefixBlock, TakeBlock } from "./kv/prefix-transfer.ts";
import { TransferHold } from "./kv/transfer-hold.ts";
import { commonSequences } from "./kv/step-agreement.ts";
import { checkStepItems, type StepItem, type StepPlan } from "./kv/step-plan.ts";
import { checkSinks } from "./options/attention-variant.ts";
import { agreeOnOptions } from "./options/agreed-options.ts";
import { agreedOverlap } from "./options/agreed-overlap.ts";
import { type CacheLayout, cacheLayout } from "./options/cache-layout.ts";
import type { DcpAttentionOptions } from "./options/dcp-attention-options.ts";
import { type ResolvedOptions, resolveOptions, withGroups } from "./options/resolved-options.ts";
import { agreedBorder } from "./prefill/chunk-border.ts";
import { Prefill } from "./prefill/prefill.ts";
import type { PrefillPlan } from "./prefill/prefill-plan.ts";
import { adoptImage, isUntouched, readRows, writeRows } from "./redistribute/context-rows.ts";
import type { ContextPart } from "./redistribute/move-context.ts";
import type { RedistributeMetrics } from "./redistribute/redistribute-metrics.ts";
import { checkMoveOptions, type MoveOptions } from "./redistribute/redistribute-options.ts";
import type { RedistributeUnsettled } from "./redistribute/redistribute-unsettled.ts";
import { type MovingAttention, runRedistribute } from "./redistribute/run-redistribute.ts";

/** Options of {@link DcpAttention.redistribute}. */
export interface RedistributeOptions extends MoveOptions {
  /** This rank's attention of the old layout. Left out on a rank that has no part of it. */
  readonly from?: DcpAttention;
}

/** A context that has moved. */
export interface Redistributed {
  /** This rank's attention of the new layout; undefined where it has no part of that. The caller closes it. */
  readonly attention: DcpAttention | undefined;
  /** What this rank sent, received and kept. */
  readonly metrics: RedistributeMetrics;
}

/**
 * Attention of one rank over a KV cache sharded by tokens. It owns the rank's shard of every layer (paged blocks, slot
 * mapping, interleave), stores new tokens and runs steps: all-gather of the query, partial attention of all heads over
 * the rank's own tokens, combine by LSE, which leaves the rank its own heads.
 *
 * Queries, keys, values and results lie in a heap of any memory, or on the GPU of a webgpu backend. A rank alone, whose
 * operands all lie on its GPU, leaves them there: nothing is downloaded between the layers of a step. Several ranks
 * exchange tensors of `heap`, so what lies elsewhere is copied.
 *
 * Every rank of the group makes the same calls in the same order: `beginStep`, then for each layer `forward` (or
 * `write` and `attend`), then `endStep`.
 */
export class DcpAttention {
  /** Which tokens of every sequence this rank stores. */
  readonly shard: KvShard;
  #options: ResolvedOptions;
  readonly #sequences: KvSequences;
  readonly #caches: KvCaches;
  /** Positions at whose multiples a prefill may cut contexts. */
  readonly #border: number;
  #decode: DecodeAttention;
  #prefill: Prefill | undefined;
  /** Why the step under way cannot end: see {@link NonFiniteKeyValue}. */
  #refusal: NonFiniteKeyValue | undefined;
  readonly #transfer = new TransferHold();
  #steps = 0;
  readonly #received: ReceivedBytes;
  #closed = false;
  /** Contexts of which nobody knows whether the old one or the new one counts, by what told it. */
  static readonly #unsettled = new WeakMap<
    RedistributeUnsettled,
    { readonly old: DcpAttention | undefined; readonly new: DcpAttention | undefined }
  >();

  private constructor(options: ResolvedOptions, caches: KvCaches, border: number) {
    const { cache, groups, heap } = options;
    this.#options = options;
    this.shard = groups.shard;
    this.#caches = caches;
    this.#border = border;
    this.#sequences = new KvSequences(groups.shard, caches, cache, heap);
    const { decode, prefill } = openSteps(options, caches, border);
    this.#decode = decode;
    this.#prefill = prefill;
    this.#received = new ReceivedBytes(groups);
  }

  /**
   * Allocates the caches. Every rank of the groups calls this together.
   * @throws ArgumentError for options that do not go together, OptionsDisagree on every rank when they differ between
   *   ranks, HeapExhausted when they do not fit, the groups' errors when ranks do not come; nothing stays allocated
   */
  static open(options: DcpAttentionOptions): DcpAttention {
    return DcpAttention.#openResolved(resolveOptions(options));
  }

  static #openResolved(given: ResolvedOptions): DcpAttention {
    agreeOnOptions(given);
    const resolved = { ...given, exchange: { ...given.exchange, overlap: agreedOverlap(given) } };
    const border = resolved.steps.prefillChunk === undefined ? 1 : agreedBorder(resolved);
    const caches = openCaches(resolved);
    try {
      return new DcpAttention(resolved, caches, border);
    } catch (error) {
      caches.free();
      throw error;
    }
  }

  /**
   * Moves a live context to another layout: other ranks or another number of them, interleave, weights, block size,
   * number of blocks. Nothing is computed again. A row whose rank changes is sent once, one that stays is copied where
   * it is. Every rank of the group calls it together, between steps; a rank may be in the old layout, in the new one, or
   * in both. It needs room for both caches until it ends.
   *
   * Kept are the ids of sequences, their tokens and blocks that they share; and with a prefixCache in both, known
   * prefixes, as far as full blocks of the new size go and find room, those used last first. What a row is must be the
   * same: layers, KV heads of a rank, head dims, dtype and scales.
   *
   * Until all ranks have all that is theirs, and know that of each other, `from` is untouched and goes on after a
   * failure, if need be with `useGroups`; nothing is left of the new one then. After that `from` is closed.
   * Where the very last exchange fails, some may have returned, and the others have both: RedistributeUnsettled, after
   * which {@link DcpAttention.settle} keeps one of them.
   * @returns when all ranks are done
   * @throws ArgumentError where the options are no options, and nobody is told; on every rank: this rank's own error,
   *   or RedistributeFailed, which names who failed; OutOfBlocks when sequences do not fit the new caches; errors of
   *   {@link DcpAttention.open}; the group's errors when ranks die or do not come
   */
  static async redistribute(options: RedistributeOptions): Promise<Redistributed> {
    checkMoveOptions(options);
    const { from, ...move } = options;
    const name = "DcpAttention.redistribute";
    if (from !== undefined && !(from instanceof DcpAttention)) {
      throw new ArgumentError(name, "from", "a DcpAttention", describe(from));
    }
    const heap = from === undefined ? move.to?.heap : from.#options.heap;
    if (!(heap instanceof SharedHeap)) {
      const expected = "given, or options of the new layout with a SharedHeap";
      throw new ArgumentError(name, "from", expected, describe(from));
    }
    const source = from === undefined ? undefined : from.#moving;
    const open = (resolved: ResolvedOptions): MovingAttention<DcpAttention> =>
      DcpAttention.#openResolved(resolved).#moving;
    return await runRedistribute(move, heap, source, open, (error, opened) => {
      DcpAttention.#unsettled.set(error, { old: from, new: opened });
    });
  }

  /**
   * Ends what {@link DcpAttention.redistribute} left open on this rank when its last exchange failed: keeps one context
   * and closes the other. Where the call returned on any rank, all others that it reached have the new context whole: all
   * are to keep the "new" one. Where it returned on none, all have the old one whole: all are to keep the "old" one.
   * Concerns this rank alone.
   * @param error what redistribute threw on this rank
   * @returns the attention that goes on, undefined where this rank has no part of its layout; if groups of it were
   *   aborted, with `useGroups`
   * @throws ArgumentError for an error that left nothing open, or has been settled
   */
  static settle(error: RedistributeUnsettled, keep: "old" | "new"): DcpAttention | undefined {
    const name = "DcpAttention.settle";
    const both = DcpAttention.#unsettled.get(error);
    if (both === undefined) {
      throw new ArgumentError(
        name,
        "error",
        "a RedistributeUnsettled of this rank that is not settled",
        describe(error),
      );
    }
    if (keep !== "old" && keep !== "new") throw new ArgumentError(name, "keep", '"old" or "new"', describe(keep));
    DcpAttention.#unsettled.delete(error);
    for (const attention of [both.old, both.new]) if (attention !== undefined) attention.#transfer.hold(undefined);
    const [kept, left] = keep === "old" ? [both.old, both.new] : [both.new, both.old];
    left?.close();
    return kept;
  }

  /** This as a move sees it. */
  get #moving(): MovingAttention<DcpAttention> {
    return {
      attention: this,
      part: this.#part,
      expectBetween: () => this.#between("redistribute"),
      hold: (why) => this.#transfer.hold(why),
      close: () => this.close(),
    };
  }

  /** What moves when the layout changes. */
  get #part(): ContextPart {
    return { options: this.#options, caches: this.#caches, sequences: this.#sequences };
  }

  /**
   * Key cache of a layer [numBlocks, blockSize, kvHeads, headDim]. With weights it has weights[rank] * blockSize tokens
   * in a block, and no blocks on a rank of weight 0; so have the other caches.
   */
  keyCache(layer: number): Operand {
    this.#open("keyCache");
    return this.#caches.key(layer);
  }

  /** Value cache of a layer [numBlocks, blockSize, kvHeads, valueDim]; for MLA a view of the keys' first columns. */
  valueCache(layer: number): Operand {
    this.#open("valueCache");
    return this.#caches.value(layer);
  }

  /**
   * Scales of each row of a layer's keys and values [numBlocks, blockSize, kvHeads, 1], f32; with MLA both are the
   * keys'. Empty unless scales are per token.
   */
  rowScales(layer: number): RowScales {
    this.#open("rowScales");
    return this.#caches.rowScales(layer);
  }

  /** A new, empty sequence; returns its id. */
  createSequence(): number {
    this.#open("createSequence");
    return this.#sequences.create();
  }

  /**
   * A new sequence that begins with the tokens of another, as for beam search or several answers to one prompt. It
   * shares the other's blocks and takes none now; the first of the two to append to a block that is not full gets a
   * copy of it.
   */
  forkSequence(sequence: number): number {
    this.#between("forkSequence");
    return this.#sequences.fork(sequence);
  }

  /**
   * A new sequence that begins with the longest run of full blocks that a text shares with what {@link keepPrefix}
   * made known, and that is still in the cache. It shares those blocks; only the other tokens are to be computed.
   * @param ids the text's tokens; of them at most ids.length - 1 are found, for the last one's results are wanted
   * @returns the sequence's id, and how many tokens it has stored already
   * @throws StepOrderError unless DcpAttention was opened with a prefixCache; ArgumentError for what are no token ids
   */
  createSequenceFrom(ids: readonly number[]): { readonly sequence: number; readonly cached: number } {
    this.#betweenWithPrefixes("createSequenceFrom");
    return this.#sequences.createFrom(ids);
  }

  /**
   * Tells which tokens a sequence stores: its full blocks are known from now on, and found by
   * {@link createSequenceFrom}, also when the sequence has been freed, until they are handed out again: least recently
   * used first, and only when no other block is free. Each call looks only at what is new since the call before it, so
   * it may come after each step. Where a known block holds the same tokens already, the sequence goes on with that one
   * and its own is freed: two prompts that were computed side by side are stored once.
   *
   * Known blocks are never written to. A sequence that is cut back into one and appends gets a copy or, when nobody
   * else holds it, makes it unknown, and with it those that continue it.
   * @param ids the first tokens of the sequence; those beyond its last full block wait for a later call
   * @throws ArgumentError when there are more than `sequenceLength`, or other ones than a call before told of the same
   *   block; StepOrderError unless DcpAttention was opened with a prefixCache
   */
  keepPrefix(sequence: number, ids: readonly number[]): void {
    this.#betweenWithPrefixes("keepPrefix");
    this.#sequences.keepPrefix(sequence, ids);
  }

  /** How many tokens of a text {@link createSequenceFrom} would find. Takes nothing. @throws as that */
  knownPrefix(ids: readonly number[]): number {
    this.#openWithPrefixes("knownPrefix");
    return this.#sequences.knownPrefix(ids);
  }

  /**
   * Forgets what all blocks hold, as when the weights changed. Sequences keep their blocks, of which
   * {@link keepPrefix} may tell again.
   */
  forgetPrefixes(): void {
    this.#betweenWithPrefixes("forgetPrefixes");
    this.#sequences.forgetPrefixes();
  }

  /** What decides the meaning of what {@link exportPrefixes} gives: only caches of this layout can take it back. */
  get cacheLayout(): CacheLayout {
    this.#open("cacheLayout");
    return cacheLayout(this.#options);
  }

  /** What this rank stores of every block, in the order in which {@link exportPrefixes} gives it. */
  get cacheParts(): CachePart[] {
    this.#open("cacheParts");
    return this.#caches.parts;
  }

  /** What is stored of every token, on all ranks alike, also on those that store none. */
  get rowParts(): RowPart[] {
    this.#open("rowParts");
    return this.#caches.rowParts;
  }

  /**
   * All known blocks, each after the one that it continues; otherwise those used last come first. The same on every
   * rank. @throws StepOrderError unless DcpAttention was opened with a prefixCache
   */
  listPrefixes(): PrefixBlock[] {
    this.#openWithPrefixes("listPrefixes");
    return this.#sequences.prefixes;
  }

  /**
   * Gives what this rank stores of all known blocks to `take`: for each of the {@link cacheParts} the blocks of
   * {@link listPrefixes}, one after another, in a tensor [1, blockSize, kvHeads, dim] that is to be read within the
   * call. Concerns this rank alone. Until the promise is settled no step can begin, and nothing can be told or
   * forgotten.
   * @param most of so many blocks at most, from the beginning of the list. Default: all
   * @throws StepOrderError as createSequenceFrom; ArgumentError unless `most` can be a number of blocks; what `take`
   *   throws
   */
  async exportPrefixes(take: TakeBlock, most = Number.MAX_SAFE_INTEGER): Promise<void> {
    this.#betweenWithPrefixes("exportPrefixes");
    if (!Number.isSafeInteger(most) || most < 0) {
      throw new ArgumentError("DcpAttention.exportPrefixes", "most", "a number of blocks", describe(most));
    }
    await this.#transfer.during("exportPrefixes", () => this.#sequences.takeBlocks(take, most));
  }

  /**
   * Puts back what {@link exportPrefixes} gave, here or where another attention of the same {@link cacheLayout} was:
   * as many blocks as find room beside all that is stored and known, in the order of the list. They become known with
   * `commit` of the result; until it or `cancel` is called no step can begin. Concerns this rank alone, but ranks must
   * bring the same list, and commit or cancel together.
   * @param blocks as `listPrefixes` gave them
   * @param give fills tensors with what `exportPrefixes` gave of a part of a block
   * @throws StepOrderError as createSequenceFrom; ArgumentError for a list that is none; what `give` throws: nothing has
   *   changed then
   */
  async importPrefixes(blocks: readonly PrefixBlock[], give: GiveBlock): Promise<PendingPrefixes> {
    this.#betweenWithPrefixes("importPrefixes");
    return await this.#transfer.importPrefixes(this.#sequences, blocks, give);
  }

  /**
   * Who holds which blocks, and what is known of them: the same on all ranks. With {@link readRows} it is all that
   * another attention of the same rows needs to go on with this context, wherever it is: {@link adoptContext}.
   */
  get contextImage(): ContextImage {
    this.#between("contextImage");
    return this.#sequences.image;
  }

  /**
   * Reads stored rows, bit for bit, between steps. Where ranks share a device every one of them calls this as often as
   * the others.
   * @param part a name of the {@link rowParts}
   * @param slots where the rows are stored on this rank, as rowRuns tells it
   * @param rows where they go, in this order [slots, kvHeads, dim], of the part's dtype
   * @throws StepOrderError in a step; ArgumentError for slots that there are not, or rows of another shape
   */
  async readRows(part: string, slots: readonly number[], rows: Tensor): Promise<void> {
    this.#between("readRows");
    await readRows(this.#part, part, slots, rows);
  }

  /**
   * Writes rows that {@link readRows} read, here or in another world, for a context that {@link adoptContext} then makes
   * this one's. Only while nothing was stored.
   * @param part a name of the {@link rowParts}
   * @param slots where the rows are to be stored on this rank
   * @param rows what is stored there, in this order [slots, kvHeads, dim], of the part's dtype
   * @throws as readRows; StepOrderError when something was stored before
   */
  async writeRows(part: string, slots: readonly number[], rows: Tensor): Promise<void> {
    this.#untouched("writeRows");
    await writeRows(this.#part, part, slots, rows);
  }

  /**
   * Goes on with a context whose rows were written: its sequences keep their ids. Every rank calls it with the same.
   * @param image blocks are numbered from 0 on, without a gap, as regroupContext numbers them
   * @throws ArgumentError for an image that these caches cannot have; StepOrderError when something was stored before
   */
  adoptContext(image: ContextImage): void {
    this.#untouched("adoptContext");
    if (image.known.length > 0) this.#openWithPrefixes("adoptContext");
    adoptImage(this.#part, image);
  }

  /** The blocks of the cache: all, those that no sequence holds, and of these the ones whose tokens are known. */
  get blocks(): BlockCounts {
    this.#open("blocks");
    return this.#sequences.blocks;
  }

  /** Tokens of a sequence that are stored, over all ranks. */
  sequenceLength(sequence: number): number {
    this.#open("sequenceLength");
    return this.#sequences.length(sequence);
  }

  /** Keeps the first `length` tokens of a sequence and frees the blocks of the others. */
  truncateSequence(sequence: number, length: number): void {
    this.#between("truncateSequence");
    this.#sequences.truncate(sequence, length);
  }

  /** Forgets a sequence and frees its blocks. */
  freeSequence(sequence: number): void {
    this.#between("freeSequence");
    this.#sequences.free(sequence);
  }

  /**
   * Reserves the slots of a step's new tokens, copies shared blocks that they go to, and plans what the step's queries
   * see.
   * @throws OutOfBlocks, ArgumentError, HeapExhausted: nothing is reserved then
   */
  beginStep(items: readonly StepItem[]): StepPlan {
    this.#between("beginStep");
    this.#checkSinks("beginStep");
    checkStepItems(items);
    this.#checkQueries(
      "beginStep",
      items.reduce((sum, item) => sum + (item.queries ?? item.tokens), 0),
    );
    const plan = this.#sequences.begin(items);
    try {
      this.#decode.begin(plan);
    } catch (error) {
      this.#sequences.cancel();
      throw error;
    }
    return plan;
  }

  /**
   * Begins a step whose new tokens all attend, by {@link prefill}: for many tokens at once. With a pcpGroup each rank
   * brings some of them: `rows` of the plan.
   * @throws as beginStep; StepOrderError unless DcpAttention was opened with a prefillChunk
   */
  beginPrefill(items: readonly { readonly sequence: number; readonly tokens: number }[]): PrefillPlan {
    this.#between("beginPrefill");
    this.#checkSinks("beginPrefill");
    const prefill = this.#prefill;
    if (prefill === undefined) {
      throw new StepOrderError("beginPrefill", "open DcpAttention with a prefillChunk first");
    }
    checkStepItems(items);
    const tokens = items.map((item) => item.tokens);
    this.#checkQueries("beginPrefill", prefill.queriesOf(tokens));
    const step = this.#sequences.begin(items.map(({ sequence, tokens: count }) => ({ sequence, tokens: count })));
    return prefill.begin(step, tokens);
  }

  #checkQueries(method: string, queries: number): void {
    const most = this.#options.steps.maxQueries;
    if (queries <= most) return;
    const expected = `at most ${most} query tokens, the maxStepQueries`;
    throw new ArgumentError(`DcpAttention.${method}`, "items", expected, `${queries}`);
  }

  /**
   * Stores this rank's share of the step's new keys and values.
   * @param key keys of all new tokens for all stored KV heads [T, kvHeads, headDim], f32, f16, bf16, or quantised
   *   already in the kvDtype, by scales that were given
   * @param value their values [T, kvHeads, valueDim] of key's dtype; left out for MLA
   */
  async write(layer: number, key: Operand, value?: Operand): Promise<void> {
    await this.#write(layer, this.#decoding("write"), key, value);
  }

  /** Once shared blocks are copied. */
  #write(layer: number, plan: StepPlan, key: Operand, value: Operand | undefined): Completion {
    const started = performance.now();
    return after(this.#sequences.copying, () =>
      after(this.#store(layer, plan, key, value), (): undefined => {
        this.#decode.times.attentionMs += performance.now() - started;
      }),
    );
  }

  #store(layer: number, plan: StepPlan, key: Operand, value: Operand | undefined): Completion {
    const { backend, heap, cache } = this.#options;
    // What has no NaN is looked at, in the heap, before it is stored.
    if (cache.dtype === "i8" && (isOnGpu(key) || isOnGpu(value))) {
      return withHeapOperands(backend, heap, [key, value] as const, [], ([keys, values]) =>
        this.#store(layer, plan, keys, values),
      );
    }
    try {
      this.#caches.checkFinite(layer, key, value);
    } catch (error) {
      this.#keepRefusal(error);
      throw error;
    }
    return this.#caches.write(layer, key, value, plan.slotPlan);
  }

  /**
   * Attends: query all-gather, partial attention over this rank's tokens, combine.
   * @param query this rank's heads of the step's query tokens [Tq, h, headDim], of the queryDtype; all heads of the
   *   query group with queryReplicated
   * @param out where their attention goes [Tq, h, valueDim], f32 or the queryDtype (rounded once, at the end)
   * @param lse where their LSE over the whole context goes [Tq, h], f32, in the lseBase; not returned when left out
   */
  async attend(layer: number, query: Operand, out: Operand, lse?: Operand): Promise<void> {
    const plan = this.#decoding("attend");
    this.#decode.check(layer, plan, query, out, lse);
    await after(this.#sequences.copying, () => this.#decode.attend(layer, plan, query, out, lse));
  }

  /** {@link write}, then {@link attend}. `value` is left out (undefined) for MLA. */
  async forward(
    layer: number,
    query: Operand,
    key: Operand,
    value: Operand | undefined,
    out: Operand,
    lse?: Operand,
  ): Promise<void> {
    await this.forwardNow(layer, query, key, value, out, lse);
  }

  /**
   * {@link forward} without a promise where all is done when it returns: a rank alone on a synchronous backend. Errors
   * are thrown there and then.
   */
  forwardNow(
    layer: number,
    query: Operand,
    key: Operand,
    value: Operand | undefined,
    out: Operand,
    lse?: Operand,
  ): Completion {
    const plan = this.#decoding("forward");
    // Before anything is written.
    this.#decode.check(layer, plan, query, out, lse);
    return after(this.#write(layer, plan, key, value), () => {
      // Somebody may have ended the step meanwhile.
      this.#expectUnderWay("forward", plan);
      return this.#decode.attend(layer, plan, query, out, lse);
    });
  }

  /**
   * Stores and attends in a step begun by {@link beginPrefill}: this rank's tokens and its own heads, over the whole
   * context, which is gathered chunk by chunk. Queries are not gathered, so neither gatherDtype nor queryReplicated
   * matters.
   * @param query this rank's heads of its tokens [T, h, headDim], of the queryDtype; T is the plan's rows
   * @param key keys of its tokens for all stored KV heads [T, kvHeads, headDim], f32, f16 or bf16
   * @param value their values [T, kvHeads, valueDim] of key's dtype; undefined for MLA
   * @param out where the attention goes [T, h, valueDim], f32 or the queryDtype
   * @param lse where the LSE over the whole context goes [T, h], f32, in the lseBase; not returned when left out
   */
  async prefill(
    layer: number,
    query: Operand,
    key: Operand,
    value: Operand | undefined,
    out: Operand,
    lse?: Operand,
  ): Promise<void> {
    this.#open("prefill");
    const prefill = this.#prefill;
    if (prefill?.plan === undefined) throw new StepOrderError("prefill", "call beginPrefill first");
    prefill.check(layer, query, key, value, out, lse);
    const started = performance.now();
    if (this.#sequences.copying !== undefined) await this.#sequences.copying;
    try {
      await prefill.forward(layer, query, key, value, out, lse);
    } catch (error) {
      this.#keepRefusal(error);
      throw error;
    }
    this.#decode.times.attentionMs += performance.now() - started;
  }

  /**
   * Ends the step.
   * @throws NonFiniteKeyValue when the step brought what an int8 cache cannot store: the step is cancelled
   */
  endStep(): void {
    this.#during("endStep");
    const refusal = this.#refusal;
    if (refusal !== undefined) {
      this.cancelStep();
      throw refusal;
    }
    this.#leaveStep();
    this.#sequences.end();
    this.#steps++;
  }

  /** Abandons the step: its new tokens are forgotten, as after a collective that failed in the middle of it. */
  cancelStep(): void {
    this.#during("cancelStep");
    this.#refusal = undefined;
    this.#leaveStep();
    this.#sequences.cancel();
  }

  /**
   * Goes on with other groups of the same ranks, as after a collective that was aborted (`World.renewGroups`, then
   * `context.group(name)` anew). Every rank calls this together. The caches and what they hold stay, but:
   * - a step under way is cancelled
   * - a step that ended on some ranks only is forgotten there: a sequence has the tokens of steps that ended everywhere
   * - a sequence that was created or freed on some ranks only is gone
   * - known prefixes are forgotten
   * - times, and what `auto` measured, begin anew
   *
   * @param groups what `open` takes; those left out stay as they are
   * @throws ArgumentError unless each group has the ranks of the one that it replaces, in the same order;
   *   OptionsDisagree, HeapExhausted, the new groups' errors: the caches are whole then, and this can be called again
   */
  useGroups(groups: Partial<Pick<DcpAttentionOptions, "dcpGroup" | "queryGroup" | "pcpGroup">>): void {
    this.#open("useGroups");
    this.#transfer.expectNone("useGroups");
    const options = withGroups(this.#options, groups);
    if (this.#sequences.plan !== undefined) this.cancelStep();
    agreeOnOptions(options);
    const { groups: agreed, heap, exchange } = options;
    const { lengths, next } = commonSequences(agreed.all, this.#sequences, heap, exchange.deadlineMs);
    const { decode, prefill } = openSteps(options, this.#caches, this.#border);
    this.#decode.close();
    this.#prefill?.close();
    this.#options = options;
    this.#received.moveTo(agreed);
    this.#decode = decode;
    this.#prefill = prefill;
    this.#sequences.keep(lengths, next);
  }

  /** What it has done and holds, as of now. */
  get metrics(): DcpAttentionMetrics {
    this.#open("metrics");
    return {
      ...this.#decode.times,
      steps: this.#steps,
      tokensHeld: this.#sequences.tokensHeld,
      bytesHeld: this.#sequences.bytesHeld,
      bytesReceived: this.#received.total,
      combine: this.#decode.combine,
      combineChoices: this.#decode.combineChoices,
      overlapped: this.#decode.overlapped,
      overlapChoices: this.#decode.overlapChoices,
    };
  }

  /** Frees the caches and scratch memory. Idempotent; does not close the backend. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#caches.free();
    this.#sequences.end();
    this.#prefill?.close();
    this.#decode.close();
  }

  /** A step whose keys or values were refused once does not end well any more. */
  #keepRefusal(error: unknown): void {
    if (error instanceof NonFiniteKeyValue) this.#refusal = error;
  }

  #leaveStep(): void {
    this.#decode.end();
    this.#prefill?.end();
  }

  /** They may have changed since they were given. */
  #checkSinks(method: string): void {
    const { sinks } = this.#options.model;
    if (sinks !== undefined) checkSinks(`DcpAttention.${method}`, sinks);
  }

  #open(method: string): void {
    if (this.#closed) throw new ResourceClosed(`DcpAttention.${method}`, "this DcpAttention", "Open another one.");
  }

  #during(method: string): StepPlan {
    this.#open(method);
    const { plan } = this.#sequences;
    if (plan === undefined) throw new StepOrderError(method, "call beginStep first");
    return plan;
  }

  /** A step begun by beginStep. */
  #decoding(method: string): StepPlan {
    const plan = this.#during(method);
    if (this.#prefill?.plan === undefined) return plan;
    throw new StepOrderError(method, "a step begun by beginPrefill takes prefill");
  }

  #expectUnderWay(method: string, plan: StepPlan): void {
    if (this.#during(method) !== plan) throw new StepOrderError(method, "await it before the step ends");
  }

  #openWithPrefixes(method: string): void {
    this.#open(method);
    if (!this.#options.cache.hasPrefixes) {
      throw new StepOrderError(method, "open DcpAttention with prefixCache: true first");
    }
  }

  #betweenWithPrefixes(method: string): void {
    this.#openWithPrefixes(method);
    this.#between(method);
  }

  #untouched(method: string): void {
    this.#between(method);
    if (isUntouched(this.#part)) return;
    throw new StepOrderError(method, "open another DcpAttention, which stores nothing yet, first");
  }

  #between(method: string): void {
    this.#open(method);
    if (this.#sequences.plan !== undefined) throw new StepOrderError(method, "end the step with endStep first");
    this.#transfer.expectNone(method);
  }
}

/** What this rank stores. */
function openCaches({ backend, model, cache }: ResolvedOptions): KvCaches {
  return KvCaches.open({ backend, ...model, ...cache, ...cache.own });
}

/** What runs the steps: both or, when they do not fit, neither. */
function openSteps(
  options: ResolvedOptions,
  caches: KvCaches,
  border: number,
): { readonly decode: DecodeAttention; readonly prefill: Prefill | undefined } {
  const { prefillChunk } = options.steps;
  const decode = new DecodeAttention(options, caches);
  try {
    const prefill = prefillChunk === undefined ? undefined : new Prefill(options, caches, prefillChunk, border);
    return { decode, prefill };
  } catch (error) {
    decode.close();
    throw error;
  }
}
