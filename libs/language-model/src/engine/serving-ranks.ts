// The host's side of ranks that serve.
import type { ContextImage } from "@lockstep/attention";
import type { FlightRecord, MethodsOf, World } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";
import type { StoredContext } from "../generation/context-rank.ts";
import type { ContextRanks } from "../generation/move-live-context.ts";
import { openRanks } from "../generation/open-ranks.ts";
import { WordStream } from "../generation/word-stream.ts";
import { type EngineRankOptions, type FreeBlocks, type PrefixPlace, STORE_DEADLINE_MS } from "./engine-program.ts";
import type { StoredPrefixes } from "./prefix-store.ts";
import { RequestServer, SLICE_MS, type ServeChanges, type ServedTrace } from "./request-server.ts";
import type { EngineSizes } from "./resolve-engine-options.ts";
import type { RunningText, ScheduledRequest } from "./scheduler.ts";
import { readEvents, type ServeEvent } from "./serve-events.ts";

type Program = typeof import("./engine-program.ts");

/** Bytes of the host's heap that these take. */
function servingHeapBytes(maxRunning: number): number {
  return WordStream.bytes(RequestServer.eventWords(maxRunning)) + 4096;
}

/** How ranks stand when they have returned. */
export interface RanksState {
  /** Whether there is more to compute. */
  readonly isBusy: boolean;
  /** The step that was taken down, as each rank saw it; empty without. */
  readonly traced: readonly ServedTrace[];
}

/** Ranks that serve requests, and what they say meanwhile. */
export class ServingRanks implements ContextRanks {
  readonly rank: EngineRankOptions;
  readonly #world: World<MethodsOf<Program>>;
  readonly #events: WordStream;
  readonly #interrupt: Tensor;
  readonly #deadlineMs: number;
  #freeBlocks: FreeBlocks = { free: 0, known: 0 };

  private constructor(world: World<MethodsOf<Program>>, rank: EngineRankOptions, deadlineMs: number) {
    const { maxRunning } = rank;
    this.#world = world;
    this.rank = rank;
    // A rank that does not come is named by those that wait for it in a collective: before all are given up.
    this.#deadlineMs = 2 * deadlineMs + SLICE_MS;
    this.#events = WordStream.create(world.heap, RequestServer.eventWords(maxRunning));
    this.#interrupt = Tensor.zeros(world.heap, "i32", [1]);
  }

  /** Starts them; resolves once all have loaded the model. @throws whatever stopped a rank */
  static async open({ resolved, maxRunning, sharesPrefixes }: EngineSizes): Promise<ServingRanks> {
    const options: EngineRankOptions = { ...resolved.rank, maxRunning, sharesPrefixes };
    const program = new URL("./engine-program.ts", import.meta.url);
    const world = await openRanks<Program>(resolved, {
      program,
      options,
      heapBytes: servingHeapBytes(maxRunning),
      identify: (opened) => opened.call("identify", []),
    });
    try {
      return new ServingRanks(world, options, resolved.deadlineMs);
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** Blocks that nobody held when the ranks answered last. */
  get freeBlocks(): FreeBlocks {
    return this.#freeBlocks;
  }

  /**
   * Resolves when every rank has answered. Only while they do not serve.
   * @param withinMs how long they may take; left out: as long as for steps
   * @throws whatever stopped a rank
   */
  async answer(withinMs = this.#deadlineMs): Promise<void> {
    const deadlineMs = Math.min(withinMs, this.#deadlineMs);
    const [blocks] = await this.#world.call("freeBlocks", [], { deadlineMs });
    if (blocks !== undefined) this.#freeBlocks = blocks;
  }

  /**
   * Gives the ranks changes and lets them serve, until all is done, somebody interrupts them, or a second is over.
   * @param take the changes, asked for once nothing that comes after them can be missed
   * @param onEvents told what the ranks say, some milliseconds late at most
   * @throws whatever stopped a rank
   */
  async serve(take: () => ServeChanges, onEvents: (events: Iterable<ServeEvent>) => void): Promise<RanksState> {
    this.#events.clear();
    Atomics.store(this.#interrupt.i32, 0, 0);
    const args = [take(), this.#events.descriptor, this.#interrupt.descriptor] as const;
    const answer = this.#world.call("serve", [...args], { deadlineMs: this.#deadlineMs });
    for await (const words of this.#events.read(answer)) onEvents(readEvents(words));
    const states = await answer;
    const traced = states.flatMap((state) => (state.traced === undefined ? [] : [state.traced]));
    return { isBusy: states[0]?.isBusy ?? false, traced };
  }

  /** What a rank stores. This and the next two only while they do not serve. */
  storedContext(rank: number): Promise<StoredContext> {
    return this.#world.callRank(rank, "storedContext", []);
  }

  /** Rows on their way to other ranks. */
  readRows(rank: number, slots: readonly number[]): Promise<Uint8Array[]> {
    return this.#world.callRank(rank, "readRows", [slots]);
  }

  /** Rows that came from others. */
  writeRows(rank: number, slots: readonly number[], parts: readonly Uint8Array[]): Promise<void> {
    return this.#world.callRank(rank, "writeRows", [slots, parts]);
  }

  /** Requests that are computed. Only while they do not serve. */
  runningTexts(): Promise<RunningText[]> {
    return this.#world.callRank(0, "runningTexts", []);
  }

  /** Goes on with a context that has moved here, and with the requests of the ranks that had it. */
  async resume(
    image: ContextImage,
    requests: readonly ScheduledRequest[],
    texts: readonly RunningText[],
  ): Promise<void> {
    await this.#world.call("resume", [image, requests, texts], { deadlineMs: this.#deadlineMs });
  }

  /** Saves known beginnings of texts. Only while they do not serve. */
  async savePrefixes(place: PrefixPlace): Promise<StoredPrefixes> {
    const args: [PrefixPlace, string] = [place, crypto.randomUUID()];
    const [saved] = await this.#world.call("savePrefixes", args, { deadlineMs: 2 * STORE_DEADLINE_MS });
    return saved ?? { blocks: 0, moved: 0 };
  }

  /** Loads what was saved; undefined when nothing was. Only while they do not serve. */
  async loadPrefixes(place: PrefixPlace): Promise<StoredPrefixes | undefined> {
    const [loaded] = await this.#world.call("loadPrefixes", [place], { deadlineMs: 2 * STORE_DEADLINE_MS });
    return loaded;
  }

  /** Has the ranks return after the step that they are in. */
  interrupt(): void {
    Atomics.store(this.#interrupt.i32, 0, 1);
  }

  /** What every rank is doing, also while one hangs. */
  flightRecord(): FlightRecord {
    return this.#world.flightRecord();
  }

  /** Ends one rank at once, as a crash would. */
  terminateRank(rank: number): Promise<void> {
    return this.#world.terminateRank(rank);
  }

  close(): Promise<void> {
    return this.#world.close();
  }
}
