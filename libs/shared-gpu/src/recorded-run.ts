import type { KernelBackend, OpArguments, OpName } from "@lockstep/kernels";
import { CallsDiffer, FenceFailed, FencesDiffer } from "./errors.ts";
import { type Call, goTogether, isAboutMemory, isOpCall, type OpCall, runOp } from "./op-call.ts";
import type { CallDecoder, EncodedCall, EncodedCalls } from "./op-message.ts";
import type { PeerMemory } from "./peer-memory.ts";
import { type OpOfRank, recordRound } from "./record-round.ts";

/** What calls of ranks are recorded on. */
export interface RunSetup {
  readonly backend: KernelBackend;
  /** Of each rank. */
  readonly memories: readonly PeerMemory[];
  readonly decoders: readonly CallDecoder[];
  /** Ranks that share the device. */
  readonly size: number;
  /** What a rank frees others may use until all of the run is recorded. */
  readonly keepsFreed: boolean;
}

/** What the ranks that share a device called, as it is recorded in one batch, and what came of each rank's part. */
export class RecordedRun {
  /** Why a rank's part failed; nothing of ranks whose parts did not. */
  readonly verdicts = new Map<number, unknown>();
  readonly #setup: RunSetup;
  readonly #freed: (() => void)[] = [];

  constructor(setup: RunSetup) {
    this.#setup = setup;
  }

  /** Records what all ranks called before their first fences, then what they called before their second, and so on. */
  record(ofRanks: readonly EncodedCalls[]): void {
    const rounds = ofRanks.map(({ calls }) => roundsOf(calls));
    const called = ofRanks.map((one) => one.called);
    if (!goTogether(called)) this.fail(new CallsDiffer(called.map((name) => `\`${name}\``)));
    const counts = rounds.map(({ length }) => length);
    if (new Set(counts).size > 1) this.fail(new FencesDiffer(counts.map((count) => count - 1)));
    for (let round = 0; round < Math.max(...counts); round++) {
      if (round > 0) this.#spread();
      recordRound(
        rounds.map((ofRank) => ofRank[round] ?? []),
        {
          record: (rank, call) => this.#record(rank, call),
          recordTogether: (ops) => this.#recordTogether(ops),
        },
      );
    }
  }

  /** To be called once all is recorded: frees what ranks freed and others used. */
  free(): void {
    for (const free of this.#freed.splice(0)) free();
  }

  /** All fails, as when the device does; who was told of something else before keeps that. */
  fail(error: unknown): void {
    for (let rank = 0; rank < this.#setup.size; rank++) this.#failOf(rank, error);
  }

  #failOf(rank: number, error: unknown): void {
    if (!this.verdicts.has(rank)) this.verdicts.set(rank, error);
  }

  /** What ranks call behind a fence rests on what all called before it. */
  #spread(): void {
    const [failed] = this.verdicts;
    if (failed === undefined) return;
    const [rank, error] = failed;
    this.fail(new FenceFailed(rank, error instanceof Error ? error.message : String(error)));
  }

  /**
   * Records a rank's call, or gives it back when it is an op that could share a dispatch with others'. After its first
   * that fails only memory is still allocated and freed: others may rest on its results.
   */
  #record(rank: number, { take }: EncodedCall): OpCall | undefined {
    try {
      const call = take();
      if (this.verdicts.has(rank) && !isAboutMemory(call)) return undefined;
      if (isOpCall(call) && this.#setup.backend.together?.takes(call[0]) === true) return call;
      this.#recordCall(rank, call);
    } catch (error) {
      this.#failOf(rank, error);
    }
    return undefined;
  }

  #recordTogether(ops: readonly OpOfRank[]): void {
    const [first] = ops;
    if (first === undefined) return;
    const args = ops.map(({ call }) => call[1]);
    const outcomes = this.#setup.backend.together?.run(first.call[0], args) ?? [];
    for (const [index, { rank }] of ops.entries()) {
      const outcome = outcomes[index];
      if (outcome !== undefined) this.#failOf(rank, outcome.error);
    }
  }

  /** Ops in a batch complete with it: nothing is awaited here. */
  #recordCall(rank: number, call: Call): void {
    const { backend, memories, decoders, keepsFreed } = this.#setup;
    const memory = memories[rank];
    const [name, args] = call;
    if (name === "empty") memory?.allocate(args.id, args.dtype, args.shape);
    else if (name === "free") {
      const free = (): void => {
        memory?.free(args.id);
        for (const decoder of decoders) decoder.forget();
      };
      if (keepsFreed) this.#freed.push(free);
      else free();
    } else if (name === "plan") memory?.plan(args.id, args.step, args.size);
    else if (name === "freePlan") memory?.freePlan(args.id);
    else if (name === "upload") void backend.upload(args.source, args.target);
    else if (name === "download") void backend.download(args.source, args.target);
    else if (name !== "fence") void runOp(backend, ...(call as readonly [OpName, OpArguments[OpName]]));
  }
}

function roundsOf(calls: readonly EncodedCall[]): EncodedCall[][] {
  const rounds: EncodedCall[][] = [[]];
  for (const call of calls) {
    if (call.isFence) rounds.push([]);
    else rounds.at(-1)?.push(call);
  }
  return rounds;
}
