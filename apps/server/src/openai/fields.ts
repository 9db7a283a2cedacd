// Which fields a request may have. OpenAI's that would change the answer and are not served are refused by name; those
// that change nothing are dropped.
import type { z } from "zod";
import { ApiError } from "../http/api-error.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Fields that change nothing in a text. */
const IGNORED: ReadonlySet<string> = new Set([
  "metadata",
  "parallel_tool_calls",
  "prediction",
  "prompt_cache_key",
  "prompt_cache_retention",
  "safety_identifier",
  "service_tier",
  "user",
]);

const isEmpty = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;

/** Fields that are not served, each with the values that ask for nothing. */
const NOT_SERVED: Readonly<Record<string, (value: unknown) => boolean>> = {
  audio: () => false,
  best_of: () => false,
  echo: (value) => value === false,
  frequency_penalty: (value) => value === 0,
  function_call: (value) => value === "none" || value === "auto",
  functions: isEmpty,
  logit_bias: isEmpty,
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === "text",
  moderation: () => false,
  presence_penalty: (value) => value === 0,
  reasoning_effort: () => false,
  response_format: (value) => typeof value === "object" && value !== null && "type" in value && value.type === "text",
  store: (value) => value === false,
  suffix: (value) => value === "",
  tool_choice: (value) => value === "none" || value === "auto",
  tools: isEmpty,
  verbosity: () => false,
  web_search_options: () => false,
};

/** A body's fields by a schema. @throws ApiError naming the first field that is wrong */
export function readFields<T extends z.ZodObject>(schema: T, body: unknown): z.output<T> {
  if (!isFields(body)) {
    throw new ApiError(400, "The body must be a JSON object.", { code: "invalid_type" });
  }
  const result = schema.safeParse(servedFields(schema, body));
  if (result.success) return result.data;
  const issue = firstIssue(result.error.issues);
  const param = paramOf(issue.path) || "body";
  throw ApiError.field(param, `${issue.message}.`, issue.code);
}

function isFields(body: unknown): body is Fields {
  return typeof body === "object" && body !== null && !Array.isArray(body);
}

/** The fields that the schema has, without those that are null, which are as if left out. */
function servedFields(schema: z.ZodObject, body: Fields): Fields {
  const served: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body)) {
    if (value === null || IGNORED.has(name)) continue;
    if (Object.hasOwn(schema.shape, name)) {
      served[name] = value;
      continue;
    }
    const asksForNothing = Object.hasOwn(NOT_SERVED, name) ? NOT_SERVED[name] : undefined;
    const param = name.slice(0, MOST_TOLD);
    if (asksForNothing === undefined) throw ApiError.field(param, "there is no such field.", "unknown_parameter");
    if (!asksForNothing(value)) throw ApiError.field(param, "this server has none of it.", "unsupported_parameter");
  }
  return served;
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly code: string;
}

/** The issue to tell: within a choice of types, that of the type that got furthest. */
function firstIssue(issues: readonly z.core.$ZodIssue[]): Issue {
  const [issue] = issues;
  if (issue === undefined) return { path: [], message: "is wrong", code: "invalid_value" };
  if (issue.code === "unrecognized_keys") {
    return { path: [...issue.path, issue.keys[0] ?? ""], message: "there is no such field", code: "unknown_parameter" };
  }
  if (issue.code !== "invalid_union") return issue;
  const inner = issue.errors.filter((list) => list.length > 0).map((list) => firstIssue(list));
  const told =
    inner.toSorted((a, b) => b.path.length - a.path.length).find(({ path }) => path.length > 0) ??
    inner.find(({ code }) => code === "too_big" || code === "too_small") ??
    inner.find(({ code }) => code !== "invalid_type") ??
    issue;
  return { ...told, path: told === issue ? issue.path : [...issue.path, ...told.path] };
}

/** Characters of a field's name that an error tells. */
const MOST_TOLD = 100;

/** `messages[0].role` of its path. */
function paramOf(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part).slice(0, MOST_TOLD)}`))
    .join("")
    .replace(/^\./, "");
}
