// Requests that are wrong in one way, made at random from right ones.
import { MODEL } from "./scripted-app.ts";

/** Random numbers from 0 to below 1, the same for a seed. */
export type Random = () => number;

/** What is sent. */
export interface BadRequest {
  /** What is wrong, for messages. */
  readonly what: string;
  readonly path: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array<ArrayBuffer> | undefined;
}

const COMPLETIONS = "/v1/completions";
const CHAT = "/v1/chat/completions";
const JSON_TYPE = { "content-type": "application/json" };

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** Values that hardly any field takes. */
const WRONG: readonly unknown[] = [
  -1,
  1.5,
  1e300,
  -1e300,
  "",
  "x",
  "\u0000",
  "\ud800",
  [],
  {},
  [[]],
  [null],
  [{}],
  { a: { b: {} } },
  true,
  "x".repeat(5000),
  Array.from({ length: 100 }, () => "x"),
  Array.from({ length: 2000 }, (_, at) => at),
  { ["__proto__"]: 1, constructor: 2 },
];

/** Fields for which no value of WRONG is right, by path. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  [COMPLETIONS]: ["model", "max_tokens", "seed", "n", "logprobs", "stream_options", "echo.", "tools."],
  [CHAT]: ["model", "messages", "max_tokens", "max_completion_tokens", "top_logprobs", "seed", "n", "response_format"],
};

function rightBody(path: string): Record<string, unknown> {
  return path === CHAT
    ? { model: MODEL, messages: [{ role: "user", content: "Who?" }], max_tokens: 2 }
    : { model: MODEL, prompt: "abc", max_tokens: 2 };
}

/** A request that is to be refused with a status from 400 to 499. */
export function badRequest(random: Random): BadRequest {
  const pick = <T>(list: readonly T[]): T => {
    const found = list[Math.floor(random() * list.length)];
    if (found === undefined) throw new Error("there is nothing to pick from");
    return found;
  };
  const path = pick([COMPLETIONS, CHAT]);
  const text = JSON.stringify(rightBody(path));
  const post = { path, method: "POST", headers: JSON_TYPE };
  const kinds: readonly (() => BadRequest)[] = [
    () => {
      const field = pick(FIELDS[path] ?? []);
      const value = pick(WRONG);
      const body = JSON.stringify({ ...rightBody(path), [field]: value });
      return { ...post, what: `${field} is ${JSON.stringify(value).slice(0, 40)}`, body: encode(body) };
    },
    () => {
      const name = Array.from({ length: 3 + random() * 20 }, () => String.fromCharCode(33 + random() * 90)).join("");
      const body = JSON.stringify({ ...rightBody(path), [`${name}?`]: pick(WRONG) });
      return { ...post, what: `there is a field ${name}?`, body: encode(body) };
    },
    () => {
      const cut = Math.floor(random() * text.length);
      return { ...post, what: `it is cut after ${cut}`, body: encode(text.slice(0, cut)) };
    },
    () => {
      const bytes = Uint8Array.from({ length: 1 + random() * 200 }, () => random() * 256);
      return { ...post, what: `bytes ${bytes.slice(0, 10)}`, body: bytes };
    },
    () => {
      const bytes = encode(text);
      bytes[Math.floor(random() * bytes.length)] = 0xf8 + random() * 8;
      return { ...post, what: "one byte is none of UTF-8", body: bytes };
    },
    () => {
      const open = pick(["[", '{"a":', "[[{}],"]).repeat(30 + random() * 5000);
      return { ...post, what: `${open.length} of depth`, body: encode(open) };
    },
    () => {
      const { [pick(path === CHAT ? ["model", "messages"] : ["model", "prompt"])]: _, ...rest } = rightBody(path);
      return { ...post, what: "a field is missing", body: encode(JSON.stringify(rest)) };
    },
    () => {
      const headers = pick<Record<string, string>>([
        {},
        { "content-type": "text/plain" },
        { "content-type": "multipart/form-data" },
        { ...JSON_TYPE, "content-encoding": "br" },
      ]);
      return { ...post, headers, what: `headers ${JSON.stringify(headers)}`, body: encode(text) };
    },
    () => {
      const method = pick(["GET", "PUT", "DELETE", "PATCH"]);
      return { what: method, path, method, headers: JSON_TYPE, body: method === "GET" ? undefined : encode(text) };
    },
    () => {
      const parts = [
        "v1",
        "models",
        "..",
        "%00",
        "%ff",
        "completions",
        "a".repeat(500),
        "?x=%",
        "debug",
        "flight",
        "%2f",
      ];
      const wrong = `/${Array.from({ length: 3 + random() * 4 }, () => pick(parts)).join("/")}/x`;
      return { ...post, path: wrong, what: wrong, body: encode(text) };
    },
    () => ({
      ...post,
      what: "a long text",
      body: encode(JSON.stringify({ ...rightBody(COMPLETIONS), prompt: "a".repeat(1 << 20) })),
      path: COMPLETIONS,
    }),
  ];
  // Long ones now and then.
  return random() < 0.002 ? (kinds.at(-1) ?? pick(kinds))() : pick(kinds.slice(0, -1))();
}
