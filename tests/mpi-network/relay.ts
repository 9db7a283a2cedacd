// The delaying switch of a network: relay.c, run where the far ends of the hosts' links are.
import { compileRelay } from "./compile.ts";
import { PROGRAM_PATH } from "./namespaces.ts";
import { NetworkError } from "./network-error.ts";

const ANSWER_DEADLINE_MS = 30_000;

/** A running relay. */
export interface Relay {
  /** Frames that come from now on are handed on after `milliseconds` (0 or more, to the microsecond). */
  setDelay(milliseconds: number): Promise<void>;
}

/**
 * Starts a relay between interfaces of a namespace. It ends when the namespace's processes are killed, and when this
 * process ends. @throws NetworkError when it does not start, RangeError for a delay below 0
 */
export async function startRelay(namespace: string, interfaces: readonly string[], delayMs: number): Promise<Relay> {
  const child = Bun.spawn(["ip", "netns", "exec", namespace, compileRelay(), ...interfaces], {
    env: { ...process.env, PATH: PROGRAM_PATH },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  const lines = linesOf(child.stdout);
  const expectLine = async (line: string): Promise<void> => {
    const timer = setTimeout(() => child.kill("SIGKILL"), ANSWER_DEADLINE_MS);
    const { value } = await lines.next();
    clearTimeout(timer);
    if (value === line) return;
    const said = value === undefined ? await new Response(child.stderr).text() : value;
    throw new NetworkError(`the relay should have answered "${line}"; it said "${said.trim()}"`);
  };
  const setDelay = async (milliseconds: number): Promise<void> => {
    if (!(milliseconds >= 0 && milliseconds <= 60_000)) {
      throw new RangeError(`a delay of 0 to 60000 ms was expected, ${milliseconds} came`);
    }
    const line = `delay ${Math.round(milliseconds * 1000)}`;
    child.stdin.write(`${line}\n`);
    await child.stdin.flush();
    await expectLine(line);
  };
  await expectLine("ready");
  await setDelay(delayMs);
  return { setDelay };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  return undefined;
}
