// A rank of the conformance suite, in a worker: a process group on some transport, and a program that runs on it as in
// a world.

import { GroupAborted, RankCrashed } from "../../src/errors/errors.ts";
import { type PlainError, toPlainError } from "../../src/errors/plain-error.ts";
import { printedValue } from "../../src/errors/printed-value.ts";
import { BlockingGroup } from "../../src/group/blocking-group.ts";
import { CollectiveRun } from "../../src/group/collective-run.ts";
import { hostProcessOf } from "../../src/rank/host-process.ts";
import type { RankContext } from "../../src/rank/rank-context.ts";
import { instantiateReduceKernels } from "../../src/reduction/reduce.ts";
import { BROKEN_TRANSPORTS, type Conditions, TRANSPORTS } from "./transports.ts";

/** What starts a rank. */
export interface Start {
  readonly transport: string;
  readonly rank: number;
  readonly conditions: Conditions;
  readonly invitation: unknown;
  readonly kernels: WebAssembly.Module;
  readonly program: string;
}

export interface Call {
  readonly method: string;
  readonly args: readonly unknown[];
}

/** How a rank came out of a call; the first answer is that of the start. */
export type Outcome = { readonly value: unknown } | { readonly error: PlainError };

type Methods = Readonly<Record<string, (...args: readonly unknown[]) => unknown>>;

async function start(message: Start): Promise<(call: Call) => Promise<Outcome>> {
  const { rank, conditions } = message;
  const { settings } = conditions;
  const found = [...TRANSPORTS, ...BROKEN_TRANSPORTS].find(({ name }) => name === message.transport);
  if (found === undefined) throw new Error(`no transport is called ${message.transport}`);
  const { transport, heap, clock, leave } = found.join(rank, conditions, message.invitation);
  const run = new CollectiveRun(settings, transport, clock);
  const world = new BlockingGroup(run, transport, instantiateReduceKernels(message.kernels, heap.memory), heap);
  const { setup } = (await import(message.program)) as { setup(context: RankContext): Methods | Promise<Methods> };
  const methods = await setup({
    rank,
    size: settings.ranks.length,
    hostProcess: hostProcessOf(rank, found.processes(settings.ranks)),
    heap,
    world,
    group: () => world,
    onClose() {},
  });
  return async ({ method, args }) => {
    try {
      return { value: await methods[method]?.(...args) };
    } catch (error) {
      const crash = new RankCrashed(rank, `${method} threw ${printedValue(error)}`, error);
      leave(error instanceof GroupAborted && error.cause instanceof RankCrashed ? error.cause : crash);
      return { error: toPlainError(error) };
    }
  };
}

let answer: ((call: Call) => Promise<Outcome>) | undefined;

self.onmessage = async ({ data }: MessageEvent<Start | Call>): Promise<void> => {
  if ("method" in data) {
    postMessage((await answer?.(data)) ?? { error: toPlainError(new Error("the rank has not started")) });
    return;
  }
  try {
    answer = await start(data);
    postMessage({ value: undefined });
  } catch (error) {
    postMessage({ error: toPlainError(error) });
  }
};
postMessage("ready");
