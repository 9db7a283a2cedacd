// What the module of a rank's worker does. Handlers are set synchronously, then the worker says it is ready: messages
// that arrive before are lost in Bun. No Effect here: eight workers importing it take seconds.

import * as Comlink from "comlink";
import { toPlainError } from "../errors/plain-error.ts";
import { printedValue } from "../errors/printed-value.ts";
import type { HostPort } from "./host-port.ts";
import { isPlaceNotice, type RankPlace } from "./rank-place.ts";
import { isTransportNotice, type RankControl, type Reply } from "./rank-protocol.ts";
import { RunningRank } from "./running-rank.ts";

/** A program module and what errors call it. */
export interface NamedModule {
  readonly name: string;
  readonly module: unknown;
}

/**
 * Answers the host from now on. `load` gives the program when the rank starts; it is given the address that the world
 * was opened with, if it was opened with one.
 */
export function serveRank(host: HostPort, load: (address: string | undefined) => Promise<NamedModule>): void {
  let rank: RunningRank | undefined;
  let place: RankPlace | undefined;
  host.addEventListener("message", (event) => {
    const data: unknown = Reflect.get(event, "data");
    if (isPlaceNotice(data)) place = data.place;
    else if (isTransportNotice(data)) rank?.hear(data.news);
  });

  async function withRank(what: string, work: (rank: RunningRank) => unknown): Promise<Reply> {
    const current = rank;
    if (current === undefined) {
      return { ok: false, error: toPlainError(new Error(`${what}: the rank has not started`)) };
    }
    return current.reply(what, () => work(current));
  }

  const control: RankControl = {
    async start(configuration) {
      try {
        if (place === undefined) throw new Error("start: the rank has no place yet");
        rank = new RunningRank(configuration, place, host);
      } catch (error) {
        return { ok: false, error: toPlainError(error) };
      }
      return withRank("setup", async (started) => {
        const { name, module } = await load(configuration.program);
        return started.setUp(name, module, configuration.options);
      });
    },
    invoke: (method, args, callWord) => withRank(method, (current) => current.invoke(method, args, callWord)),
    join: (descriptor) => withRank("join", (current) => current.join(descriptor)),
    leaveGroup: (generation, because) => withRank("leaveGroup", (current) => current.leaveGroup(generation, because)),
    close: async () =>
      rank === undefined ? { ok: true, value: undefined } : withRank("close", (current) => current.close()),
  };

  /**
   * Where answers go. One that cannot be copied becomes a typed failure of this rank, and its peers learn of it at
   * once.
   */
  const endpoint: Comlink.Endpoint = {
    addEventListener: host.addEventListener,
    removeEventListener: host.removeEventListener,
    postMessage: (message: unknown, transfer?: Transferable[]) => {
      try {
        host.postMessage(message, transfer);
      } catch (error) {
        const crash = rank?.uncopied(error) ?? new Error(printedValue(error));
        const answer: Reply = { ok: false, error: toPlainError(crash) };
        host.postMessage({ ...(message as object), value: answer });
      }
    },
  };

  Comlink.expose(control, endpoint);
  host.postMessage({ lockstep: "ready" });
}
