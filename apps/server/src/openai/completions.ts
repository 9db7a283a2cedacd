// POST /v1/completions: https://platform.openai.com/docs/api-reference/completions
import type { GeneratedToken } from "@lockstep/language-model";
import { Hono } from "hono";
import { ApiError } from "../http/api-error.ts";
import { readJson } from "../http/read-json.ts";
import type { ServerContext, ServerEnv } from "../server-context.ts";
import { type AnswerForm, answer } from "./answer.ts";
import { completionsSchema, promptsOf } from "./completions-schema.ts";
import { readFields } from "./fields.ts";
import type { TextPart } from "./generation.ts";
import { engineOptions, expectStream } from "./generation-fields.ts";
import { completionLogprobs } from "./logprobs.ts";
import { expectModel } from "./models.ts";
import { promptTokens } from "./prompt-tokens.ts";
import { TextOffsets } from "../tokenize/text-offsets.ts";

/** Tokens of a text when nobody says how many, as with OpenAI; fewer where the context has less room. */
const USUAL_TOKENS = 16;

/** The route. */
export function completions(server: ServerContext): Hono<ServerEnv> {
  const schema = completionsSchema(server.limits);
  return new Hono<ServerEnv>().post("/v1/completions", async (c) => {
    const body = readFields(schema, await readJson(c.req.raw, server.limits));
    expectModel(server, body.model);
    expectStream(body);
    const prompts = promptsOf(body.prompt);
    const { n, logprobs } = body;
    if (prompts.length * n > server.limits.choices) {
      throw ApiError.field("n", `times the prompts may be ${server.limits.choices}, but is ${prompts.length * n}.`);
    }
    const wanted = [];
    for (const [index, given] of prompts.entries()) {
      const param = prompts.length === 1 ? "prompt" : `prompt[${index}]`;
      const prompt = await promptTokens(server, given, param, c.req.raw.signal);
      const maxTokens = body.max_tokens ?? Math.min(USUAL_TOKENS, server.engine.maxContext - prompt.length);
      for (let choice = 0; choice < n; choice++) {
        wanted.push({ prompt, options: engineOptions(body, maxTokens, logprobs, choice) });
      }
    }
    const form = new CompletionForm(
      server,
      c.get("record").id,
      wanted.map(({ prompt }) => prompt),
      logprobs !== undefined,
    );
    const includeUsage = body.stream_options?.include_usage ?? false;
    return answer(c, server, form, { wanted, perPrompt: n, stream: body.stream, includeUsage });
  });
}

class CompletionForm implements AnswerForm {
  readonly route = "completions";
  readonly #server: ServerContext;
  readonly #head: object;
  readonly #hasLogprobs: boolean;
  readonly #choices: { text: string; tokens: GeneratedToken[]; finish: string | null; offsets: TextOffsets }[];

  constructor(server: ServerContext, id: string, prompts: readonly (readonly number[])[], hasLogprobs: boolean) {
    this.#server = server;
    this.#hasLogprobs = hasLogprobs;
    const created = Math.floor(Date.now() / 1000);
    this.#head = { id: `cmpl-${id}`, object: "text_completion", created, model: server.modelName };
    const decode = (ids: readonly number[]): string => server.tokenizer.decode(ids);
    this.#choices = prompts.map((prompt) => ({
      text: "",
      tokens: [],
      finish: null,
      offsets: new TextOffsets(decode, prompt),
    }));
  }

  begin(): readonly object[] {
    return [];
  }

  event({ index, part }: TextPart): object | undefined {
    const { text, tokens, finish = null } = part;
    const isTold = text !== "" || finish !== null || (this.#hasLogprobs && tokens.length > 0);
    if (!isTold) return undefined;
    const logprobs = this.#logprobs(tokens, this.#choices[index]?.offsets);
    return { ...this.#head, choices: [{ index, text, logprobs, finish_reason: finish }] };
  }

  take({ index, part }: TextPart): void {
    const choice = this.#choices[index];
    if (choice === undefined) return;
    choice.text += part.text;
    if (this.#hasLogprobs) choice.tokens.push(...part.tokens);
    choice.finish = part.finish ?? null;
  }

  all(): object {
    const choices = this.#choices.map(({ text, tokens, finish, offsets }, index) => ({
      index,
      text,
      logprobs: this.#logprobs(tokens, offsets),
      finish_reason: finish,
    }));
    return { ...this.#head, choices };
  }

  head(): object {
    return this.#head;
  }

  #logprobs(tokens: readonly GeneratedToken[], offsets: TextOffsets | undefined): object | null {
    if (!this.#hasLogprobs || offsets === undefined) return null;
    return completionLogprobs(tokens, (token) => this.#server.tokenizer.textOf(token), offsets);
  }
}
