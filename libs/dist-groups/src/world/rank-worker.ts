import { ArgumentError } from "@lockstep/tensor";
import * as Comlink from "comlink";
import { RankCrashed } from "../errors/errors.ts";
import { fromPlainError } from "../errors/plain-error.ts";
import { printedValue } from "../errors/printed-value.ts";
import type { GroupDescriptor } from "../rank/rank-protocol.ts";
import { isRankNotice, type RankConfiguration, type RankControl, type Reply } from "../rank/rank-protocol.ts";

/** Longest wait for a terminated Bun worker's `close` event. */
const LONGEST_END_MS = 2_000;

/** The host's end of one rank: its worker, its control calls, and its death. */
export class RankWorker {
  readonly rank: number;
  /** Settles when the worker listens; rejects with {@link RankCrashed} when it dies before. */
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  readonly #control: Comlink.Remote<RankControl>;
  readonly #onDeath: (error: RankCrashed) => void;
  readonly #ended: Promise<void>;
  #death: RankCrashed | undefined;
  #terminated = false;

  /** Starts the worker. `onDeath` is called at most once, and not for {@link RankWorker.terminate}. */
  constructor(rank: number, onDeath: (error: RankCrashed) => void) {
    this.rank = rank;
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.#ended = ended.promise;
    this.#onDeath = (error) => {
      ready.reject(error);
      onDeath(error);
    };
    ready.promise.catch(() => undefined);
    const worker = new Worker(new URL("../rank/rank.ts", import.meta.url), {
      type: "module",
      name: `lockstep-rank-${rank}`,
    });
    this.#worker = worker;
    worker.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
      if (!isRankNotice(data)) return;
      if (data.lockstep === "ready") ready.resolve();
      else {
        const error = fromPlainError(data.error);
        this.die(error instanceof RankCrashed ? error : new RankCrashed(rank, error.message, error));
      }
    });
    worker.addEventListener("error", (event: ErrorEvent) => {
      // Deno ends the whole process otherwise.
      event.preventDefault();
      this.die(new RankCrashed(rank, `uncaught ${event.message ?? "error"}`));
    });
    // Only Bun has this event, with the exit code.
    worker.addEventListener("close", (event: object) => {
      ended.resolve();
      const code: unknown = Reflect.get(event, "code");
      this.die(new RankCrashed(rank, `its worker ended with exit code ${code}`));
    });
    this.#control = Comlink.wrap<RankControl>(worker);
  }

  /** Why the rank died, or undefined while it lives. */
  get death(): RankCrashed | undefined {
    return this.#death;
  }

  /** Declares the rank dead: no call will be answered. Its worker is terminated. */
  die(error: RankCrashed): void {
    if (this.#death !== undefined || this.#terminated) return;
    this.#death = error;
    this.#onDeath(error);
    void this.terminate();
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

  /** Ends the worker. Idempotent. */
  async terminate(): Promise<void> {
    if (!this.#terminated) {
      this.#terminated = true;
      this.#worker.terminate();
      // Comlink's finalization registry holds the worker, whose listeners hold the proxy: without this the world's
      // memory would stay reachable for ever.
      this.#control[Comlink.releaseProxy]();
    }
    // Deno has no event for the end; its terminate() leaves nothing to wait for.
    if (!("Bun" in globalThis)) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LONGEST_END_MS);
    });
    await Promise.race([this.#ended, timeout]);
    clearTimeout(timer);
  }
}
