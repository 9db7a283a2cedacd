// The server over the engine that tells a story, as a process of its own.
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { startCommand } from "../consumers/run-command.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PROGRAM = fileURLToPath(new URL("../../apps/server/test/serve-story.ts", import.meta.url));
const START_MS = 60_000;

/** A server that runs. */
export interface StoryServer {
  /** With a slash at the end. */
  readonly address: string;
  /** Has the engine hang, go on, or be in a state. */
  tell(command: "hang" | "go-on" | "restarting" | "ready"): Promise<void>;
  /** Asks for a text, for the given token where one is wanted. Resolves with the whole answer. */
  ask(prompt: string, tokens: number): Promise<string>;
  /** Kills it. Idempotent. */
  stop(): void;
}

/** @param texts whose texts the page shows @param token that it wants */
export async function startStoryServer(texts: "all" | "own" = "all", token?: string): Promise<StoryServer> {
  const env = process.env as Readonly<Record<string, string>>;
  const command = [process.execPath, PROGRAM, texts, ...(token === undefined ? [] : [token])] as const;
  const { child, stop } = startCommand([...command], { cwd: ROOT, env });
  let errors = "";
  child.stderr?.on("data", (bytes) => {
    errors += bytes;
  });
  const { stdout } = child;
  if (stdout === null) throw new Error("a command's stdout is a pipe");
  const first = Promise.withResolvers<string>();
  const timer = setTimeout(() => first.reject(new Error(`no server after ${START_MS} ms: ${errors}`)), START_MS);
  child.once("close", () => first.reject(new Error(`the server ended: ${errors}`)));
  createInterface({ input: stdout }).once("line", first.resolve);
  try {
    const address = await first.promise;
    return {
      address,
      async tell(command) {
        await fetch(`${address}story/${command}`, { method: "POST" });
      },
      stop,
      ask(prompt, tokens) {
        const answer = fetch(`${address}v1/completions`, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
          body: JSON.stringify({ model: "story", prompt, max_tokens: tokens }),
        }).then((response) => response.text());
        // A check that has failed waits for no answer, and the server ends with it.
        answer.catch(() => undefined);
        return answer;
      },
    };
  } catch (error) {
    stop();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
