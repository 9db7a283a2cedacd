import type { Operand } from "@lockstep/kernels";
import { Arena, Tensor } from "@lockstep/tensor";
import { type Combine, COMBINES } from "../combine/combine.ts";
import { CombineChoice, type CombineChoiceMetrics, type SizeClass } from "../combine/combine-choice.ts";
import { OneShotExchange } from "../combine/one-shot.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { DeviceResults } from "./device-results.ts";
import { expectOperand } from "../arguments/expect-tensor.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import { LocalAttention } from "./local-attention.ts";
import { convertLse } from "../combine/lse-base.ts";
import { isOnGpu, withHeapOperands } from "../arguments/operand-memory.ts";
import { QueryGather, queryGatherBytes } from "./query-gather.ts";
import { dcpReduceOutput } from "../combine/reduce-output.ts";
import type { StepPlan } from "../kv/step-plan.ts";

/** `auto` tries one-shot exchanges up to this size of a rank's packed partial output: what staging memory holds. */
const ONE_SHOT_BYTES = 65536;
const NAME = "DcpAttention.attend";

/** Partial results of one number of query tokens: views that are made once and used again. */
interface StepTensors {
  /** [T, H, Dv] and [T, H]. */
  readonly out: Tensor;
  readonly lse: Tensor;
  /** The same memory as rows with their LSE behind them, where one-shot exchanges are possible. */
  readonly oneShot: OneShotExchange | undefined;
  /** This rank's heads in f32, for results that are rounded to 16 bits after a reduction in f32; undefined without such. */
  readonly ownOut: Tensor | undefined;
  /** Of steps of this size, for `auto`. */
  readonly sizeClass: SizeClass;
}

/** Milliseconds spent in the parts of a step so far. */
export interface DecodeTimes {
  gatherMs: number;
  attentionMs: number;
  combineMs: number;
}

/**
 * Decoding over a sharded KV cache: all-gather of the queries, partial attention of all heads over this rank's tokens, combine
 * by LSE, which leaves the rank its own heads.
 */
export class DecodeAttention {
  readonly times: DecodeTimes = { gatherMs: 0, attentionMs: 0, combineMs: 0 };
  readonly #options: ResolvedOptions;
  readonly #local: LocalAttention;
  readonly #scratch: Arena;
  readonly #partial: Tensor;
  readonly #received: Tensor;
  /** Partial outputs in 16 bits; empty when they are f32. */
  readonly #rounded: Tensor;
  readonly #ownOut: Tensor;
  readonly #oneShotRows: number;
  readonly #gather: QueryGather;
  readonly #choice: CombineChoice;
  readonly #device: DeviceResults;
  readonly #stepTensors = new Map<number, StepTensors>();
  #combine: Combine;

  /** Allocates scratch memory. @throws HeapExhausted */
  constructor(options: ResolvedOptions, caches: KvCaches) {
    const { heap, groups, exchange } = options;
    const { queryHeads, headDim, valueDim } = options.model;
    const { queryDtype, combine, deadlineMs } = exchange;
    const { isAlone, ownHeads } = groups;
    const rows = options.steps.maxQueries;
    const partialDtype = isAlone ? "f32" : exchange.partialDtype;
    this.#options = options;
    this.#combine = combine === "auto" ? "a2a" : combine;
    const width = valueDim + 1;
    const affordable = Math.floor(ONE_SHOT_BYTES / (4 * queryHeads * width));
    // Rows with their LSE behind them are all f32.
    const mayGoOneShot = combine === "auto" && partialDtype === "f32";
    this.#oneShotRows = combine === "one-shot" ? rows : mayGoOneShot ? Math.min(rows, affordable) : 0;
    const received = OneShotExchange.receivedElements(this.#oneShotRows, queryHeads, width, groups.dcp, groups.query);
    const ownElements = queryDtype === "f32" ? 0 : rows * ownHeads.count * valueDim;
    const gather = {
      group: groups.query,
      heads: queryHeads,
      ownHeads: ownHeads.count,
      headDim,
      rows,
      dtype: exchange.gatherDtype,
      scale: exchange.queryScale,
      replicated: exchange.queryReplicated,
      backend: options.mergeBackend,
      deadlineMs,
    };
    const rounded = partialDtype === "f32" ? 0 : rows * queryHeads * valueDim;
    const partial = rows * queryHeads * (partialDtype === "f32" ? width : 1);
    const elements = partial + received + ownElements + rounded / 2;
    this.#scratch = new Arena(heap, elements * 4 + 1024 + queryGatherBytes(gather));
    this.#gather = new QueryGather(gather, this.#scratch);
    this.#partial = Tensor.empty(this.#scratch, "f32", [partial]);
    this.#received = Tensor.empty(this.#scratch, "f32", [received]);
    this.#ownOut = Tensor.empty(this.#scratch, "f32", [ownElements]);
    this.#rounded = Tensor.empty(this.#scratch, partialDtype, [rounded]);
    this.#local = this.#openLocal(caches, partialDtype === "f32" ? 0 : rows);
    this.#choice = new CombineChoice(groups.dcp, heap, deadlineMs);
    this.#device = new DeviceResults(options);
  }

  /** The combine of the last step. */
  get combine(): Combine {
    return this.#combine;
  }

  /** What `auto` has measured and chosen. */
  get combineChoices(): CombineChoiceMetrics[] {
    return this.#choice.metrics;
  }

  /** To be called when a step begins. @throws HeapExhausted */
  begin(plan: StepPlan): void {
    this.#local.begin(plan);
  }

  /** To be called when a step ends. */
  end(): void {
    this.#local.end();
  }

  /** Throws ArgumentError unless these are what {@link DecodeAttention.attend} takes. */
  check({ queries }: StepPlan, query: Operand, out: Operand, lse: Operand | undefined): void {
    const { model, groups, exchange } = this.#options;
    const { queryHeads, headDim, valueDim } = model;
    const { queryDtype } = exchange;
    const own = groups.ownHeads.count;
    expectOperand(NAME, "query", query, [queryDtype], [queries, this.#gather.isLocal ? queryHeads : own, headDim]);
    expectOperand(NAME, "out", out, ["f32", queryDtype], [queries, own, valueDim]);
    if (lse !== undefined) expectOperand(NAME, "lse", lse, ["f32"], [queries, own]);
  }

  /** Arguments as of {@link DcpAttention.attend}. */
  async attend(layer: number, plan: StepPlan, query: Operand, out: Operand, lse: Operand | undefined): Promise<void> {
    const { backend, heap } = this.#options;
    this.check(plan, query, out, lse);
    if (
      isOnGpu(out) &&
      (lse === undefined || isOnGpu(lse)) &&
      this.#device.canKeep &&
      this.#gather.keeps(query.dtype)
    ) {
      const started = performance.now();
      const done = this.#device.attend(this.#local, layer, plan, query, out, lse);
      if (done !== undefined) await done;
      this.times.attentionMs += performance.now() - started;
      return;
    }
    if (!isOnGpu(query) && !isOnGpu(out) && !isOnGpu(lse)) return this.#attend(layer, plan, query, out, lse);
    await withHeapOperands(backend, heap, [query] as const, [out, lse] as const, ([queries], [outs, lses]) =>
      this.#attend(layer, plan, queries, outs, lses),
    );
  }

  async #attend(layer: number, plan: StepPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    const { groups, exchange } = this.#options;
    const { combine: configured, lseBase, onPartialLse } = exchange;
    const started = performance.now();
    const gathering = this.#gather.gather(query);
    const gathered = gathering instanceof Tensor ? gathering : await gathering;
    const gatherEnd = performance.now();
    this.times.gatherMs += gatherEnd - started;
    const tensors = this.#tensorsFor(plan.queries);
    if (groups.isAlone) {
      // Alone: the partial result is the result.
      const result = out.dtype === "f32" ? out : (tensors.ownOut ?? out);
      const partialLse = lse ?? tensors.lse;
      const attended = this.#local.attend(layer, plan, gathered, result, partialLse);
      if (attended !== undefined) await attended;
      onPartialLse?.(layer, partialLse);
      this.times.attentionMs += performance.now() - gatherEnd;
      if (result !== out) out.copyFrom(result);
    } else {
      const combine = configured === "auto" ? this.#choice.next(tensors.sizeClass) : configured;
      const partial = combine === "one-shot" && tensors.oneShot !== undefined ? tensors.oneShot : tensors;
      const attended = this.#local.attend(layer, plan, gathered, partial.out, partial.lse);
      if (attended !== undefined) await attended;
      onPartialLse?.(layer, partial.lse);
      const combineStart = performance.now();
      this.times.attentionMs += combineStart - gatherEnd;
      await this.#combineBy(combine, tensors, out, lse);
      const took = performance.now() - combineStart;
      this.times.combineMs += took;
      if (configured === "auto") this.#choice.record(tensors.sizeClass, took);
      this.#combine = combine;
    }
    if (lse !== undefined) convertLse(lse, "e", lseBase, lse);
  }

  close(): void {
    this.#local.close();
    this.#device.close();
    this.#scratch.close();
  }

  #openLocal(caches: KvCaches, roundedRows: number): LocalAttention {
    try {
      return new LocalAttention(this.#options, caches, this.#gather.scoreFactor, roundedRows);
    } catch (error) {
      this.#scratch.close();
      throw error;
    }
  }

  async #combineBy(combine: Combine, tensors: StepTensors, output: Tensor, lse: Tensor | undefined): Promise<void> {
    const { mergeBackend, heap: allocator, exchange } = this.#options;
    const { dcp: dcpGroup, query: queryGroup, ownHeads: own } = this.#options.groups;
    const { deadlineMs } = exchange;
    const { out: attnOut, lse: attnLse, oneShot } = tensors;
    if (combine === "one-shot" && oneShot !== undefined) {
      const { out: partialOut, lse: partialLse } = oneShot;
      const groups = { dcpGroup, queryGroup, own };
      const rest = {
        attnOut: partialOut,
        attnLse: partialLse,
        base: "e",
        nonFinite: "propagate",
        out: output,
        lse,
        allocator,
        deadlineMs,
      } as const;
      await oneShot.combine({ backend: mergeBackend, ...groups, ...rest });
      return;
    }
    // The sums of ag-rs are made in f32 and rounded afterwards.
    const isRounded = combine === "ag-rs" && output.dtype !== "f32";
    const result = isRounded ? (tensors.ownOut ?? output) : output;
    await dcpReduceOutput({
      backend: mergeBackend,
      dcpGroup,
      queryGroup,
      attnOut,
      attnLse,
      combine,
      nonFinite: "propagate",
      into: result,
      ...(lse === undefined ? {} : { lseInto: lse }),
      allocator,
      deadlineMs,
    });
    if (result !== output) output.copyFrom(result);
  }

  #tensorsFor(queries: number): StepTensors {
    const known = this.#stepTensors.get(queries);
    if (known !== undefined) return known;
    const { mergeBackend, groups, exchange } = this.#options;
    const { queryHeads, valueDim } = this.#options.model;
    const own = groups.ownHeads.count;
    const rows = queries * queryHeads;
    const ownShape = [queries, own, valueDim];
    const isHalf = exchange.queryDtype !== "f32";
    const isRounded = this.#rounded.size > 0;
    const outs = isRounded ? 0 : rows * valueDim;
    const packed = this.#partial.slice(0, 0, outs + rows);
    // Choosing by time must not change a bit: only on wasm does ag-rs give those of the others.
    const candidates = COMBINES.filter(
      (combine) => combine !== "ag-rs" || (mergeBackend.roundsAsCollectives && !isRounded),
    );
    const isOneShot = queries <= this.#oneShotRows;
    const tensors: StepTensors = {
      out: (isRounded ? this.#rounded : packed).slice(0, 0, rows * valueDim).reshape([queries, queryHeads, valueDim]),
      lse: packed.slice(0, outs, outs + rows).reshape([queries, queryHeads]),
      oneShot: isOneShot
        ? new OneShotExchange(
            packed.reshape([queries, queryHeads, valueDim + 1]),
            this.#received,
            groups.dcp,
            groups.query,
          )
        : undefined,
      sizeClass: this.#choice.sizeClass(
        queries,
        isOneShot ? candidates : candidates.filter((combine) => combine !== "one-shot"),
      ),
      ownOut: isHalf ? this.#ownOut.slice(0, 0, queries * own * valueDim).reshape(ownShape) : undefined,
    };
    this.#stepTensors.set(queries, tensors);
    return tensors;
  }
}
