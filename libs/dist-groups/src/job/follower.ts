// A process of a job other than the first: it makes its part of every world that the leader opens, starts the workers
// of its ranks, and passes on what they and the leader tell each other.

import type { Letter } from "../transport/mpi/post.ts";
import { MAIN_TAG } from "../transport/mpi/tags.ts";
import { printedValue } from "../errors/printed-value.ts";
import type { WebWorkerLike } from "../site/worker-like.ts";
import { exitProcess, type Job } from "./job.ts";
import { decodeMain, encodeMain, type FollowerMessage, type LeaderMessage, type WorldPart } from "./main-messages.ts";
import { longestSilenceMs } from "./launched-processes.ts";
import { ProcessPart } from "./process-part.ts";

/** How often it tells the leader that it lives, and looks at the flight rings of its ranks, in milliseconds. */
const PULSE_MS = 250;
/** Resolution of the coarse clock that ranks record with, in milliseconds. */
const TICK_MS = 10;
const LEADER = 0;

/** Its part of one world. */
interface OpenPart {
  readonly part: ProcessPart;
  readonly workers: ReadonlyMap<number, WebWorkerLike>;
  /** The last ring that was sent, by rank and channel: what it counted, and its last entry. */
  readonly sent: Map<string, string>;
}

/** Serves the leader until it says goodbye; then the process ends with the leader's exit code. */
export class Follower {
  readonly #job: Job;
  readonly #worlds = new Map<number, Promise<OpenPart>>();
  readonly #open = new Map<number, OpenPart>();
  readonly #longestSilenceMs = longestSilenceMs();
  #heardAt = performance.now();

  constructor(job: Job) {
    this.#job = job;
    job.onLetter = (letter) => this.#take(letter);
    job.pump.hold();
    setInterval(() => this.#pulse(), PULSE_MS);
    setInterval(() => {
      for (const { part } of this.#open.values()) part.tick();
    }, TICK_MS);
  }

  #send(message: FollowerMessage): void {
    this.#job.outbox.send(encodeMain(message), LEADER, MAIN_TAG);
    this.#job.pump.hurry();
  }

  #take({ bytes }: Letter): void {
    this.#heardAt = performance.now();
    const message = decodeMain<LeaderMessage>(bytes);
    if (message.kind === "open") {
      const opening = this.#openPart(message);
      this.#worlds.set(message.world, opening);
      opening.then(
        (open) => this.#open.set(message.world, open),
        (error: unknown) => this.#failToOpen(message, error),
      );
    } else if (message.kind === "bye") this.#end(message.code);
    else if (message.kind !== "pulse")
      this.#worlds
        .get(message.world)
        ?.then((open) => this.#passOn(message, open))
        .catch(() => undefined);
  }

  async #openPart(message: WorldPart): Promise<OpenPart> {
    const part = new ProcessPart(this.#job, message, undefined);
    await part.prepare();
    const { world } = message;
    const workers = new Map<number, WebWorkerLike>();
    for (const rank of part.ranks) {
      const worker = part.startWorker(rank, message.worker);
      workers.set(rank, worker);
      const tell = (type: "message" | "error" | "close", detail: unknown): void =>
        this.#send({ kind: "from-rank", world, rank, type, detail });
      worker.addEventListener("message", (event) => this.#relay(tell, Reflect.get(event, "data")));
      worker.addEventListener("error", (event) => {
        (event as { preventDefault?(): void }).preventDefault?.();
        tell("error", String(Reflect.get(event, "message") ?? printedValue(Reflect.get(event, "error"))));
      });
      worker.addEventListener("close", (event) => tell("close", Reflect.get(event, "code")));
    }
    return { part, workers, sent: new Map() };
  }

  /** What a worker tells came through a structured clone, but not every clone goes through bytes: memories do not. */
  #relay(tell: (type: "message" | "error", detail: unknown) => void, data: unknown): void {
    try {
      tell("message", data);
    } catch (error) {
      tell("error", `its answer cannot be copied to another process (${printedValue(error)}). Return plain data`);
    }
  }

  #failToOpen({ world, homes }: WorldPart, error: unknown): void {
    for (const [rank, { process }] of homes.entries()) {
      if (process !== this.#job.process) continue;
      const detail = `its process could not make its part of the world: ${printedValue(error)}`;
      this.#send({ kind: "from-rank", world, rank, type: "error", detail });
    }
    // Nothing of it has to be closed.
    this.#worlds.delete(world);
    this.#send({ kind: "closed", world });
  }

  #passOn(message: Exclude<LeaderMessage, { kind: "open" | "bye" | "pulse" }>, { part, workers }: OpenPart): void {
    if (message.kind === "close") {
      for (const worker of workers.values()) worker.terminate();
      part.close();
      this.#worlds.delete(message.world);
      this.#open.delete(message.world);
      this.#send({ kind: "closed", world: message.world });
    } else if (message.kind === "terminate") workers.get(message.rank)?.terminate();
    else workers.get(message.rank)?.postMessage(message.message, []);
  }

  #pulse(): void {
    // Letters that came while this thread was busy, or the process stopped, are taken before the leader counts as dead.
    this.#job.poll();
    const silentMs = Math.round(performance.now() - this.#heardAt);
    if (silentMs > this.#longestSilenceMs) this.#giveUp(silentMs);
    this.#send({ kind: "pulse" });
    for (const [world, { part, sent }] of this.#open) {
      for (const rank of part.ranks) {
        for (const [channel, ring] of part.rings(rank)) {
          const key = `${rank} ${channel}`;
          const words = ring.slice();
          const content = words.join();
          if (sent.get(key) === content) continue;
          sent.set(key, content);
          this.#send({ kind: "ring", world, rank, channel, words });
        }
      }
    }
  }

  /** The leader is gone. */
  #giveUp(silentMs: number): void {
    console.error(
      `Lockstep: process ${this.#job.process} ends the job: the first process has been silent for ${silentMs} ms. ` +
        "It was killed or stopped, or it computes without a pause: then set LOCKSTEP_MPI_SILENCE_MS to more milliseconds.",
    );
    this.#job.abort(1);
    exitProcess(1);
  }

  #end(code: number): void {
    for (const { workers } of this.#open.values()) for (const worker of workers.values()) worker.terminate();
    this.#send({ kind: "bye" });
    this.#job.end(() => true);
    exitProcess(code);
  }
}
