// The server over the engine that tells a story, as a process of its own.
import { fileURLToPath } from "node:url";
import { type Runtime, startServer } from "../../apps/server/test/server-process.ts";

const PROGRAM = fileURLToPath(new URL("../../apps/server/test/serve-story.ts", import.meta.url));

/** How the server is started. */
export interface StoryOptions {
  /** Default "bun". */
  readonly runtime?: Runtime;
  /** Whose texts the page shows. Default "all". */
  readonly texts?: "all" | "own";
  /** Default: none is wanted. */
  readonly token?: string;
}

/** A server that runs. */
export interface StoryServer extends AsyncDisposable {
  /** With a slash at the end. */
  readonly address: string;
  /** Has the engine hang, go on, or be in a state. */
  tell(command: "hang" | "go" | "restarting" | "ready"): void;
  /** Asks for a text. Resolves with the whole answer, unless `gone` aborts: then it is given up. */
  ask(prompt: string, tokens: number, gone?: AbortSignal): Promise<string>;
  /** Ends it as an operator does. Resolves with its exit code. */
  end(): Promise<number>;
}

export async function startStoryServer({ runtime = "bun", texts = "all", token }: StoryOptions): Promise<StoryServer> {
  const server = await startServer(runtime, PROGRAM, [texts, ...(token === undefined ? [] : [token])]);
  const address = `${server.url}/`;
  return {
    address,
    tell: (command) => server.tell(command),
    ask(prompt, tokens, gone) {
      const answer = fetch(`${address}v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body: JSON.stringify({ model: "story", prompt, max_tokens: tokens }),
        ...(gone === undefined ? {} : { signal: gone }),
      }).then((response) => response.text());
      // A check that has failed waits for no answer, and the server ends with it.
      answer.catch(() => undefined);
      return answer;
    },
    end() {
      server.kill("SIGTERM");
      return server.exited;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
