// What each rank of an engine's world runs.
import type { ContextImage } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { contextMethods } from "../generation/context-rank.ts";
import { blockTokens } from "../generation/kv-blocks.ts";
import { OWN_PROGRAM } from "../generation/own-program.ts";
import { openRankModel } from "../generation/rank-model.ts";
import type { RankOptions } from "../generation/rank-options.ts";
import { WordStream } from "../generation/word-stream.ts";
import { Sampler } from "../sampling/sampler.ts";
import { loadPrefixes, type PrefixStore, type StoredPrefixes, savePrefixes } from "./prefix-store.ts";
import { RequestServer, type ServeChanges, type ServeState } from "./request-server.ts";
import type { RunningText, ScheduledRequest } from "./scheduler.ts";

/** What the host tells every rank of an engine. Plain data. */
export interface EngineRankOptions extends RankOptions {
  /** Most requests computed at once. */
  readonly maxRunning: number;
  /** Whether texts that begin alike share what was computed. */
  readonly sharesPrefixes: boolean;
}

/** Where known beginnings of texts are saved, and of which weights. Plain data. */
export interface PrefixPlace {
  readonly folder: string;
  /** Of the checkpoint: `checkpointFingerprint`. */
  readonly checkpoint: string;
  /** Most bytes of each rank's file. */
  readonly mostBytes: number;
}

/** KV blocks of each rank that nobody holds, and those of them whose contents are known. Plain data. */
export interface FreeBlocks {
  readonly free: number;
  readonly known: number;
}

/** How long ranks wait for the slowest disk. */
export const STORE_DEADLINE_MS = 300_000;

/** Loads this rank's share of the model and opens its attention; returns what the host may call. */
export async function setup(context: RankContext, options: EngineRankOptions) {
  const model = await openRankModel(context, options);
  const { layers, world, share } = model;
  const { heap } = context;
  const { config, sizes, maxStepTokens, maxRunning, sharesPrefixes } = options;
  const sampler = new Sampler({
    layers,
    world,
    heap,
    vocabulary: share.vocabulary,
    vocabularySize: config.vocabularySize,
    maxRows: options.maxLogitRows,
  });
  const server = new RequestServer(model, sampler, {
    blockTokens: blockTokens(options),
    maxStepTokens,
    maxRunning,
    sharesPrefixes,
  });

  const { name, batchInvariant } = model.backend;
  const prefixStore = ({ folder, checkpoint, mostBytes }: PrefixPlace): PrefixStore => ({
    attention: model.attention,
    group: world,
    heap,
    folder,
    checkpoint,
    mostBytes,
    firstKvHead: share.kvHeads.start,
    computed: {
      ...{ weights: options.weights, backend: name, batchInvariant },
      ...(sizes.deterministic === undefined ? {} : { deterministic: sizes.deterministic }),
    },
    deadlineMs: STORE_DEADLINE_MS,
  });

  return {
    ...contextMethods(model.attention, heap),

    /** Requests that are computed, and how far each is. */
    runningTexts: (): RunningText[] => server.texts,

    /** Goes on with a context whose rows were written, and with requests of the ranks that had it. */
    resume(image: ContextImage, requests: readonly ScheduledRequest[], texts: readonly RunningText[]): void {
      model.attention.adoptContext(image);
      server.resume(requests, texts);
    },

    /** Saves what is known of texts; `save` is another one each time. */
    savePrefixes: (place: PrefixPlace, save: string): Promise<StoredPrefixes> => savePrefixes(prefixStore(place), save),

    /** Takes in what was saved; undefined when nothing was. */
    loadPrefixes: (place: PrefixPlace): Promise<StoredPrefixes | undefined> => loadPrefixes(prefixStore(place)),

    /** Takes changes and serves until all is done or the host's word `interrupt` is not 0; rank 0 tells `events`. */
    serve(changes: ServeChanges, events: TensorDescriptor, interrupt: TensorDescriptor): Promise<ServeState> {
      if (context.rank !== 0) return server.serve(changes, undefined);
      return server.serve(changes, {
        events: WordStream.open(events, heap),
        interrupt: Tensor.fromDescriptor(interrupt, heap).i32,
      });
    },

    identify: (): string => OWN_PROGRAM,

    /** Blocks that nobody holds, and those of them whose contents are known. */
    freeBlocks(): FreeBlocks {
      const { free, known } = model.attention.blocks;
      return { free, known };
    },
  };
}
