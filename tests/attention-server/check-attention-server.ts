// What a server of attention must do, as the ones of examples/ do: decode by tokens, refuse what is wrong, end by
// SIGTERM.
import assert from "node:assert/strict";
import { RandomStream } from "../random.ts";

const [HEADS, KV_HEADS, DIM] = [8, 2, 64] as const;

/** The address that a server prints first, once it listens. */
async function addressOf(stdout: ReadableStream<Uint8Array>): Promise<string> {
  let said = "";
  for await (const bytes of stdout) {
    said += new TextDecoder().decode(bytes);
    const [address] = /http:\S+/.exec(said) ?? [];
    if (address !== undefined && said.includes("\n")) return address;
  }
  throw new Error(`the server ended and said ${said}`);
}

interface Token {
  readonly query: number[];
  readonly key: number[];
  readonly value: number[];
}

/** Attention of the last token's query over all tokens, in float64. */
function attend(tokens: readonly Token[]): number[] {
  const { query = [] } = tokens.at(-1) ?? {};
  return Array.from({ length: HEADS }, (_, head) => {
    const from = Math.floor((head * KV_HEADS) / HEADS) * DIM;
    const scores = tokens.map(({ key }) => {
      const products = Array.from({ length: DIM }, (_, at) => (query[head * DIM + at] ?? 0) * (key[from + at] ?? 0));
      return products.reduce((sum, product) => sum + product, 0) / Math.sqrt(DIM);
    });
    const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return Array.from({ length: DIM }, (_, at) =>
      tokens.reduce((sum, { value }, token) => sum + ((weights[token] ?? 0) / total) * (value[from + at] ?? 0), 0),
    );
  }).flat();
}

/** Starts the server by `command` in a folder, and talks to it. Returns its exit code after SIGTERM. */
export async function checkAttentionServer(command: readonly string[], cwd: string): Promise<number> {
  const child = Bun.spawn([...command], { cwd, stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  try {
    await talkToAttentionServer(await addressOf(child.stdout));
    child.kill("SIGTERM");
    return await child.exited;
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
  }
}

/** Decodes two sequences and checks what comes, and sends what is to be refused. */
export async function talkToAttentionServer(address: string): Promise<void> {
  const send = (method: string, path: string, body?: unknown): Promise<Response> =>
    fetch(new URL(path, address), { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const create = async (): Promise<number> => (await (await send("POST", "sequences")).json()).sequence;

  const random = new RandomStream(5);
  const numbers = (count: number): number[] => Array.from(random.normals(count));
  const sequences = [await create(), await create()];
  const kept: Token[][] = [[], []];
  for (const which of [0, 1, 0, 0, 1, 0]) {
    const token = { query: numbers(HEADS * DIM), key: numbers(KV_HEADS * DIM), value: numbers(KV_HEADS * DIM) };
    kept[which]?.push(token);
    const answer = await (await send("POST", `sequences/${sequences[which]}/decode`, token)).json();
    const wanted = attend(kept[which] ?? []);
    assert.equal(answer.out.length, wanted.length);
    // Keys and values are kept in f16.
    for (const [at, element] of wanted.entries()) assert(Math.abs(answer.out[at] - element) < 5e-3);
    assert.equal(answer.held.length, 4);
  }
  assert.equal((await send("POST", `sequences/${sequences[0]}/decode`, { query: [1] })).status, 400);
  assert.equal((await send("POST", "sequences/77/decode", {})).status, 404);
  assert.equal((await send("GET", "nowhere")).status, 404);
  assert.equal((await send("DELETE", `sequences/${sequences[0]}`)).status, 204);
  assert.equal((await send("DELETE", `sequences/${sequences[0]}`)).status, 404);
}
