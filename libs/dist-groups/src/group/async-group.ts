import type { Collective } from "../collectives/rounds.ts";
import { COLLECTIVES } from "../wire/collective-header.ts";
import type { CollectiveRun } from "./collective-run.ts";
import type { Collectives } from "./collectives.ts";
import type { AsyncProcessGroup } from "./process-group.ts";

/** The collectives of one rank in one group, as promises: the same rounds as the blocking ones. */
export function asyncGroup(run: CollectiveRun, collectives: Collectives): AsyncProcessGroup {
  const call = async (collective: Collective, args: readonly unknown[]): Promise<unknown> => {
    collective.prepare(...(args as readonly never[]));
    await run.driveAsync(collective);
    return collective.result?.();
  };
  const calls = COLLECTIVES.map((name) => [name, (...args: readonly unknown[]) => call(collectives[name], args)]);
  return Object.fromEntries(calls) as AsyncProcessGroup;
}
