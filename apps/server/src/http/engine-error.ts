// Errors of the engine as answers.
import {
  ChatTemplateError,
  EngineBusy,
  ModelError,
  MoveFailed,
  RanksFailed,
  UnfitOptions,
} from "@lockstep/language-model";
import { ArgumentError, ResourceClosed } from "@lockstep/tensor";
import { ApiError } from "./api-error.ts";

/** What the engine calls otherwise than OpenAI does. */
const FIELDS: Readonly<Record<string, string>> = {
  maxTokens: "max_tokens",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  ignoreEnd: "ignore_eos",
  world: "ranks",
  blockSize: "block_size",
  kvWeights: "kv_weights",
  kvBytes: "kv_bytes",
  kvTokens: "kv_tokens",
};

/** The engine was closed, or opens its ranks again. */
export const RETRY_LATER_MS = 2000;

/**
 * The answer for what was thrown. What is no error of the engine's is the server's own fault: its message is for the
 * log alone.
 */
export function answerFor(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineBusy) {
    const { message, retryAfterMs } = error;
    return new ApiError(429, message, { code: "engine_busy", retryAfterMs });
  }
  if (error instanceof RanksFailed) return new ApiError(500, error.message, { code: "ranks_failed" });
  if (error instanceof UnfitOptions) return new ApiError(400, error.message, { code: "unfit_options" });
  if (error instanceof MoveFailed) return new ApiError(500, error.message, { code: "move_failed" });
  if (error instanceof ChatTemplateError) {
    return new ApiError(400, error.message, { param: "messages", code: "chat_template" });
  }
  if (error instanceof ArgumentError) {
    const param = FIELDS[error.argument] ?? error.argument;
    const code = error.argument === "maxTokens" ? "context_length_exceeded" : undefined;
    return ApiError.field(param, `must be ${error.expected}, but is ${error.received}.`, code);
  }
  if (error instanceof ResourceClosed) {
    return new ApiError(503, "The engine is closed.", { code: "closed", retryAfterMs: RETRY_LATER_MS });
  }
  if (error instanceof ModelError) {
    return ApiError.field("prompt", "the model's tokenizer has no tokens for a part of it.");
  }
  return new ApiError(500, "The server failed at this request. Its log says more.", { code: "internal_error" });
}
