import { ArgumentError, describe } from "@lockstep/tensor";
import { ChatTemplateError, ModelError } from "../errors.ts";
import { type ChatMessage, checkMessages } from "./chat-message.ts";
import { BoundedInterpreter } from "./jinja/bounded-interpreter.ts";
import { RaisedByTemplate, templateGlobals } from "./jinja/template-globals.ts";
import { TemplateLimits } from "./jinja/template-limits.ts";
import { parseTemplate, type TemplateProgram, TemplateProblem } from "./jinja/template-program.ts";
import { describeJson, isJsonObject, type JsonObject } from "./json-file.ts";
import { type ModelFolder, type ModelSource, modelFolder } from "./model-files.ts";

const SPECIAL_TOKENS = "bos_token eos_token unk_token sep_token pad_token cls_token mask_token".split(" ");

/** How a conversation is made a text. */
export interface RenderOptions {
  /** End with what begins an answer of the model's. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** What the template is told of the time, if it asks. Default: the time it is. */
  readonly now?: Date;
}

/**
 * What makes the text that a model continues of a conversation: its chat template, in Jinja as transformers takes it.
 *
 * Templates come with models, from anywhere. They reach the messages and the special tokens alone: their values are no
 * JavaScript objects, so that there is no prototype to reach. The time that they take is bounded by the number of their
 * steps, and memory by the size of what they make. What is not bounded is the time of one search of a text in another.
 */
export class ChatTemplate {
  readonly #program: TemplateProgram;
  readonly #tokens: JsonObject;

  private constructor(program: TemplateProgram, tokens: JsonObject) {
    this.#program = program;
    this.#tokens = tokens;
  }

  /**
   * The chat template of a model: chat_template.jinja, or else `chat_template` of tokenizer_config.json (a text, or a
   * list with one named "default"), or else of chat_template.json. Undefined when it has none.
   * @throws ModelError that names the file and the line of a template that cannot be read, or that uses a filter, test,
   *   function or method that there is not; ArgumentError unless `source` can be a model
   */
  static open(source: ModelSource): ChatTemplate | undefined {
    const folder = modelFolder("ChatTemplate.open", source);
    const config = folder.has("tokenizer_config.json") ? folder.json("tokenizer_config.json") : {};
    const found = findTemplate(folder, config);
    if (found === undefined) return undefined;
    try {
      const tokens = specialTokens(folder.path("tokenizer_config.json"), config);
      return new ChatTemplate(parseTemplate(found.text), tokens);
    } catch (error) {
      if (!(error instanceof TemplateProblem)) throw error;
      throw new ModelError(found.path, "a chat template that can be used", error.message);
    }
  }

  /**
   * The text of a conversation, special tokens included: it is to be encoded without adding any.
   * @throws ArgumentError for what are no messages; ChatTemplateError when the template refuses them, or fails, with
   *   its message and line, or makes too much of them
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const checked = checkMessages("ChatTemplate.render", messages);
    const { addGenerationPrompt = true, now = new Date() } = options;
    if (typeof addGenerationPrompt !== "boolean") {
      const received = describe(addGenerationPrompt);
      throw new ArgumentError("ChatTemplate.render", "addGenerationPrompt", "true or false", received);
    }
    const variables = {
      ...templateGlobals(now),
      ...this.#tokens,
      messages: checked,
      add_generation_prompt: addGenerationPrompt,
      // As transformers has it without any: there, and none.
      ...{ tools: null, documents: null },
    };
    const interpreter = new BoundedInterpreter(this.#program, new TemplateLimits(), variables);
    try {
      const { value } = interpreter.run(this.#program.program);
      return typeof value === "string" ? value : "";
    } catch (error) {
      throw new ChatTemplateError(failure(error, interpreter.lineOf(error)));
    }
  }
}

function failure(error: unknown, line: number | undefined): string {
  if (error instanceof RaisedByTemplate) return `it refuses the messages: ${error.message}`;
  // What the runtime throws says nothing of the template: a value too many, or one that is missing.
  const isRuntimes = error instanceof RangeError || error instanceof TypeError || !(error instanceof Error);
  const problem = isRuntimes ? "a filter, test or function cannot take what it is given" : error.message;
  return line === undefined ? problem : `in line ${line}, ${problem}`;
}

interface FoundTemplate {
  readonly path: string;
  readonly text: string;
}

function findTemplate(folder: ModelFolder, config: JsonObject): FoundTemplate | undefined {
  if (folder.has("chat_template.jinja")) {
    return { path: folder.path("chat_template.jinja"), text: folder.text("chat_template.jinja") };
  }
  const ofConfig = templateText(folder.path("tokenizer_config.json"), config.chat_template);
  if (ofConfig !== undefined || !folder.has("chat_template.json")) return ofConfig;
  return templateText(folder.path("chat_template.json"), folder.json("chat_template.json").chat_template);
}

/** A template of a JSON file: a text, or the one named "default" of several. */
function templateText(path: string, value: unknown): FoundTemplate | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return { path, text: value };
  const all: unknown[] = Array.isArray(value) ? value : [];
  const chosen = all.find((each) => isJsonObject(each) && each.name === "default");
  if (isJsonObject(chosen) && typeof chosen.template === "string") return { path, text: chosen.template };
  const expected = 'chat_template to be a text, or a list with {"name": "default", "template": text}';
  throw new ModelError(path, expected, describeJson(value));
}

/** Special tokens, as variables of the template: texts, or objects with their `content`. */
function specialTokens(path: string, config: JsonObject): JsonObject {
  const tokens = SPECIAL_TOKENS.map((name): [string, string] | undefined => {
    const value = config[name] ?? undefined;
    const content = isJsonObject(value) ? value.content : value;
    if (value === undefined) return undefined;
    if (typeof content === "string") return [name, content];
    throw new ModelError(path, `${name} to be a text, or an object with its content`, describeJson(value));
  });
  return Object.fromEntries(tokens.filter((token) => token !== undefined));
}
