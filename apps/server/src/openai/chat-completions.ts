// POST /v1/chat/completions: https://platform.openai.com/docs/api-reference/chat
import type { GeneratedToken } from "@lockstep/language-model";
import { Hono } from "hono";
import { ApiError } from "../http/api-error.ts";
import { readJson } from "../http/read-json.ts";
import type { ServerContext, ServerEnv } from "../server-context.ts";
import { type AnswerForm, answer } from "./answer.ts";
import { chatSchema, logprobsOf, maxTokensOf, messagesOf } from "./chat-schema.ts";
import { readFields } from "./fields.ts";
import type { TextPart } from "./generation.ts";
import { engineOptions, expectStream } from "./generation-fields.ts";
import { chatLogprobs } from "./logprobs.ts";
import { expectModel } from "./models.ts";
import { chatTokens } from "./prompt-tokens.ts";

/** The route. */
export function chatCompletions(server: ServerContext): Hono<ServerEnv> {
  const schema = chatSchema(server.limits);
  return new Hono<ServerEnv>().post("/v1/chat/completions", async (c) => {
    const body = readFields(schema, await readJson(c.req.raw, server.limits));
    expectModel(server, body.model);
    expectStream(body);
    if (!server.engine.hasChat) {
      const message = "The model has no chat template, so that it takes no messages. Use /v1/completions.";
      throw new ApiError(400, message, { param: "messages", code: "no_chat_template" });
    }
    const prompt = await chatTokens(server, messagesOf(body), c.req.raw.signal);
    const maxTokens = maxTokensOf(body);
    const logprobs = logprobsOf(body);
    const wanted = Array.from({ length: body.n }, (_, choice) => ({
      prompt,
      options: engineOptions(body, maxTokens, logprobs, choice),
    }));
    const form = new ChatForm(server, c.get("record").id, body.n, logprobs !== undefined);
    const includeUsage = body.stream_options?.include_usage ?? false;
    return answer(c, server, form, { wanted, perPrompt: body.n, stream: body.stream, includeUsage });
  });
}

class ChatForm implements AnswerForm {
  readonly route = "chat";
  readonly #server: ServerContext;
  readonly #id: string;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #hasLogprobs: boolean;
  readonly #choices: { text: string; tokens: GeneratedToken[]; finish: string | null }[];

  constructor(server: ServerContext, id: string, texts: number, hasLogprobs: boolean) {
    this.#server = server;
    this.#id = `chatcmpl-${id}`;
    this.#hasLogprobs = hasLogprobs;
    this.#choices = Array.from({ length: texts }, () => ({ text: "", tokens: [], finish: null }));
  }

  begin(index: number): readonly object[] {
    return [this.#event(index, { role: "assistant", content: "" }, null, null)];
  }

  event({ index, part }: TextPart): object | undefined {
    const { text, tokens, finish = null } = part;
    const hasTokens = this.#hasLogprobs && tokens.length > 0;
    if (text === "" && finish === null && !hasTokens) return undefined;
    return this.#event(index, text === "" ? {} : { content: text }, this.#logprobs(tokens), finish);
  }

  take({ index, part }: TextPart): void {
    const choice = this.#choices[index];
    if (choice === undefined) return;
    choice.text += part.text;
    if (this.#hasLogprobs) choice.tokens.push(...part.tokens);
    choice.finish = part.finish ?? null;
  }

  all(): object {
    const choices = this.#choices.map(({ text, tokens, finish }, index) => ({
      index,
      message: { role: "assistant", content: text, refusal: null },
      logprobs: this.#logprobs(tokens),
      finish_reason: finish,
    }));
    return { ...this.#head("chat.completion"), choices };
  }

  head(): object {
    return this.#head("chat.completion.chunk");
  }

  #head(object: string): object {
    return { id: this.#id, object, created: this.#created, model: this.#server.modelName };
  }

  #event(index: number, delta: object, logprobs: object | null, finish: string | null): object {
    return { ...this.head(), choices: [{ index, delta, logprobs, finish_reason: finish }] };
  }

  #logprobs(tokens: readonly GeneratedToken[]): object | null {
    return this.#hasLogprobs ? chatLogprobs(tokens, (token) => this.#server.tokenizer.textOf(token)) : null;
  }
}
