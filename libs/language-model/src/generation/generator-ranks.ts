// The ranks of a generator, and others that go on with their texts.
import type { AbortSignalLike, MethodsOf, World } from "@lockstep/dist-groups";
import { LockstepError } from "@lockstep/tensor";
import { MoveFailed, UnfitOptions } from "../errors.ts";
import type { Model } from "../model/model.ts";
import { chooseWorld, type WorldChoice } from "./choose-world.ts";
import type { StoredContext } from "./context-rank.ts";
import type { GeneratorOptions, SizedOptions } from "./generator-options.ts";
import { hostHeapBytes, STEPS_PER_CALL } from "./memory-plan.ts";
import { type ContextRanks, moveLiveContext } from "./move-live-context.ts";
import { openRanks } from "./open-ranks.ts";
import { RESIZE_ADVICE, resizePeak } from "./plan-resize.ts";
import { type ResizeChanges, resizedOptions } from "./resize-options.ts";
import { type ResolvedOptions, resolveOptions } from "./resolve-options.ts";
import { TokenStream } from "./token-stream.ts";
import { spreadOptions } from "./world-candidates.ts";

type Program = typeof import("./rank-program.ts");

/** Ranks that are open, and what they were opened with. */
export class GeneratorRanks implements ContextRanks {
  readonly world: World<MethodsOf<Program>>;
  readonly options: GeneratorOptions;
  readonly resolved: ResolvedOptions;
  /** Why there are so many, where that was chosen. */
  readonly choice: WorldChoice | undefined;
  /** Tokens on their way to the host. */
  readonly stream: TokenStream;

  private constructor(
    world: World<MethodsOf<Program>>,
    options: GeneratorOptions,
    resolved: ResolvedOptions,
    choice: WorldChoice | undefined,
  ) {
    this.world = world;
    this.options = options;
    this.resolved = resolved;
    this.choice = choice;
    this.stream = TokenStream.create(world.heap, tokensPerCall(resolved.rank.maxLogitRows));
  }

  /** Opens a world whose ranks have loaded their share of the model. @throws as `Generator.open` */
  static async open(
    options: GeneratorOptions,
    resolved: ResolvedOptions,
    choice: WorldChoice | undefined,
  ): Promise<GeneratorRanks> {
    const world = await openRanks<Program>(resolved, {
      program: new URL("./rank-program.ts", import.meta.url),
      options: resolved.rank,
      heapBytes: hostHeapBytes(resolved.rank.maxLogitRows),
      identify: (opened) => opened.call("identify", []),
    });
    try {
      return new GeneratorRanks(world, options, resolved, choice);
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  get rank(): ResolvedOptions["rank"] {
    return this.resolved.rank;
  }

  storedContext(rank: number): Promise<StoredContext> {
    return this.world.callRank(rank, "storedContext", []);
  }

  readRows(rank: number, slots: readonly number[]): Promise<Uint8Array[]> {
    return this.world.callRank(rank, "readRows", [slots]);
  }

  writeRows(rank: number, slots: readonly number[], parts: readonly Uint8Array[]): Promise<void> {
    return this.world.callRank(rank, "writeRows", [slots, parts]);
  }
}

/**
 * Moves the texts of ranks to others, which have none.
 * @throws MoveFailed, the reason of `signal`: those that had them go on
 */
export async function moveTexts(
  from: GeneratorRanks,
  to: GeneratorRanks,
  signal: AbortSignalLike | undefined,
): Promise<void> {
  const isWanted = (): void => {
    if (signal?.aborted === true) throw signal.reason;
  };
  try {
    const texts = await from.world.callRank(0, "texts", []);
    const { image } = await from.storedContext(0);
    await to.world.call("clear", []);
    const moved = await moveLiveContext(from, to, image, isWanted);
    await to.world.call("resume", [moved.image, texts]);
    isWanted();
  } catch (error) {
    if (error === signal?.reason || error instanceof MoveFailed || !(error instanceof LockstepError)) throw error;
    throw new MoveFailed(error.message, error);
  }
}

/** Tokens that the ranks make at most between two answers. */
function tokensPerCall(maxLogitRows: number): number {
  return STEPS_PER_CALL * maxLogitRows;
}

/** What of a generator's options resizing changes. */
const RESIZED = ["world", "dcp", "interleave", "blockSize", "kvWeights", "kvBytes"];

/**
 * Opens others beside ranks, which have room for texts as long.
 * @throws ArgumentError, UnfitOptions before anything is opened; whatever stopped a rank
 */
export async function openBeside(
  model: Model,
  ranks: GeneratorRanks,
  changes: Omit<ResizeChanges, "kvTokens">,
): Promise<GeneratorRanks> {
  const name = "Generator.resize";
  const { capacity } = ranks.resolved;
  const options = { ...resizedOptions(name, ranks.options, changes, RESIZED), capacity };
  const { resolved, choice } = await resolveWorld(model, options);
  const { problem } = resizePeak(ranks.resolved, resolved);
  if (problem !== undefined) throw new UnfitOptions(`${problem}: ${RESIZE_ADVICE}.`, name);
  return await GeneratorRanks.open(options, resolved, choice);
}

/** Options of a world with its ranks counted; measures where their number is to be chosen. */
export async function resolveWorld(
  model: Model,
  options: GeneratorOptions,
): Promise<{ readonly resolved: ResolvedOptions; readonly choice: WorldChoice | undefined }> {
  if (isSized(options)) return { resolved: resolveOptions(model, options), choice: undefined };
  const choice = await chooseWorld(model, options);
  return { resolved: resolveOptions(model, spreadOptions(options, choice.sizes)), choice };
}

/** Whether the number of ranks is given, or whatever stands in its place. */
export function isSized(options: GeneratorOptions): options is SizedOptions {
  return (options as GeneratorOptions | undefined)?.world !== "auto";
}
