import { receiveMessageOnPort } from "node:worker_threads";
import type { Introduction, Way } from "./ranks-apart.ts";

/** Longest wait for a peer that makes the same group. */
const MEET_MS = 20_000;

/** The first thing that goes over the way between two ranks about a group: an end of the group's pipe. */
interface Opening {
  readonly group: string;
  readonly port: MessagePort;
}

/** What a rank was told, and its ways to its peers, over which pipes of groups are made. */
export class Peers {
  readonly introduction: Promise<Introduction>;
  readonly #introduced = Promise.withResolvers<Introduction>();
  readonly #ways = new Map<number, MessagePort>();
  readonly #opened = new Map<string, MessagePort>();
  #waiting: (() => void) | undefined;

  constructor() {
    this.introduction = this.#introduced.promise;
  }

  introduce(introduction: Introduction): void {
    this.#introduced.resolve(introduction);
  }

  meet({ peer, port }: Way): void {
    this.#ways.set(peer, port);
    this.#waiting?.();
  }

  /** Resolves when there is a way to so many peers. */
  async met(count: number): Promise<void> {
    while (this.#ways.size < count) {
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
  }

  /**
   * Pipes to every other rank of a group, which all make it at about the same time.
   * @param group another one for each group
   * @param ranks in group order
   */
  open(group: string, rank: number, ranks: readonly number[]): (MessagePort | undefined)[] {
    const above = ranks.filter((peer) => peer > rank);
    const made = new Map(above.map((peer) => [peer, this.#offer(group, peer)]));
    return ranks.map((peer) => (peer === rank ? undefined : (made.get(peer) ?? this.#taken(group, peer))));
  }

  #offer(group: string, peer: number): MessagePort {
    const { port1, port2 } = new MessageChannel();
    const opening: Opening = { group, port: port2 };
    this.#ways.get(peer)?.postMessage(opening, [port2]);
    return port1;
  }

  /** The end that a peer offers. */
  #taken(group: string, peer: number): MessagePort {
    const way = this.#ways.get(peer);
    const idle = new Int32Array(new SharedArrayBuffer(4));
    const end = performance.now() + MEET_MS;
    for (;;) {
      const found = this.#opened.get(`${peer} ${group}`);
      if (found !== undefined) return found;
      const received = receiveMessageOnPort(way as unknown as Parameters<typeof receiveMessageOnPort>[0]);
      if (received !== undefined) {
        const opening = received.message as Opening;
        this.#opened.set(`${peer} ${opening.group}`, opening.port);
      } else if (performance.now() > end) {
        throw new Error(`rank ${peer} did not make the group ${group} within ${MEET_MS} ms`);
      } else Atomics.wait(idle, 0, 0, 1);
    }
  }
}
