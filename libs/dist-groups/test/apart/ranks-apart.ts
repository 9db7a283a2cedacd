// Ranks of a real world that share no memory with each other, as those of several processes: for tests of what runs on
// them. The host is the real one and so is its end of every rank; rank 0 shares the host's memory, as it always does.
// Each other rank has a memory of its own, every group goes through pipes, and only plain data gets in and out.

import type { WebWorkerLike } from "../../src/site/worker-like.ts";

/** What a rank is told before it starts. */
export interface Introduction {
  /** Address of the module that it runs. */
  readonly program: string;
  /** Names of the groups that it may be in, besides "world". */
  readonly groups: readonly string[];
}

/** A way to another rank. */
export interface Way {
  readonly peer: number;
  readonly port: MessagePort;
}

/** What the host sends: an introduction first, and ways to peers. */
export type ApartMessage = { readonly introduction: Introduction } | { readonly way: Way };

/** A worker that may not listen yet: what is sent before is lost. */
class WaitingWorker {
  readonly worker: Worker;
  #unsent: (() => void)[] | undefined = [];

  constructor() {
    this.worker = new Worker(new URL("./apart-rank.ts", import.meta.url).href, { type: "module" });
    this.worker.addEventListener("message", () => {
      const unsent = this.#unsent ?? [];
      this.#unsent = undefined;
      for (const send of unsent) send();
    });
  }

  send(message: ApartMessage, transfer: readonly Transferable[] = []): void {
    const send = (): void => this.worker.postMessage(message, [...transfer]);
    if (this.#unsent === undefined) send();
    else this.#unsent.push(send);
  }
}

/**
 * The `worker` of `openWorld` for ranks that share nothing and run a program. Worlds may be opened with it one after
 * another.
 * @param groups names of the world's groups besides "world"
 */
export function ranksApart(program: URL, groups: readonly string[] = []): (rank: number) => WebWorkerLike {
  let workers: WaitingWorker[] = [];
  return (rank) => {
    if (rank === 0) workers = [];
    const started = new WaitingWorker();
    started.send({ introduction: { program: program.href, groups } });
    for (const [peer, other] of workers.entries()) {
      const { port1, port2 } = new MessageChannel();
      other.send({ way: { peer: rank, port: port1 } }, [port1]);
      started.send({ way: { peer, port: port2 } }, [port2]);
    }
    workers.push(started);
    return started.worker as unknown as WebWorkerLike;
  };
}
