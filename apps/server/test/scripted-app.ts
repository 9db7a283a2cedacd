import { type AppOptions, createApp, type ServerApp } from "../src/app.ts";
import type { LogEntry } from "../src/http/request-log.ts";
import { type Script, ScriptedEngine, scriptedTokenizer } from "./scripted-engine.ts";

/** A server over an engine without a model, and what it logs. */
export interface ScriptedApp {
  readonly app: ServerApp;
  readonly engine: ScriptedEngine;
  readonly logged: LogEntry[];
  /** Sends a body to a path. */
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  get(path: string, init?: RequestInit): Promise<Response>;
}

export const MODEL = "scripted";

export function scriptedApp(script: Script = {}, options: Partial<AppOptions> = {}): ScriptedApp {
  const engine = new ScriptedEngine(script);
  const logged: LogEntry[] = [];
  const log = (entry: LogEntry): void => {
    logged.push(entry);
  };
  const app = createApp({ engine, modelName: MODEL, tokenizer: scriptedTokenizer, log, ...options });
  const ask = (path: string, init?: RequestInit): Promise<Response> =>
    app.fetch(new Request(`http://127.0.0.1${path}`, init));
  return {
    app,
    engine,
    logged,
    get: ask,
    post(path, body, init) {
      const headers = new Headers(init?.headers);
      if (!headers.has("content-type")) headers.set("content-type", "application/json");
      const text = typeof body === "string" || body instanceof Blob ? body : JSON.stringify(body);
      return ask(path, { method: "POST", body: text, ...init, headers });
    },
  };
}

/** Data of the events of a stream, without the last, which must be [DONE]. */
export async function eventsOf(response: Response): Promise<unknown[]> {
  const blocks = (await response.text()).split("\n\n");
  if (blocks.pop() !== "") throw new Error("a stream of events ends with an empty line");
  const data = blocks.map((block) => {
    if (!block.startsWith("data: ")) throw new Error(`expected data, but found ${block}`);
    return block.slice("data: ".length);
  });
  if (data.pop() !== "[DONE]") throw new Error("a stream of events ends with [DONE]");
  return data.map((text) => JSON.parse(text));
}
