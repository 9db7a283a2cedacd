import { type ChatMessage, MOST_LOGPROBS } from "@lockstep/language-model";
import { z } from "zod";
import { ApiError } from "../http/api-error.ts";
import type { Limits } from "../limits.ts";
import { generationFields, tokenCount, unicode } from "./generation-fields.ts";

const textPart = z.strictObject({
  type: z.literal("text", { error: "only parts of type 'text' are served" }),
  text: unicode,
});

/** What a message may have beside who says what, if it says nothing. */
const absent = z.null({ error: "this server has none of it" }).optional();

const message = (limits: Limits) =>
  z.strictObject({
    role: unicode.min(1).max(64),
    content: z.union([unicode, z.array(textPart).min(1).max(limits.parts)], {
      error: "must be a text, or a list of parts",
    }),
    name: absent,
    tool_calls: absent,
    tool_call_id: absent,
    function_call: absent,
    refusal: absent,
    audio: absent,
    annotations: z.array(z.unknown()).max(0).nullish(),
  });

/** The body of /v1/chat/completions. */
export function chatSchema(limits: Limits) {
  return z.strictObject({
    ...generationFields(limits),
    messages: z.array(message(limits)).min(1).max(limits.messages),
    max_tokens: tokenCount.optional(),
    max_completion_tokens: tokenCount.optional(),
    logprobs: z.boolean().default(false),
    top_logprobs: z.int().min(0).max(MOST_LOGPROBS).optional(),
  });
}

export type ChatBody = z.output<ReturnType<typeof chatSchema>>;

/** The messages, each with one text. */
export function messagesOf({ messages }: ChatBody): ChatMessage[] {
  return messages.map(({ role, content }) => ({
    role,
    content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
  }));
}

/** Most tokens to generate, by either name. @throws ApiError where they differ */
export function maxTokensOf({ max_tokens: old, max_completion_tokens: wanted }: ChatBody): number | undefined {
  if (old !== undefined && wanted !== undefined && old !== wanted) {
    throw ApiError.field("max_tokens", `is the old name of 'max_completion_tokens', but is not ${wanted}.`);
  }
  return wanted ?? old;
}

/** How many alternatives are told; undefined: no log-probabilities. @throws ApiError */
export function logprobsOf({ logprobs, top_logprobs: top }: ChatBody): number | undefined {
  if (!logprobs && top !== undefined) throw ApiError.field("top_logprobs", "is for 'logprobs': true.");
  return logprobs ? (top ?? 0) : undefined;
}
