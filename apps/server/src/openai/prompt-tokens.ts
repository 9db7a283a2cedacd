// The token ids of a prompt, and that they fit.
import type { ChatMessage } from "@lockstep/language-model";
import { ApiError } from "../http/api-error.ts";
import type { ServerContext } from "../server-context.ts";

type Server = Pick<ServerContext, "engine" | "tokenizer">;

/** Refuses what cannot fit, without counting its tokens. @throws ApiError */
function expectFits({ engine, tokenizer }: Server, characters: number, param: string): void {
  const most = engine.maxContext * tokenizer.longestToken;
  if (characters <= most) return;
  throw tooLong(param, `${characters} characters are more than ${engine.maxContext} tokens can be (${most})`);
}

/**
 * Token ids of a prompt. @throws ApiError for none, or more than the context has room for before a token; or when
 * `signal` aborts, as the client went away
 */
export async function promptTokens(
  server: Server,
  prompt: string | readonly number[],
  param: string,
  signal: AbortSignal,
): Promise<readonly number[]> {
  if (typeof prompt !== "string") return fitting(server, prompt, param);
  expectFits(server, prompt.length, param);
  return fitting(server, await unlessGone(signal, () => server.tokenizer.encode(prompt, signal)), param);
}

/** Token ids of messages. @throws ApiError as {@link promptTokens}; ChatTemplateError */
export async function chatTokens(
  server: Server,
  messages: readonly ChatMessage[],
  signal: AbortSignal,
): Promise<readonly number[]> {
  const characters = messages.reduce((sum, { content }) => sum + content.length, 0);
  expectFits(server, characters, "messages");
  return fitting(server, await unlessGone(signal, () => server.tokenizer.encodeChat(messages, signal)), "messages");
}

/** What `work` makes for a client that is there. Nobody reads the error: it is for the log. */
async function unlessGone<T>(signal: AbortSignal, work: () => T): Promise<Awaited<T>> {
  try {
    return await work();
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new ApiError(400, "The client went away.", { code: "client_gone" });
  }
}

function fitting({ engine }: Server, ids: readonly number[], param: string): readonly number[] {
  if (ids.length === 0) throw ApiError.field(param, "has no tokens.");
  if (ids.length < engine.maxContext) return ids;
  throw tooLong(param, `${ids.length} tokens leave no room for one more in a context of ${engine.maxContext} tokens`);
}

/** An error for what does not fit the context. */
function tooLong(param: string, problem: string): ApiError {
  return new ApiError(400, `'${param}': ${problem}.`, { param, code: "context_length_exceeded" });
}
