// Overlap of exchange and attention, as "HOP-B" of Helix parallelism: of a step's query tokens one half is exchanged
// and combined while the other half is attended to.
//
// Where ops complete later (a GPU), both halves are submitted before the host waits for either, and the host combines
// the first while the GPU is busy with the second. Where an op has completed when it returns, the first half's partial
// results are published, the second half attends, and then the rank looks who has come meanwhile. Exchanges follow one
// another: a group has one collective at a time, in the same order on every rank.

import type { Completion, Operand } from "@lockstep/kernels";
import { isOnGpu } from "../arguments/operand-memory.ts";
import type { AllToAllOnDevice } from "../combine/a2a-on-device.ts";
import type { Combine } from "../combine/combine.ts";
import type { CombineCollectives, PlacedCombine } from "../combine/combine-way.ts";
import { type SizeClass, TimedChoice } from "../combine/timed-choice.ts";
import type { StepPlan } from "../kv/step-plan.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { AttendedRows, LocalAttention } from "./local-attention.ts";
import type { StepCombines } from "./step-combines.ts";
import { stepCut } from "./step-halves.ts";

/** What `overlap: "auto"` chose for steps of one size, and what it measured. */
export interface OverlapChoiceMetrics {
  /** Steps of at most so many query tokens, and more than half of it. */
  readonly queries: number;
  /** Whose query tokens see at most so many positions on average, and more than half of it. */
  readonly context: number;
  /** Whether they are cut; undefined while that is still being timed. */
  readonly overlap: "on" | "off" | undefined;
  /** Median microseconds of attention and combine either way, the same on every rank; empty while being timed. */
  readonly microseconds: Partial<Record<"on" | "off", number>>;
}

/** Milliseconds of a step's attention and combines that were overlapped. */
export interface OverlappedTimes {
  /** Until both halves have attended. */
  readonly attentionMs: number;
  /** From then on. */
  readonly combineMs: number;
  /** Of the second half's combine, which nothing overlaps. */
  readonly lastCombineMs: number;
}

/** One half of a layer's attention in a step. */
interface Half {
  attend(): Completion;
  combine(via: CombineCollectives | undefined): Promise<void>;
  /** Resolves once nothing of it is under way that `attend` began and does not await; left out: there is no such thing. */
  settled?(): Promise<void>;
}

interface CutOperands {
  readonly query: Operand;
  readonly out: Operand;
  readonly lse: Operand | undefined;
  readonly name: Combine;
  readonly queries: number;
  readonly cut: number;
  readonly halves: readonly [Half, Half];
}

/** `auto` tries it in steps of so many query tokens or more: what is waited for twice must be worth it. */
const LEAST_AUTO_QUERIES = 16;
/** `auto` cuts steps only where that saves this share of their time: less may be noise. */
const MARGIN = 0.1;
const WAYS = ["off", "on"] as const;

/** A step under way that may be cut. */
interface CutStep {
  readonly cut: number;
  readonly rows: readonly [AttendedRows, AttendedRows];
  readonly queries: number;
  /** Undefined when nothing is to be measured: it is always cut. */
  readonly sizeClass: SizeClass<"on" | "off"> | undefined;
}

/** The steps of a rank that are cut in two halves, and which ones are. */
export class OverlappedHalves {
  readonly #options: ResolvedOptions;
  readonly #combines: StepCombines;
  readonly #choice: TimedChoice<"on" | "off"> | undefined;
  readonly #attends: readonly [LocalAttention, LocalAttention];
  /** By the layer, the halves of its last operands. */
  readonly #halves = new Map<number, CutOperands>();
  /** The step under way; undefined when it stays whole. */
  #step: CutStep | undefined;
  /** The layer under way is a trial. */
  #isTrial = false;
  #count = 0;

  /** @param attends of two halves, made for nothing else; closed with this */
  constructor(options: ResolvedOptions, combines: StepCombines, attends: readonly [LocalAttention, LocalAttention]) {
    const { groups, heap, exchange } = options;
    this.#options = options;
    this.#combines = combines;
    this.#attends = attends;
    this.#choice =
      exchange.overlap === "auto" ? new TimedChoice(groups.dcp, heap, exchange.deadlineMs, MARGIN) : undefined;
  }

  /** How often a layer's attention was cut. */
  get count(): number {
    return this.#count;
  }

  /** What `auto` has measured and chosen, smallest steps first. */
  get choices(): OverlapChoiceMetrics[] {
    const classes = this.#choice?.classes ?? [];
    return classes.map(({ queries, context, chosen: overlap, microseconds }) => {
      return { queries, context, overlap, microseconds };
    });
  }

  /** True when every layer of the step under way is cut. */
  get isCertain(): boolean {
    const step = this.#step;
    return step !== undefined && (step.sizeClass === undefined || step.sizeClass.chosen === "on");
  }

  /**
   * Plans the halves of a step, unless it stays whole.
   * @param isCombineKnown tells whether the combine of such steps is no longer being timed, which cuts would disturb
   * @throws HeapExhausted: nothing is planned then
   */
  begin(plan: StepPlan, isCombineKnown: () => boolean): void {
    this.#step = undefined;
    const { groups, exchange } = this.#options;
    const cut = groups.dcp.size === 1 || exchange.overlap === "off" ? undefined : stepCut(plan);
    if (cut === undefined) return;
    const { queries } = plan;
    let sizeClass: SizeClass<"on" | "off"> | undefined;
    if (this.#choice !== undefined) {
      // Within a sequence both halves would read its keys; uneven ones leave little to hide behind.
      if (queries < LEAST_AUTO_QUERIES || !cut.isEven || !isCombineKnown()) return;
      sizeClass = this.#choice.sizeClass(queries, WAYS, cut.positions);
      if (sizeClass.chosen === "off") return;
    }
    const rows = [rowsOf(plan, 0, cut.first), rowsOf(plan, cut.first, queries)] as const;
    try {
      this.#attends[0].begin(rows[0]);
      this.#attends[1].begin(rows[1]);
    } catch (error) {
      this.end();
      throw error;
    }
    this.#step = { cut: cut.first, rows, queries, sizeClass };
  }

  /** Forgets the step. */
  end(): void {
    this.#step = undefined;
    for (const attend of this.#attends) attend.end();
  }

  /** Whether the next layer's attention is cut. Every rank makes the same calls and gets the same answer. */
  next(): boolean {
    this.#isTrial = false;
    const step = this.#step;
    if (step === undefined) return false;
    const { sizeClass } = step;
    if (sizeClass === undefined || this.#choice === undefined) return true;
    const isOn = this.#choice.next(sizeClass) === "on";
    this.#isTrial = sizeClass.chosen === undefined;
    return isOn;
  }

  /** Records how long attention and combine of the layer that `next` was asked for took, cut or whole. */
  record(milliseconds: number): void {
    const sizeClass = this.#step?.sizeClass;
    if (this.#isTrial && sizeClass !== undefined) this.#choice?.record(sizeClass, milliseconds);
    this.#isTrial = false;
  }

  /**
   * Attends and combines by halves. Where ops complete later (a GPU), both halves have read their queries when the call
   * returns its promise.
   * @param combine what the whole step would be combined by
   * @param query queries of all heads [T, H, Dk]
   * @param out where this rank's heads go [T, h, Dv], in the heap unless the combine is the GPU's; `lse` likewise
   * @throws what either half throws; nothing of the other is under way then
   */
  async attend(
    layer: number,
    combine: PlacedCombine | AllToAllOnDevice,
    query: Operand,
    out: Operand,
    lse: Operand | undefined,
  ): Promise<OverlappedTimes> {
    const [first, second] = this.#halvesOf(layer, combine.name, query, out, lse);
    this.#count++;
    try {
      return await this.#attendBoth(layer, combine, first, second);
    } catch (error) {
      await Promise.all([first.settled?.(), second.settled?.()]);
      throw error;
    }
  }

  async #attendBoth(
    layer: number,
    combine: PlacedCombine | AllToAllOnDevice,
    first: Half,
    second: Half,
  ): Promise<OverlappedTimes> {
    const { groups, exchange } = this.#options;
    const started = performance.now();
    const attending = first.attend();
    const exchanging =
      attending === undefined ? first.combine(groups.dcp.async) : attending.then(() => first.combine(undefined));
    let attendedAt = started;
    const following = (async (): Promise<void> => {
      const done = second.attend();
      if (done !== undefined) await done;
      // The halves' LSEs lie where the whole step's would.
      if (combine.place === "heap") exchange.onPartialLse?.(layer, combine.lse);
      attendedAt = performance.now();
    })();
    await bothEnd(exchanging, following);
    const lastStarted = performance.now();
    await second.combine(undefined);
    const ended = performance.now();
    this.record(ended - started);
    return {
      attentionMs: attendedAt - started,
      combineMs: ended - attendedAt,
      lastCombineMs: ended - lastStarted,
    };
  }

  close(): void {
    this.#step = undefined;
    for (const attend of this.#attends) attend.close();
  }

  /** The halves of a layer, kept while the same operands come. */
  #halvesOf(
    layer: number,
    name: Combine,
    query: Operand,
    out: Operand,
    lse: Operand | undefined,
  ): readonly [Half, Half] {
    const step = this.#step;
    if (step === undefined) throw new RangeError("no step that is cut is under way");
    const { queries, cut, rows } = step;
    const known = this.#halves.get(layer);
    if (
      known?.query === query &&
      known.out === out &&
      known.lse === lse &&
      known.name === name &&
      known.queries === queries &&
      known.cut === cut
    ) {
      return known.halves;
    }
    const combines = this.#combines.halves(name, queries, cut);
    const half = (index: 0 | 1, start: number, end: number): Half => {
      const [attend, combine] = [this.#attends[index], combines[index]];
      const part = (operand: Operand): Operand => operand.slice(0, start, end);
      const lsePart = lse === undefined ? undefined : part(lse);
      return halfOf(attend, layer, rows[index].queries, part(query), combine, part(out), lsePart);
    };
    const halves = [half(0, 0, cut), half(1, cut, queries)] as const;
    this.#halves.set(layer, { query, out, lse, name, queries, cut, halves });
    return halves;
  }
}

/** Query tokens [start, end) of a step, with the blocks of their own sequences alone. */
function rowsOf({ blockTable, sequences, positions }: StepPlan, start: number, end: number): AttendedRows {
  const [first = 0, last = 0] = [sequences[start], sequences[end - 1]];
  return {
    blockTable: blockTable.slice(0, first, last + 1),
    queries: end - start,
    sequences: sequences.subarray(start, end).map((row) => row - first),
    positions: positions.subarray(start, end),
  };
}

function halfOf(
  local: LocalAttention,
  layer: number,
  queries: number,
  query: Operand,
  combine: PlacedCombine | AllToAllOnDevice,
  out: Operand,
  lse: Operand | undefined,
): Half {
  const rows = { queries };
  const attend = (): Completion => local.attend(layer, rows, query, combine.out, combine.lse);
  if (combine.place === "device") {
    return {
      attend: () => combine.attendAndShow(attend),
      combine: () => combine.combine(out, lse),
      settled: () => combine.settled(),
    };
  }
  if (isOnGpu(out) || isOnGpu(lse)) throw new RangeError(`${combine.name} leaves results in the heap`);
  return { attend, combine: (via) => combine.combine(out, lse, via) };
}

/** Once both have ended, throws what the first or else the second threw. */
async function bothEnd(first: Promise<void>, second: Promise<void>): Promise<void> {
  for (const end of await Promise.allSettled([first, second])) if (end.status === "rejected") throw end.reason;
}
