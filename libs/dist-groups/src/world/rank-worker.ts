import { ArgumentError } from "@lockstep/tensor";
import * as Comlink from "comlink";
import { RankCrashed } from "../errors/errors.ts";
import { fromPlainError } from "../errors/plain-error.ts";
import { printedValue } from "../errors/printed-value.ts";
import type { GroupDescriptor } from "../rank/rank-protocol.ts";
import { TELLS_END, type WorkerEvent } from "../site/rank-thread.ts";
import type { WebWorkerLike } from "../site/worker-like.ts";
import { isRankNotice, type RankConfiguration, type RankControl, type Reply } from "../rank/rank-protocol.ts";

/** Longest wait for the `close` event of a terminated worker. */
const LONGEST_END_MS = 2_000;
/** A dying rank may take so long to let go of what it holds, and be silent for so long meanwhile. */
const [LONGEST_RELEASE_MS, LONGEST_SILENCE_MS] = [10_000, 1_500];
const LOOK_MS = 50;

/** What an `error` event tells. Browsers say nothing about a module that cannot be loaded. */
function reasonOf({ error, message, filename }: WorkerEvent): string {
  const told = typeof message === "string" ? message.trim().replace(/^Uncaught /, "") : "";
  if (told === "" && error === undefined) return "its module could not be loaded";
  const what = told === "" ? printedValue(error) : told;
  const where = typeof filename === "string" && filename !== "" && !what.includes(filename) ? ` in ${filename}` : "";
  return `uncaught ${what}${where}`;
}

/** The host's end of one rank: its worker, its control calls, and its death. */
export class RankWorker {
  readonly rank: number;
  /** Settles when the worker listens; rejects with {@link RankCrashed} when it dies before. */
  readonly ready: Promise<void>;
  readonly #worker: WebWorkerLike;
  readonly #control: Comlink.Remote<RankControl>;
  readonly #onDeath: (error: RankCrashed) => void;
  readonly #ended: Promise<void>;
  readonly #heartbeat: () => number;
  #ending: Promise<void> | undefined;
  #death: RankCrashed | undefined;
  #terminated = false;
  #isReady = false;
  /** Its program registered `onClose` callbacks. */
  #isHolding = false;

  /**
   * Takes a worker that has just been started. `onDeath` is called at most once, and not for {@link
   * RankWorker.terminate}. `heartbeat` tells how often the rank has come round.
   */
  constructor(rank: number, worker: WebWorkerLike, onDeath: (error: RankCrashed) => void, heartbeat: () => number) {
    this.rank = rank;
    this.#heartbeat = heartbeat;
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.#ended = ended.promise;
    this.#onDeath = (error) => {
      ready.reject(error);
      onDeath(error);
    };
    ready.promise.catch(() => undefined);
    this.#worker = worker;
    worker.addEventListener("message", ({ data }: WorkerEvent) => {
      if (!isRankNotice(data)) return;
      if (data.lockstep === "ready") {
        this.#isReady = true;
        ready.resolve();
      } else if (data.lockstep === "holding") {
        this.#isHolding = true;
      } else {
        const error = fromPlainError(data.error);
        this.die(error instanceof RankCrashed ? error : new RankCrashed(rank, error.message, error));
      }
    });
    worker.addEventListener("error", (event: WorkerEvent) => {
      // Deno ends the whole process otherwise.
      event.preventDefault?.();
      this.die(new RankCrashed(rank, reasonOf(event)));
    });
    worker.addEventListener("close", ({ code }: WorkerEvent) => {
      ended.resolve();
      this.die(new RankCrashed(rank, `its worker ended with exit code ${code}`));
    });
    this.#control = Comlink.wrap<RankControl>(worker as Comlink.Endpoint);
  }

  /** Why the rank died, or undefined while it lives. */
  get death(): RankCrashed | undefined {
    return this.#death;
  }

  /** Whether the worker has ever listened. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Declares the rank dead: no call will be answered. Its worker is ended. */
  die(error: RankCrashed): void {
    if (this.#death !== undefined || this.#terminated) return;
    this.#death = error;
    this.#onDeath(error);
    void this.end();
  }

  start(configuration: RankConfiguration): Promise<Reply> {
    return this.#settled("openWorld", "options", this.#control.start(configuration));
  }

  invoke(method: string, args: readonly unknown[], callWord: number | undefined): Promise<Reply> {
    return this.#settled("world.call", "args", this.#control.invoke(method, args, callWord));
  }

  join(descriptor: GroupDescriptor): Promise<Reply> {
    return this.#settled("world.createGroup", "name", this.#control.join(descriptor));
  }

  leaveGroup(generation: number, because: "closed" | "replaced"): Promise<Reply> {
    return this.#settled("world.destroyGroup", "name", this.#control.leaveGroup(generation, because));
  }

  close(): Promise<Reply> {
    return this.#settled("world.close", "rank", this.#control.close());
  }

  /**
   * A control call fails by itself only when what it brings cannot be copied: whatever a rank answers is a
   * {@link Reply}.
   */
  async #settled(operation: string, argument: string, reply: Promise<Reply>): Promise<Reply> {
    try {
      return await reply;
    } catch (error) {
      throw new ArgumentError(operation, argument, "data that structured cloning can copy", printedValue(error));
    }
  }

  /**
   * Ends the worker of a dead rank, which may let go of what it holds before, as long as it answers: a worker that is
   * terminated while its GPU computes takes the process with it. Idempotent.
   */
  end(): Promise<void> {
    this.#ending ??= this.#letGo().then(() => this.terminate());
    return this.#ending;
  }

  async #letGo(): Promise<void> {
    if (!this.#isHolding || this.#terminated) return;
    let isOver = false;
    const over = (): void => {
      isOver = true;
    };
    const released = Promise.race([this.#control.close().catch(() => undefined), this.#ended]).then(over);
    const began = performance.now();
    let beat = { count: this.#heartbeat(), at: began };
    while (!isOver && !this.#terminated) {
      await Promise.race([released, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
      const [now, count] = [performance.now(), this.#heartbeat()];
      if (count !== beat.count) beat = { count, at: now };
      if (now - beat.at > LONGEST_SILENCE_MS || now - began > LONGEST_RELEASE_MS) return;
    }
  }

  /** Ends the worker at once. Idempotent. */
  async terminate(): Promise<void> {
    if (!this.#terminated) {
      this.#terminated = true;
      this.#worker.terminate();
      // Comlink's finalization registry holds the worker, whose listeners hold the proxy: without this the world's
      // memory would stay reachable for ever.
      this.#control[Comlink.releaseProxy]();
    }
    // Elsewhere no event tells the end, and terminate() leaves nothing to wait for.
    if (!TELLS_END) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LONGEST_END_MS);
    });
    await Promise.race([this.#ended, timeout]);
    clearTimeout(timer);
  }
}
