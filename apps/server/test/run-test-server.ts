// What the servers of the tests, programs for Bun and Deno, have in common.
import process from "node:process";
import { createInterface } from "node:readline";
import { lineWriter } from "../src/http/line-writer.ts";
import { jsonLines } from "../src/http/request-log.ts";
import { listenInBun } from "../src/listen/bun.ts";
import { listenInDeno } from "../src/listen/deno.ts";
import { type RunOptions, runServer } from "../src/run-server.ts";

/** Serves until the process is told to end. `onLine` hears each line of its input. */
export async function runTestServer(
  options: Pick<RunOptions, "engine" | "modelName" | "tokenizer"> & Partial<RunOptions>,
  onLine: (line: string) => void,
): Promise<never> {
  createInterface({ input: process.stdin }).on("line", onLine);
  const code = await runServer({
    log: jsonLines(lineWriter(process.stdout)),
    host: "127.0.0.1",
    port: 0,
    listen: "Bun" in globalThis ? listenInBun : listenInDeno,
    drainSeconds: 10,
    idleSeconds: 30,
    ...options,
  });
  process.exit(code);
}
