// What each rank of an engine's world runs.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { OWN_PROGRAM } from "../generation/own-program.ts";
import { openRankModel } from "../generation/rank-model.ts";
import type { RankOptions } from "../generation/rank-options.ts";
import { WordStream } from "../generation/word-stream.ts";
import { Sampler } from "../sampling/sampler.ts";
import { RequestServer, type ServeChanges, type ServeState } from "./request-server.ts";

/** What the host tells every rank of an engine. Plain data. */
export interface EngineRankOptions extends RankOptions {
  /** Most requests computed at once. */
  readonly maxRunning: number;
  /** Whether texts that begin alike share what was computed. */
  readonly sharesPrefixes: boolean;
}

/** Loads this rank's share of the model and opens its attention; returns what the host may call. */
export async function setup(context: RankContext, options: EngineRankOptions) {
  const model = await openRankModel(context, options);
  const { layers, world, share } = model;
  const { heap } = context;
  const { config, sizes, blockSize, maxStepTokens, maxRunning, sharesPrefixes } = options;
  const sampler = new Sampler({
    layers,
    world,
    heap,
    vocabulary: share.vocabulary,
    vocabularySize: config.vocabularySize,
    maxRows: options.maxLogitRows,
  });
  const server = new RequestServer(model, sampler, {
    blockTokens: blockSize * sizes.dcp,
    maxStepTokens,
    maxRunning,
    sharesPrefixes,
  });

  return {
    /** Takes changes and serves until all is done or the host's word `interrupt` is not 0; rank 0 tells `events`. */
    serve(changes: ServeChanges, events: TensorDescriptor, interrupt: TensorDescriptor): Promise<ServeState> {
      if (context.rank !== 0) return server.serve(changes, undefined);
      return server.serve(changes, {
        events: WordStream.open(events, heap),
        interrupt: Tensor.fromDescriptor(interrupt, heap).i32,
      });
    },

    identify: (): string => OWN_PROGRAM,
  };
}
