import type { Completion, Operand } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import { type Combine, DEFAULT_COMBINE } from "../combine/combine.ts";
import { type CombineChoiceMetrics, combineChoices } from "../combine/combine-choice.ts";
import type { CombineSetup } from "../combine/combine-way.ts";
import { BOUNDS_OF_A_ROW, LATTICE_COMBINES, type LatticeCombine, latticeCombine } from "../combine/lattice-combine.ts";
import { type SizeClass, TimedChoice } from "../combine/timed-choice.ts";
import type { StepPlan } from "../kv/step-plan.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { after } from "./after.ts";
import type { DecodeTimes } from "./decode-times.ts";
import type { LocalAttention } from "./local-attention.ts";

/** What steps of one number of query tokens use: views that are made once and used again. */
interface SizedRows {
  /** Of all heads of the query group [3, T, H]; and this rank's own. */
  readonly bounds: Tensor;
  readonly ownBounds: Tensor;
  /** Of all heads [T, H, Dv + 1, 2], as this rank has them. */
  readonly sums: Tensor;
  /** Of this rank's heads over all ranks [T, h, Dv + 1, 2]. */
  readonly ownSums: Tensor;
  /** Where an LSE goes that nobody asked for [T, h]. */
  readonly spareLse: Tensor;
  /** For `auto`. */
  readonly sizeClass: SizeClass<Combine> | undefined;
}

/** Scores that are kept from one pass to the next: 4 MiB. Of larger steps they are computed twice. */
const MOST_KEPT_SCORES = 2 ** 20;

/**
 * Decoding whose bits depend on no rank: the largest score of every row over all ranks first (an all-reduce of maxima,
 * which have no order), then sums of integers relative to it, which are exact in any order, and one rounding by the
 * rank that owns the row.
 */
export class LatticeDecode {
  readonly #options: ResolvedOptions;
  readonly #local: LocalAttention;
  readonly #times: DecodeTimes;
  readonly #setup: CombineSetup;
  readonly #ways: ReadonlyMap<Combine, LatticeCombine>;
  /** undefined when one combine was chosen by the options. */
  readonly #choice: TimedChoice<Combine> | undefined;
  readonly #bounds: Tensor;
  readonly #sums: Tensor;
  readonly #ownSums: Tensor;
  readonly #lse: Tensor;
  /** Of all heads, where somebody wants partial LSEs: the weights' sums [T, H, 1, 2], and what these are. */
  readonly #toldWeights: Tensor;
  readonly #toldLse: Tensor;
  /** Scores of a layer, from one pass to the next. */
  #scores: Operand | undefined;
  readonly #sizes = new Map<number, SizedRows>();
  #last: Combine;

  /** Takes {@link LatticeDecode.bytes} of `scratch`. */
  constructor(options: ResolvedOptions, local: LocalAttention, times: DecodeTimes, scratch: Allocator) {
    const { groups, heap, exchange, mergeBackend } = options;
    const { bounds, sums, ownSums, lse, told } = elementsOf(options);
    this.#options = options;
    this.#local = local;
    this.#times = times;
    this.#setup = {
      backend: mergeBackend,
      dcpGroup: groups.dcp,
      queryGroup: groups.query,
      own: groups.ownHeads,
      base: "e",
      nonFinite: "propagate",
      allocator: heap,
      deadlineMs: exchange.deadlineMs,
    };
    const names = exchange.combine === "auto" ? LATTICE_COMBINES : [exchange.combine];
    this.#ways = new Map(names.map((name) => [name, latticeCombine(name, this.#setup)]));
    this.#choice =
      exchange.combine === "auto" ? new TimedChoice<Combine>(groups.dcp, heap, exchange.deadlineMs) : undefined;
    this.#last = names[0] ?? DEFAULT_COMBINE;
    this.#bounds = Tensor.empty(scratch, "f32", [bounds]);
    this.#sums = Tensor.empty(scratch, "i32", [sums]);
    this.#ownSums = Tensor.empty(scratch, "i32", [ownSums]);
    this.#lse = Tensor.empty(scratch, "f32", [lse]);
    this.#toldWeights = Tensor.empty(scratch, "i32", [2 * told]);
    this.#toldLse = Tensor.empty(scratch, "f32", [told]);
  }

  static bytes(options: ResolvedOptions): number {
    const { bounds, sums, ownSums, lse, told } = elementsOf(options);
    return (bounds + sums + ownSums + lse + 3 * told) * 4 + 1024;
  }

  /** The combine of the last step. */
  get combine(): Combine {
    return this.#last;
  }

  /** What `auto` has measured and chosen. */
  get combineChoices(): CombineChoiceMetrics[] {
    return this.#choice === undefined ? [] : combineChoices(this.#choice);
  }

  /**
   * @param query all heads of the query group [T, H, Dk]
   * @param out this rank's heads [T, h, Dv], f32, f16 or bf16
   * @param lse their natural LSE [T, h], f32
   * @returns a promise where there is something to await
   */
  attend(layer: number, plan: StepPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Completion {
    const rows = this.#rowsOf(plan.queries);
    const { dcp } = this.#options.groups;
    const scores = this.#scoresOf(plan.queries, this.#local.mostKeys(layer, plan));
    const started = performance.now();
    return after(this.#local.bounds(layer, query, rows.bounds, scores), () => {
      const bounded = performance.now();
      if (dcp.size > 1) dcp.allReduce(rows.bounds, rows.bounds, { op: "max", deadlineMs: this.#setup.deadlineMs });
      const agreed = performance.now();
      return after(this.#local.sums(layer, query, rows.bounds, rows.sums, scores), () => {
        const summed = performance.now();
        this.#times.attentionMs += bounded - started + summed - agreed;
        return after(this.#tellPartialLse(layer, rows), () => {
          const combining = performance.now();
          this.#combine(rows);
          return after(this.#finish(rows, out, lse ?? rows.spareLse), (): undefined => {
            this.#times.combineMs += agreed - bounded + performance.now() - combining;
          });
        });
      });
    });
  }

  /** This rank's share, before the ranks' sums become one: what its weights alone add up to. */
  #tellPartialLse(layer: number, { bounds, sums }: SizedRows): Completion {
    const { exchange, mergeBackend } = this.#options;
    const { onPartialLse } = exchange;
    if (onPartialLse === undefined) return undefined;
    const [queries = 0, heads = 0, width = 1] = sums.shape;
    const rows = queries * heads;
    const weights = this.#toldWeights.slice(0, 0, 2 * rows).reshape([queries, heads, 1, 2]);
    const lse = this.#toldLse.slice(0, 0, rows).reshape([queries, heads]);
    weights.copyFrom(sums.slice(2, width - 1, width));
    const out = this.#toldLse.slice(0, 0, 0).reshape([queries, heads, 0]);
    return after(mergeBackend.finishLattice({ bounds, sums: weights, out, lse }), (): undefined => {
      onPartialLse(layer, lse);
    });
  }

  /** Room for the scores of a step's query tokens with so many keys each; undefined where they are too many to keep. */
  #scoresOf(queries: number, keys: number): Operand | undefined {
    const { backend, model } = this.#options;
    const rows = queries * model.queryHeads;
    if (rows === 0 || keys === 0 || rows * keys > MOST_KEPT_SCORES) return undefined;
    // Steps grow by a token at a time: room for more than this one.
    const room = Math.min(2 ** Math.ceil(Math.log2(keys)), Math.floor(MOST_KEPT_SCORES / rows));
    const [heldQueries = 0, , heldKeys = 0] = this.#scores?.shape ?? [];
    if (heldQueries !== queries || heldKeys < keys) {
      this.#scores?.free();
      this.#scores = undefined;
      this.#scores = backend.empty("f32", [queries, model.queryHeads, room]);
    }
    return this.#scores;
  }

  close(): void {
    this.#scores?.free();
  }

  #combine(rows: SizedRows): void {
    if (this.#options.groups.dcp.size === 1) return;
    const { sizeClass } = rows;
    const name = sizeClass === undefined ? this.#last : (this.#choice?.next(sizeClass) ?? this.#last);
    const started = performance.now();
    this.#ways.get(name)?.add(rows.sums, rows.ownSums);
    if (sizeClass !== undefined) this.#choice?.record(sizeClass, performance.now() - started);
    this.#last = name;
  }

  #finish({ ownBounds, ownSums }: SizedRows, out: Tensor, lse: Tensor): Completion {
    return this.#options.mergeBackend.finishLattice({ bounds: ownBounds, sums: ownSums, out, lse });
  }

  #rowsOf(queries: number): SizedRows {
    const known = this.#sizes.get(queries);
    if (known !== undefined) return known;
    const { model, groups } = this.#options;
    const { queryHeads, valueDim } = model;
    const { start, end, count } = groups.ownHeads;
    const bounds = this.#bounds
      .slice(0, 0, BOUNDS_OF_A_ROW * queries * queryHeads)
      .reshape([BOUNDS_OF_A_ROW, queries, queryHeads]);
    const all = queries * queryHeads * (valueDim + 1) * 2;
    const own = queries * count * (valueDim + 1) * 2;
    const sums = this.#sums.slice(0, 0, all).reshape([queries, queryHeads, valueDim + 1, 2]);
    const rows: SizedRows = {
      bounds,
      ownBounds: bounds.slice(2, start, end),
      sums,
      ownSums:
        groups.dcp.size === 1
          ? sums.slice(1, start, end)
          : this.#ownSums.slice(0, 0, own).reshape([queries, count, valueDim + 1, 2]),
      spareLse: this.#lse.slice(0, 0, queries * count).reshape([queries, count]),
      sizeClass: groups.dcp.size === 1 ? undefined : this.#choice?.sizeClass(queries, LATTICE_COMBINES),
    };
    this.#sizes.set(queries, rows);
    return rows;
  }
}

function elementsOf({ model, groups, exchange, steps }: ResolvedOptions) {
  const { queryHeads, valueDim } = model;
  const { maxQueries } = steps;
  const own = maxQueries * groups.ownHeads.count;
  return {
    bounds: BOUNDS_OF_A_ROW * maxQueries * queryHeads,
    sums: maxQueries * queryHeads * (valueDim + 1) * 2,
    ownSums: groups.dcp.size === 1 ? 0 : own * (valueDim + 1) * 2,
    lse: own,
    told: exchange.onPartialLse === undefined ? 0 : maxQueries * queryHeads,
  };
}
