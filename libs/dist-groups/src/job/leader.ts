// The first process of a job: where users' code runs, and what its worlds know of the other processes.

import { ArgumentError, describe } from "@lockstep/tensor";
import { RankCrashed } from "../errors/errors.ts";
import type { HostTransport } from "../transport/world-transport.ts";
import { decodeRankNews } from "../transport/mpi/messages.ts";
import { MpiHost } from "../transport/mpi/host-end.ts";
import type { Letter } from "../transport/mpi/post.ts";
import { dealRanks, MAIN_TAG, MOST_WORKERS } from "../transport/mpi/tags.ts";
import { hrefOf } from "../site/rank-thread.ts";
import {
  checkStagingBytes,
  chooseStagedLimits,
  DEFAULT_STAGING_BYTES,
  LIMITS_OVER_MPI,
  type StagedLimits,
} from "../site/staged-limits.ts";
import type { WebWorkerLike } from "../site/worker-like.ts";
import type { WorldSettings } from "../site/world-settings.ts";
import type { WorldSite } from "../site/world-site.ts";
import type { SharedHeap } from "@lockstep/tensor";
import { everyNowAndThen, type Job, onProcessExit, openJob } from "./job.ts";
import { decodeMain, encodeMain, type FollowerMessage, type LeaderMessage, type WorldPart } from "./main-messages.ts";
import { divideMemory } from "./process-memory.ts";
import { ProcessPart, ranksByProcess } from "./process-part.ts";
import { InformedWorker } from "./informed-worker.ts";
import { RemoteWorker } from "./remote-worker.ts";

/** A staging area has whole lines. */
const STAGING_STEP_BYTES = 128;
const MOST_STAGING_BYTES = 2 ** 20;
/** How long a process may be silent before its ranks count as dead, in milliseconds; it tells twice a second. */
const SILENCE_MS = 10_000;
const CHECK_MS = 1_000;
/** How often it tells the other processes that it lives. */
const PULSE_MS = 500;
/** How long closing a world waits for the other processes. */
const CLOSE_MS = 5_000;

/** What the leader knows of the job, whatever worlds are open. */
class Leader {
  readonly job: Job;
  readonly worlds = new Map<number, ManyProcesses>();
  readonly heardAt: number[];
  readonly #gone = new Set<number>();
  readonly #bye = new Set<number>();
  #watch: ReturnType<typeof setInterval> | undefined;

  constructor(job: Job) {
    this.job = job;
    this.heardAt = Array.from({ length: job.processes }, () => performance.now());
    job.onLetter = (letter) => this.#take(letter);
    job.onNews = ({ bytes }) => {
      const news = decodeRankNews(bytes);
      this.worlds.get(news.world)?.host.take(news);
    };
    onProcessExit((code) => this.#end(code));
    everyNowAndThen(() => this.#pulse(), PULSE_MS);
  }

  send(process: number, message: LeaderMessage): void {
    this.job.outbox.send(encodeMain(message), process, MAIN_TAG);
    this.job.pump.hurry();
  }

  /** Whether a process has been silent for too long. */
  isGone(process: number): boolean {
    return this.#gone.has(process);
  }

  opened(world: ManyProcesses): void {
    if (this.worlds.size === 0) this.heardAt.fill(performance.now());
    this.worlds.set(world.part.world, world);
    this.#watch ??= setInterval(() => this.#check(), CHECK_MS);
  }

  closed(world: ManyProcesses): void {
    this.worlds.delete(world.part.world);
    if (this.worlds.size > 0) return;
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  #take({ from, bytes }: Letter): void {
    this.heardAt[from] = performance.now();
    const message = decodeMain<FollowerMessage>(bytes);
    if (message.kind === "bye") this.#bye.add(from);
    else if (message.kind !== "pulse") this.worlds.get(message.world)?.take(from, message);
  }

  /** What others tell while no world is open must not pile up. */
  #pulse(): void {
    this.job.poll();
    for (let process = 1; process < this.job.processes; process++) {
      if (!this.#gone.has(process)) this.send(process, { kind: "pulse" });
    }
  }

  /** Letters that came while this thread was busy are taken before anybody is declared dead. */
  #check(): void {
    this.job.poll();
    const now = performance.now();
    for (let process = 1; process < this.job.processes; process++) {
      if (this.#gone.has(process) || now - (this.heardAt[process] ?? 0) < SILENCE_MS) continue;
      this.#gone.add(process);
      for (const world of this.worlds.values()) world.lose(process, `its process (MPI rank ${process}) fell silent`);
    }
  }

  /** This process ends: tells the others, and waits for them. */
  #end(code: number): void {
    for (const world of this.worlds.values()) world.abandon();
    for (let process = 1; process < this.job.processes; process++) this.send(process, { kind: "bye", code });
    if (this.#gone.size > 0) this.job.abort(code === 0 ? 1 : code);
    else this.job.end(() => this.#bye.size === this.job.processes - 1);
  }
}

let leader: Leader | undefined;

/** Makes this process, the first of a job, its leader: from now on it tells the others that it lives, and when it ends. */
export function leadJob(): void {
  leader ??= new Leader(openJob());
}

/** A world whose ranks are workers of several processes, seen from the first of them. */
export class ManyProcesses implements WorldSite {
  readonly processes: readonly (readonly number[])[];
  readonly heap: SharedHeap;
  readonly transport: HostTransport;
  readonly stagedLimits: StagedLimits;
  readonly host: MpiHost;
  readonly part: WorldPart;
  readonly #own: ProcessPart;
  readonly #leader: Leader;
  readonly #settings: WorldSettings;
  readonly #remote = new Map<number, RemoteWorker>();
  readonly #started: WebWorkerLike[] = [];
  readonly #unclosed = new Set<number>();
  #allClosed: (() => void) | undefined;
  #held: Disposable | undefined;

  /** Throws ArgumentError when the world does not fit the processes. Nothing has been asked of them then. */
  constructor(settings: WorldSettings) {
    leader ??= new Leader(openJob());
    const { job } = leader;
    const { size, worker, heapBytesPerRank, heapBytesHost } = settings;
    const stagingBytes = settings.stagingBytes ?? DEFAULT_STAGING_BYTES;
    checkStagingBytes(stagingBytes, size, STAGING_STEP_BYTES, MOST_STAGING_BYTES);
    const homes = dealRanks(size, job.processes);
    this.processes = ranksByProcess(homes);
    const mostWorkers = Math.max(...this.processes.map((ranks) => ranks.length));
    if (mostWorkers > MOST_WORKERS) {
      const expected = `at most ${MOST_WORKERS * job.processes} for ${job.processes} processes`;
      throw new ArgumentError("openWorld", "size", expected, describe(size));
    }
    if (typeof worker === "function") {
      const expected = "the address of a module: a function cannot start workers in other processes";
      throw new ArgumentError("openWorld", "worker", expected, "a function");
    }
    divideMemory(size, mostWorkers, heapBytesPerRank, heapBytesHost);
    this.#leader = leader;
    this.#settings = settings;
    const openedAt = Date.now();
    const address = worker === undefined ? undefined : hrefOf(worker);
    const part = { world: job.nextWorld(), size, homes, openedAt, heapBytesPerRank, stagingBytes, worker: address };
    this.part = part;
    this.#own = new ProcessPart(job, part, heapBytesHost);
    this.heap = this.#own.heap;
    this.stagedLimits = chooseStagedLimits(settings.stagedLimit, stagingBytes, LIMITS_OVER_MPI);
    this.host = new MpiHost({
      world: part.world,
      openedAt,
      homes,
      stagingBytes,
      initialProgress: settings.initialProgress ?? 0,
      outbox: job.outbox,
      blocks: this.#own.blocks,
      nextChannel: job.nextChannel,
      copyRing: (rank, channel, to) => {
        for (const [of, ring] of this.#own.rings(rank)) if (of === channel) to.set(ring);
      },
      tick: () => this.#own.tick(),
    });
    this.transport = this.host;
  }

  #otherProcesses(): number[] {
    return this.processes.map((_, process) => process).slice(1);
  }

  async prepare(): Promise<void> {
    await this.#own.prepare();
    this.#leader.opened(this);
    this.#held = this.#leader.job.pump.hold();
    for (const process of this.#otherProcesses()) {
      this.#unclosed.add(process);
      this.#leader.send(process, { kind: "open", ...this.part });
    }
  }

  startWorker(rank: number): WebWorkerLike {
    const { world, homes } = this.part;
    const process = homes[rank]?.process ?? 0;
    if (process === 0) {
      const worker = this.#own.startWorker(rank, this.#settings.worker);
      this.#started.push(worker);
      return new InformedWorker(worker, this.transport);
    }
    const worker = new RemoteWorker({
      send: (message) => this.#leader.send(process, { kind: "to-rank", world, rank, message }),
      terminate: () => this.#leader.send(process, { kind: "terminate", world, rank }),
    });
    this.#remote.set(rank, worker);
    // Once the host listens.
    if (this.#leader.isGone(process)) queueMicrotask(() => this.lose(process, "its process fell silent before"));
    return new InformedWorker(worker, this.transport);
  }

  /** What a process tells of this world. */
  take(process: number, message: FollowerMessage): void {
    if (message.kind === "closed") this.#processClosed(process);
    else if (message.kind === "ring") this.host.takeRing(message.rank, message.channel, message.words);
    else if (message.kind === "from-rank") {
      const { type, detail } = message;
      const event = { message: { data: detail }, error: { message: detail }, close: { code: detail } }[type];
      this.#remote.get(message.rank)?.dispatch(type, event);
    }
  }

  /** A process is gone, and its ranks with it. */
  lose(process: number, reason: string): void {
    for (const rank of this.processes[process] ?? []) {
      this.host.exit(rank, new RankCrashed(rank, reason));
      this.#remote.get(rank)?.dispatch("error", { message: reason });
    }
    this.#processClosed(process);
  }

  #processClosed(process: number): void {
    this.#unclosed.delete(process);
    if (this.#unclosed.size === 0) this.#allClosed?.();
  }

  /** The process ends while the world is open. */
  abandon(): void {
    for (const worker of this.#started) worker.terminate();
  }

  async close(): Promise<void> {
    if (this.#held === undefined) return;
    for (const process of this.#unclosed) this.#leader.send(process, { kind: "close", world: this.part.world });
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#allClosed = resolve;
      timer = setTimeout(resolve, CLOSE_MS);
      if (this.#unclosed.size === 0) resolve();
    });
    clearTimeout(timer);
    this.#own.close();
    this.#leader.closed(this);
    this.#held[Symbol.dispose]();
    this.#held = undefined;
  }
}
