// Fields that both ways to ask for text have, and what the engine is asked for by them.
import type { RequestOptions } from "@lockstep/language-model";
import { z } from "zod";
import { ApiError } from "../http/api-error.ts";
import { LONGEST_STOP, type Limits, MOST_STOPS } from "../limits.ts";

/** A text that is Unicode: half a surrogate pair has no bytes in UTF-8. */
export const unicode = z.string().refine((text) => text.isWellFormed(), "must be Unicode, but has half a character");

const stop = unicode.min(1, "a stop text must not be empty").max(LONGEST_STOP);

/** Fields of both; what is left out has OpenAI's default. */
export function generationFields(limits: Limits) {
  return {
    model: z.string(),
    temperature: z.number().min(0).max(2).default(1),
    top_p: z.number().gt(0).max(1).default(1),
    /** An extension: so many of the likeliest tokens; 0 and -1: all. */
    top_k: z
      .int()
      .min(-1)
      .max(2 ** 31 - 1)
      .default(0),
    /** An extension: tokens at least this many times as probable as the likeliest. */
    min_p: z.number().min(0).max(1).default(0),
    /** An extension: go on after tokens that end a text. */
    ignore_eos: z.boolean().default(false),
    seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
    n: z.int().min(1).max(limits.choices).default(1),
    stop: z.union([stop, z.array(stop).max(MOST_STOPS)], { error: "must be a text, or a list of texts" }).optional(),
    stream: z.boolean().default(false),
    stream_options: z
      .strictObject({ include_usage: z.boolean().default(false), include_obfuscation: z.boolean().optional() })
      .optional(),
  };
}

/** A number of tokens to generate. */
export const tokenCount = z.int().min(1);

interface GenerationFields {
  readonly temperature: number;
  readonly top_p: number;
  readonly top_k: number;
  readonly min_p: number;
  readonly ignore_eos: boolean;
  readonly seed?: number | undefined;
  readonly stop?: string | string[] | undefined;
  readonly stream: boolean;
  readonly stream_options?: { readonly include_usage: boolean } | undefined;
}

/** @throws ApiError for a stream's options without a stream */
export function expectStream({ stream, stream_options: options }: GenerationFields): void {
  if (!stream && options !== undefined) throw ApiError.field("stream_options", "is for 'stream': true.");
}

/** What the engine is asked for, for the choice of number `choice`: its seed is `seed + choice`. */
export function engineOptions(
  fields: GenerationFields,
  maxTokens: number | undefined,
  logprobs: number | undefined,
  choice: number,
): RequestOptions {
  const { temperature, top_p: topP, top_k: topK, min_p: minP, ignore_eos: ignoreEnd, seed, stop } = fields;
  return {
    ...(maxTokens === undefined ? {} : { maxTokens }),
    temperature,
    topP,
    topK: Math.max(0, topK),
    minP,
    ignoreEnd,
    ...(seed === undefined ? {} : { seed: seedOf(seed, choice) }),
    ...(stop === undefined ? {} : { stop }),
    ...(logprobs === undefined ? {} : { logprobs }),
  };
}

/** `seed + choice`, going on from 0 after the greatest seed. */
function seedOf(seed: number, choice: number): number {
  const left = Number.MAX_SAFE_INTEGER - seed;
  return choice <= left ? seed + choice : choice - left - 1;
}
