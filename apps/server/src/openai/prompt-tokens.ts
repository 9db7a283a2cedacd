// The token ids of a prompt, and that they fit.
import { ApiError } from "../http/api-error.ts";
import type { ServerContext } from "../server-context.ts";

type Server = Pick<ServerContext, "engine" | "tokenizer">;

/** What cannot fit, without counting its tokens. @throws ApiError */
export function expectFits({ engine, tokenizer }: Server, characters: number, param: string): void {
  const most = engine.maxContext * tokenizer.longestToken;
  if (characters <= most) return;
  throw tooLong(param, `${characters} characters are more than ${engine.maxContext} tokens can be (${most})`);
}

/** Token ids of a prompt. @throws ApiError for none, or more than the context has room for before a token */
export async function promptTokens(
  server: Server,
  prompt: string | readonly number[],
  param: string,
): Promise<readonly number[]> {
  const { engine, tokenizer } = server;
  if (typeof prompt === "string") expectFits(server, prompt.length, param);
  const ids = typeof prompt === "string" ? await tokenizer.encode(prompt) : prompt;
  if (ids.length === 0) throw ApiError.field(param, "has no tokens.");
  if (ids.length < engine.maxContext) return ids;
  throw tooLong(param, `${ids.length} tokens leave no room for one more in a context of ${engine.maxContext} tokens`);
}

/** An error for what does not fit the context. */
export function tooLong(param: string, problem: string): ApiError {
  return new ApiError(400, `'${param}': ${problem}.`, { param, code: "context_length_exceeded" });
}
