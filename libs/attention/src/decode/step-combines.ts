import { headRange } from "@lockstep/dist-groups";
import type { DeviceSharing } from "@lockstep/kernels";
import type { Allocator, Tensor } from "@lockstep/tensor";
import { AllToAllOnDevice, combinesOnDevice } from "../combine/a2a-on-device.ts";
import { AllToAllOnSharedDevice, sharedDeviceOf } from "../combine/a2a-on-shared-device.ts";
import { COMBINES, type Combine, DEFAULT_COMBINE } from "../combine/combine.ts";
import { type CombineChoiceMetrics, combineChoices } from "../combine/combine-choice.ts";
import { COMBINE_WAYS } from "../combine/combine-table.ts";
import type { CombineSetup, PlacedCombine } from "../combine/combine-way.ts";
import { DevicePartialMemory } from "../combine/device-partial-memory.ts";
import { PartialMemory, type PartialMemoryShape, type PartialRows } from "../combine/partial-memory.ts";
import { SharedPartialMemory } from "../combine/shared-partials.ts";
import { type SizeClass, TimedChoice } from "../combine/timed-choice.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";

/** A combine of steps of one number of query tokens, wherever it runs. */
export type StepCombine = PlacedCombine | AllToAllOnDevice | AllToAllOnSharedDevice;

/** What steps of one number of query tokens use: made once and used again. */
export interface SizedCombines {
  /** One for each combine that these steps may use. */
  readonly placed: Readonly<Partial<Record<Combine, StepCombine>>>;
  /** Where a rank alone leaves an LSE that nobody asked for, and its output before it is rounded, if it is. */
  readonly spareLse: Tensor;
  readonly sums: Tensor | undefined;
  /** For `auto`. */
  readonly sizeClass: SizeClass<Combine> | undefined;
}

/** The combines of both halves of a step that was cut. */
export type Halves = readonly [PlacedCombine | AllToAllOnDevice, PlacedCombine | AllToAllOnDevice];

/** Cuts that are remembered. */
const MOST_HALVES = 64;

/** The combines of a rank's decode steps, of every size, over one memory, and which of them is next. */
export class StepCombines {
  readonly #setup: CombineSetup;
  readonly #memory: PartialMemory;
  /** Where a2a combines on the GPU; undefined where all combines are the heap's. */
  readonly #device: DevicePartialMemory | undefined;
  /** Where it does so on one that all ranks share. */
  readonly #shared: { readonly memory: SharedPartialMemory; readonly sharing: DeviceSharing } | undefined;
  readonly #exchange: ResolvedOptions["exchange"];
  /** Most query tokens of a step that each takes, in the order of preference. */
  readonly #mostRows: ReadonlyMap<Combine, number>;
  /** undefined when one combine was chosen by the options. */
  readonly #choice: TimedChoice<Combine> | undefined;
  readonly #sizes = new Map<number, SizedCombines>();
  readonly #halves = new Map<string, Halves>();
  #last: Combine;

  /** Takes {@link StepCombines.bytes} of `scratch`. */
  constructor(options: ResolvedOptions, scratch: Allocator) {
    const { groups, heap, exchange } = options;
    const { combine, deadlineMs } = exchange;
    this.#setup = combineSetup(options);
    this.#mostRows = mostRows(options);
    this.#memory = new PartialMemory(memoryShape(options), scratch);
    this.#choice = combine === "auto" ? new TimedChoice(groups.dcp, heap, deadlineMs) : undefined;
    this.#exchange = exchange;
    const sharing = sharingOf(options);
    const isOnDevice = exchange.onPartialLse === undefined && combinesOnDevice(options.backend, this.#setup);
    const shape = partialShape(options);
    const query = { headDim: options.model.headDim, dtype: exchange.gatherDtype };
    this.#shared = sharing && {
      memory: new SharedPartialMemory(options.backend, sharing, shape, query, this.#setup),
      sharing,
    };
    const { size } = groups.dcp;
    const heads = Array.from({ length: size }, (_, rank) => headRange(shape.heads, rank, size));
    this.#device =
      isOnDevice && sharing === undefined
        ? new DevicePartialMemory(options.backend, shape, heads, groups.ownHeads.count)
        : undefined;
    const [first = DEFAULT_COMBINE] = this.#mostRows.keys();
    this.#last = first;
  }

  static bytes(options: ResolvedOptions): number {
    return PartialMemory.bytes(memoryShape(options));
  }

  /** The combine of the last step. */
  get last(): Combine {
    return this.#last;
  }

  /** What `auto` has measured and chosen. */
  get choices(): CombineChoiceMetrics[] {
    return this.#choice === undefined ? [] : combineChoices(this.#choice);
  }

  /** What steps of so many query tokens use. */
  of(queries: number): SizedCombines {
    const known = this.#sizes.get(queries);
    if (known !== undefined) return known;
    const names = [...this.#mostRows].filter(([, most]) => queries <= most).map(([name]) => name);
    const sized: SizedCombines = {
      placed: Object.fromEntries(names.map((name) => [name, this.#placeWhole(name, queries)])),
      spareLse: this.#memory.apart(queries).lse,
      sums: this.#memory.sums(queries),
      sizeClass: this.#choice?.sizeClass(queries, names),
    };
    this.#sizes.set(queries, sized);
    return sized;
  }

  /** The combine of the next layer. Every rank makes the same calls and gets the same one. */
  next({ placed, sizeClass }: SizedCombines): StepCombine {
    const name = sizeClass === undefined ? this.#last : (this.#choice?.next(sizeClass) ?? this.#last);
    const combine = placed[name];
    if (combine === undefined) throw new RangeError(`${name} takes no steps of this size`);
    return combine;
  }

  /** True unless the combines of steps of this size are still being timed. */
  isKnown({ sizeClass }: SizedCombines): boolean {
    return sizeClass === undefined || sizeClass.chosen !== undefined;
  }

  /**
   * A combine of the first `cut` query tokens of a step of `queries`, and one of the others. Their partial results lie
   * beside each other, where the whole step's would.
   */
  halves(name: Combine, queries: number, cut: number): Halves {
    const key = `${name} ${queries} ${cut}`;
    const known = this.#halves.get(key);
    if (known !== undefined) return known;
    const [oldest] = this.#halves.keys();
    if (oldest !== undefined && this.#halves.size >= MOST_HALVES) this.#halves.delete(oldest);
    const half = (first: number, end: number): PlacedCombine | AllToAllOnDevice =>
      this.#place(name, end - first, this.#memory.rowsOf(queries, first), { first, of: queries });
    const made: Halves = [half(0, cut), half(cut, queries)];
    this.#halves.set(key, made);
    return made;
  }

  /** Records how long the combine that `next` gave took. */
  record({ sizeClass }: SizedCombines, { name }: StepCombine, milliseconds: number): void {
    if (sizeClass !== undefined) this.#choice?.record(sizeClass, milliseconds);
    this.#last = name;
  }

  /** Frees what lies on a GPU. */
  close(): void {
    this.#device?.free();
    this.#shared?.memory.free();
  }

  /** The combine of whole steps. */
  #placeWhole(name: Combine, queries: number): StepCombine {
    if (name !== "a2a" || this.#shared === undefined) return this.#place(name, queries, this.#memory);
    const { memory, sharing } = this.#shared;
    const { queryReplicated: isWhole, gatherDtype, queryScale } = this.#exchange;
    const scale = gatherDtype === "f8e4m3" ? queryScale : undefined;
    return new AllToAllOnSharedDevice(queries, memory, { isWhole, scale }, this.#setup, sharing);
  }

  #place(
    name: Combine,
    queries: number,
    memory: PartialRows,
    part?: { readonly first: number; readonly of: number },
  ): PlacedCombine | AllToAllOnDevice {
    if (name !== "a2a" || this.#device === undefined) {
      return COMBINE_WAYS[name].place(queries, memory, this.#setup);
    }
    return new AllToAllOnDevice(queries, this.#device, memory.apart(queries), this.#setup, part);
  }
}

/** Where ranks attend and combine on a device that they share. */
function sharingOf(options: ResolvedOptions): DeviceSharing | undefined {
  if (options.exchange.onPartialLse !== undefined) return undefined;
  return sharedDeviceOf(options.backend, combineSetup(options));
}

function combineSetup({ mergeBackend, heap, groups, exchange }: ResolvedOptions): CombineSetup {
  return {
    backend: mergeBackend,
    dcpGroup: groups.dcp,
    queryGroup: groups.query,
    own: groups.ownHeads,
    base: "e",
    nonFinite: "propagate",
    allocator: heap,
    deadlineMs: exchange.deadlineMs,
  };
}

/** Most query tokens of a step that each combine takes. */
function mostRows(options: ResolvedOptions): Map<Combine, number> {
  const { combine } = options.exchange;
  const { maxQueries } = options.steps;
  if (combine !== "auto") return new Map([[combine, maxQueries]]);
  // The others would bring to the host what need not leave the device.
  if (sharingOf(options) !== undefined) return new Map([[DEFAULT_COMBINE, maxQueries]]);
  const [shape, setup] = [partialShape(options), combineSetup(options)];
  const most = COMBINES.map((name) => {
    return [name, Math.min(maxQueries, COMBINE_WAYS[name].autoRows(shape, setup))] as const;
  });
  return new Map(most.filter(([, rows]) => rows > 0));
}

function partialShape({ model, groups, exchange, steps }: ResolvedOptions) {
  // Alone, the partial result is the result.
  const dtype = groups.isAlone ? ("f32" as const) : exchange.partialDtype;
  return { rows: steps.maxQueries, heads: model.queryHeads, valueDim: model.valueDim, dtype };
}

function memoryShape(options: ResolvedOptions): PartialMemoryShape {
  const [shape, setup] = [partialShape(options), combineSetup(options)];
  const received = [...mostRows(options)].map(([name, most]) => {
    return COMBINE_WAYS[name].receivedElements(most, shape, setup);
  });
  return {
    ...shape,
    ownHeads: options.groups.ownHeads.count,
    keepsSums: options.exchange.queryDtype !== "f32",
    receivedElements: Math.max(...received),
  };
}
