import type { Completion, Operand } from "@lockstep/kernels";
import { Arena, StagedTensors, Tensor } from "@lockstep/tensor";
import { expectOperand, expectResults } from "../arguments/expect-tensor.ts";
import { isOnGpu, withHeapOperands } from "../arguments/operand-memory.ts";
import type { AllToAllOnDevice } from "../combine/a2a-on-device.ts";
import type { AllToAllOnSharedDevice } from "../combine/a2a-on-shared-device.ts";
import type { Combine } from "../combine/combine.ts";
import type { CombineChoiceMetrics } from "../combine/combine-choice.ts";
import type { PlacedCombine } from "../combine/combine-way.ts";
import { convertLse } from "../combine/lse-base.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { StepPlan } from "../kv/step-plan.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { after } from "./after.ts";
import type { DecodeTimes } from "./decode-times.ts";
import { DeviceResults } from "./device-results.ts";
import { LatticeDecode } from "./lattice-decode.ts";
import { LocalAttention } from "./local-attention.ts";
import { type OverlapChoiceMetrics, OverlappedHalves, type OverlappedTimes } from "./overlapped-halves.ts";
import { QueryGather, queryGatherBytes } from "./query-gather.ts";
import { type SizedCombines, StepCombines } from "./step-combines.ts";

const NAME = "DcpAttention.attend";

interface CheckedOperands {
  readonly query: Operand;
  readonly out: Operand;
  readonly lse: Operand | undefined;
  readonly queries: number;
}

/**
 * Decoding over a sharded KV cache: all-gather of the queries, partial attention of all heads over this rank's tokens,
 * combine by LSE, which leaves the rank its own heads.
 */
export class DecodeAttention {
  readonly times: DecodeTimes = { gatherMs: 0, attentionMs: 0, combineMs: 0 };
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  readonly #local: LocalAttention;
  /** Where partial outputs are merged. */
  readonly #halves: OverlappedHalves | undefined;
  readonly #scratch: Arena;
  readonly #gather: QueryGather;
  /** Exactly one of the two: what bits may depend on decides. */
  readonly #combines: StepCombines | undefined;
  readonly #lattice: LatticeDecode | undefined;
  readonly #device: DeviceResults;
  /** By the layer, operands that were found to be what it takes in steps of so many queries. */
  readonly #checked = new Map<number, CheckedOperands>();
  /** Copies, where the peers reach them, of a rank's queries and results in a memory of its own. */
  readonly #staged: StagedTensors;

  /** Allocates scratch memory. @throws HeapExhausted */
  constructor(options: ResolvedOptions, caches: KvCaches) {
    const { model, groups, exchange, steps } = options;
    this.#options = options;
    this.#caches = caches;
    const gather = {
      group: groups.query,
      heads: model.queryHeads,
      ownHeads: groups.ownHeads.count,
      headDim: model.headDim,
      rows: steps.maxQueries,
      queryDtype: exchange.queryDtype,
      dtype: exchange.gatherDtype,
      scale: exchange.queryScale,
      replicated: exchange.queryReplicated,
      backend: options.mergeBackend,
      attends: options.backend,
      deadlineMs: exchange.deadlineMs,
    };
    const { isWorldInvariant } = exchange;
    const rows = isWorldInvariant ? LatticeDecode : StepCombines;
    this.#scratch = new Arena(options.heap, rows.bytes(options) + queryGatherBytes(gather));
    try {
      this.#gather = new QueryGather(gather, this.#scratch);
      this.#local = new LocalAttention(options, caches, this.#gather.scoreFactor);
      if (isWorldInvariant) this.#lattice = new LatticeDecode(options, this.#local, this.times, this.#scratch);
      else {
        this.#combines = new StepCombines(options, this.#scratch);
        const half = (): LocalAttention => new LocalAttention(options, caches, this.#gather.scoreFactor, this.#local);
        this.#halves = new OverlappedHalves(options, this.#combines, [half(), half()]);
      }
    } catch (error) {
      this.#scratch.close();
      throw error;
    }
    this.#device = new DeviceResults(options);
    this.#staged = new StagedTensors(options.heap);
  }

  /** The combine of the last step. */
  get combine(): Combine {
    return this.#lattice?.combine ?? this.#merging.last;
  }

  /** What `auto` has measured and chosen. */
  get combineChoices(): CombineChoiceMetrics[] {
    return this.#lattice?.combineChoices ?? this.#merging.choices;
  }

  get #exactly(): LatticeDecode {
    if (this.#lattice === undefined) throw new RangeError("nothing is summed exactly in this mode");
    return this.#lattice;
  }

  get #merging(): StepCombines {
    if (this.#combines === undefined) throw new RangeError("nothing is merged by LSE in this mode");
    return this.#combines;
  }

  /** What `overlap: "auto"` has measured and chosen. */
  get overlapChoices(): OverlapChoiceMetrics[] {
    return this.#halves?.choices ?? [];
  }

  /** How often a layer's attention was cut in two halves. */
  get overlapped(): number {
    return this.#halves?.count ?? 0;
  }

  /** To be called when a step begins. @throws HeapExhausted: nothing is planned then */
  begin(plan: StepPlan): void {
    this.#halves?.begin(plan, () => this.#merging.isKnown(this.#merging.of(plan.queries)));
    if (this.#halves?.isCertain === true) return;
    try {
      this.#local.begin(plan);
    } catch (error) {
      this.#halves?.end();
      throw error;
    }
  }

  /** To be called when a step ends. */
  end(): void {
    this.#halves?.end();
    this.#local.end();
  }

  /** Throws ArgumentError unless these are what {@link DecodeAttention.attend} takes. */
  check(layer: number, { queries }: StepPlan, query: Operand, out: Operand, lse: Operand | undefined): void {
    const known = this.#checked.get(layer);
    if (known?.query === query && known.out === out && known.lse === lse && known.queries === queries) {
      query.assertUsable(NAME, "query");
      out.assertUsable(NAME, "out");
      lse?.assertUsable(NAME, "lse");
      return;
    }
    const { model, groups, exchange } = this.#options;
    const { queryHeads, headDim, valueDim } = model;
    const { queryDtype } = exchange;
    const own = groups.ownHeads.count;
    expectOperand(NAME, "query", query, [queryDtype], [queries, this.#gather.isLocal ? queryHeads : own, headDim]);
    expectOperand(NAME, "out", out, ["f32", queryDtype], [queries, own, valueDim]);
    if (lse !== undefined) expectOperand(NAME, "lse", lse, ["f32"], [queries, own]);
    expectResults(NAME, out, lse, this.#caches.key(layer), this.#caches.value(layer));
    this.#checked.set(layer, { query, out, lse, queries });
  }

  /**
   * Arguments as of {@link DcpAttention.attend}, which were checked.
   * @returns a promise where there is something to await
   */
  attend(layer: number, plan: StepPlan, query: Operand, out: Operand, lse: Operand | undefined): Completion {
    const { backend, heap } = this.#options;
    if (
      isOnGpu(out) &&
      (lse === undefined || isOnGpu(lse)) &&
      this.#device.canKeep &&
      this.#gather.keeps(query.dtype)
    ) {
      const started = performance.now();
      return after(this.#device.attend(this.#local, layer, plan, query, out, lse), (): undefined => {
        this.times.attentionMs += performance.now() - started;
      });
    }
    if (this.#options.groups.isAlone) {
      if (!isOnGpu(query) && !isOnGpu(out) && !isOnGpu(lse)) return this.#attendAlone(layer, plan, query, out, lse);
      return withHeapOperands(backend, heap, [query] as const, [out, lse] as const, ([queries], [outs, lses]) =>
        this.#attendAlone(layer, plan, queries, outs, lses),
      );
    }
    const combine = this.#lattice === undefined ? this.#merging.next(this.#merging.of(plan.queries)) : undefined;
    if (combine?.place === "shared device") return this.#attendOnSharedDevice(layer, plan, query, combine, out, lse);
    if (combine?.place === "device") return this.#attendOnDevice(layer, plan, query, combine, out, lse);
    if (!isOnGpu(query) && !isOnGpu(out) && !isOnGpu(lse)) {
      return this.#attendInReach(layer, plan, query, combine, out, lse);
    }
    const inHeap = combine === undefined ? query : undefined;
    return withHeapOperands(backend, heap, [inHeap] as const, [out, lse] as const, ([queries], [outs, lses]) =>
      this.#attend(layer, plan, queries ?? query, combine, outs, lses),
    );
  }

  /** Several ranks whose partial results are combined where they were computed. */
  async #attendOnDevice(
    layer: number,
    plan: StepPlan,
    query: Operand,
    combine: AllToAllOnDevice,
    out: Operand,
    lse: Operand | undefined,
  ): Promise<void> {
    const { backend, heap, exchange } = this.#options;
    if (isOnGpu(lse) && exchange.lseBase !== "e") {
      return withHeapOperands(backend, heap, [], [lse] as const, (_, [inHeap]) =>
        this.#attendOnDevice(layer, plan, query, combine, out, inHeap),
      );
    }
    const sized = this.#merging.of(plan.queries);
    const reached = isOnGpu(query) ? query : this.#staged.copyOf("query", query);
    if (this.#halves?.next() === true) {
      this.#record(sized, combine, await this.#attendHalves(this.#halves, layer, reached, combine, out, lse));
    } else {
      const started = performance.now();
      let gatherEnd = started;
      try {
        await this.#gather.attend(reached, (gathered) => {
          gatherEnd = performance.now();
          return combine.attendAndShow(() => this.#local.attend(layer, plan, gathered, combine.out, combine.lse));
        });
      } catch (error) {
        await combine.settled();
        throw error;
      }
      this.times.gatherMs += gatherEnd - started;
      const combineStart = performance.now();
      await combine.combine(out, lse);
      this.#recordWhole(sized, combine, gatherEnd, combineStart);
    }
    if (lse instanceof Tensor) convertLse(lse, "e", exchange.lseBase, lse);
  }

  /** Several ranks that attend and combine on a device that they share. */
  async #attendOnSharedDevice(
    layer: number,
    plan: StepPlan,
    query: Operand,
    combine: AllToAllOnSharedDevice,
    out: Operand,
    lse: Operand | undefined,
  ): Promise<void> {
    const { backend, heap, exchange } = this.#options;
    if (isOnGpu(lse) && exchange.lseBase !== "e") {
      return withHeapOperands(backend, heap, [], [lse] as const, (_, [inHeap]) =>
        this.#attendOnSharedDevice(layer, plan, query, combine, out, inHeap),
      );
    }
    const started = performance.now();
    // Queries that are only rounded are no others' concern.
    const own = this.#gather.isLocal
      ? await this.#gather.gatherFrom(isOnGpu(query) ? query : this.#staged.copyOf("query", query))
      : query;
    await combine.run(own, (...operands) => this.#local.attend(layer, plan, ...operands), out, lse);
    this.times.attentionMs += performance.now() - started;
    this.#merging.record(this.#merging.of(plan.queries), combine, 0);
    if (lse instanceof Tensor) convertLse(lse, "e", exchange.lseBase, lse);
  }

  /** Both halves of a step read their queries before the gather ends: those of peers lie in their memory. */
  async #attendHalves(
    halves: OverlappedHalves,
    layer: number,
    query: Operand,
    combine: PlacedCombine | AllToAllOnDevice,
    out: Operand,
    lse: Operand | undefined,
  ): Promise<OverlappedTimes> {
    const started = performance.now();
    let gatherEnd = started;
    let times: OverlappedTimes | undefined;
    await this.#gather.attend(query, async (gathered) => {
      gatherEnd = performance.now();
      times = await halves.attend(layer, combine, gathered, out, lse);
    });
    if (times === undefined) throw new RangeError("the halves were not attended to");
    this.times.gatherMs += gatherEnd - started;
    return times;
  }

  /** A rank alone: its partial result is the result. */
  #attendAlone(layer: number, plan: StepPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Completion {
    const { exchange } = this.#options;
    const started = performance.now();
    return after(this.#gather.gather(query), (gathered) => {
      const gatherEnd = performance.now();
      this.times.gatherMs += gatherEnd - started;
      if (this.#lattice !== undefined) {
        return after(this.#lattice.attend(layer, plan, gathered, out, lse), (): undefined => {
          if (lse !== undefined) convertLse(lse, "e", exchange.lseBase, lse);
        });
      }
      const combines = this.#merging.of(plan.queries);
      const partialOut = out.dtype === "f32" ? out : (combines.sums ?? out);
      const partialLse = lse ?? combines.spareLse;
      return after(this.#local.attend(layer, plan, gathered, partialOut, partialLse), (): undefined => {
        exchange.onPartialLse?.(layer, partialLse);
        this.times.attentionMs += performance.now() - gatherEnd;
        if (partialOut !== out) out.copyFrom(partialOut);
        if (lse !== undefined) convertLse(lse, "e", exchange.lseBase, lse);
      });
    });
  }

  /** Over tensors of any memory: what peers exchange lies in theirs. */
  async #attendInReach(
    layer: number,
    plan: StepPlan,
    query: Tensor,
    combine: PlacedCombine | undefined,
    out: Tensor,
    lse: Tensor | undefined,
  ): Promise<void> {
    const staged = this.#staged;
    const isFar =
      staged.isElsewhere(query) || staged.isElsewhere(out) || (lse !== undefined && staged.isElsewhere(lse));
    if (!isFar) return this.#attend(layer, plan, query, combine, out, lse);
    const near = (role: string, tensor: Tensor): Tensor =>
      staged.isElsewhere(tensor) ? staged.room(role, tensor) : tensor;
    const [nearOut, nearLse] = [near("out", out), lse === undefined ? undefined : near("lse", lse)];
    await this.#attend(layer, plan, staged.copyOf("query", query), combine, nearOut, nearLse);
    if (nearOut !== out) out.copyFrom(nearOut);
    if (lse !== undefined && nearLse !== undefined && nearLse !== lse) lse.copyFrom(nearLse);
  }

  async #attend(
    layer: number,
    plan: StepPlan,
    query: Operand,
    combine: PlacedCombine | undefined,
    out: Tensor,
    lse: Tensor | undefined,
  ): Promise<void> {
    if (combine !== undefined) await this.#attendAndCombine(layer, plan, query, combine, out, lse);
    else if (isOnGpu(query)) throw new RangeError("sums that are exact are of queries in the heap");
    else {
      const started = performance.now();
      const gathering = this.#gather.gather(query);
      const gathered = gathering instanceof Tensor ? gathering : await gathering;
      this.times.gatherMs += performance.now() - started;
      await this.#exactly.attend(layer, plan, gathered, out, lse);
    }
    if (lse !== undefined) convertLse(lse, "e", this.#options.exchange.lseBase, lse);
  }

  async #attendAndCombine(
    layer: number,
    plan: StepPlan,
    query: Operand,
    combine: PlacedCombine,
    out: Tensor,
    lse: Tensor | undefined,
  ): Promise<void> {
    const sized = this.#merging.of(plan.queries);
    if (this.#halves?.next() === true) {
      this.#record(sized, combine, await this.#attendHalves(this.#halves, layer, query, combine, out, lse));
      return;
    }
    const started = performance.now();
    let gatherEnd = started;
    const attended = this.#gather.attend(query, (gathered) => {
      gatherEnd = performance.now();
      return this.#local.attend(layer, plan, gathered, combine.out, combine.lse);
    });
    if (attended !== undefined) await attended;
    this.times.gatherMs += gatherEnd - started;
    this.#options.exchange.onPartialLse?.(layer, combine.lse);
    const combineStart = performance.now();
    await combine.combine(out, lse);
    this.#recordWhole(sized, combine, gatherEnd, combineStart);
  }

  /** Records a layer's attention that began and was combined from `combineStart` until now. */
  #recordWhole(
    sized: SizedCombines,
    combine: PlacedCombine | AllToAllOnDevice,
    started: number,
    combineStart: number,
  ): void {
    const now = performance.now();
    this.#halves?.record(now - started);
    const combineMs = now - combineStart;
    this.#record(sized, combine, { attentionMs: combineStart - started, combineMs, lastCombineMs: combineMs });
  }

  #record(sized: SizedCombines, combine: PlacedCombine | AllToAllOnDevice, times: OverlappedTimes): void {
    this.times.attentionMs += times.attentionMs;
    this.times.combineMs += times.combineMs;
    this.#merging.record(sized, combine, times.lastCombineMs);
  }

  close(): void {
    this.#halves?.close();
    this.#local.close();
    this.#combines?.close();
    this.#lattice?.close();
    this.#device.close();
    this.#staged.free();
    this.#scratch.close();
  }
}
