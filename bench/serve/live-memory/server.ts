// A server that can be asked what lives in it: for each line on its standard input it collects the garbage of its own
// thread and of its ranks, and writes a line of its log with what was left. Its options are those of the server.
import process from "node:process";
import { CHANNEL, liveHeap, type ThreadAnswer } from "./collect.ts";

const DEADLINE_MS = 20_000;
/** Workers of ranks that have not been ended: choosing how many ranks to take opens worlds, and closes them. */
const ranks = new Set<Worker>();

globalThis.Worker = class extends Worker {
  constructor(module: string | URL, options: WorkerOptions = {}) {
    const isRank = options.name?.startsWith("lockstep-rank-") ?? false;
    super(isRank ? new URL("./rank.ts", import.meta.url).href : module, options);
    if (isRank) ranks.add(this);
  }

  override terminate(): void {
    ranks.delete(this);
    super.terminate();
  }
};

const channel = new BroadcastChannel(CHANNEL);
let asked = 0;

/** Bytes that live in the server's thread and, in no order, in each rank's. */
async function liveHeaps(): Promise<number[]> {
  const number = ++asked;
  const bytes: number[] = [];
  const all = Promise.withResolvers<void>();
  channel.onmessage = ({ data }: MessageEvent<ThreadAnswer>) => {
    if (data.asked !== number) return;
    bytes.push(data.bytes);
    if (bytes.length === ranks.size) all.resolve();
  };
  const late = setTimeout(() => all.reject(new Error(`${bytes.length} of ${ranks.size} ranks answered`)), DEADLINE_MS);
  channel.postMessage(number);
  try {
    if (ranks.size > 0) await all.promise;
  } finally {
    clearTimeout(late);
  }
  return [await liveHeap(), ...bytes.sort((a, b) => a - b)];
}

const tell = (what: object): void => {
  process.stdout.write(`${JSON.stringify({ event: "live_memory", ...what })}\n`);
};
process.stdin.on("data", () => {
  liveHeaps().then(
    (bytes) => tell({ bytes }),
    (error: Error) => tell({ failure: error.message }),
  );
});
await import(`../../../apps/server/src/${process.versions.bun === undefined ? "main-deno" : "main"}.ts`);
