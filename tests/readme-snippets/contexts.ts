// What runs the pieces of programs in the documentation: each is put where it belongs, and run there.

/** Where a piece belongs, as the info string of its block says. */
export const CONTEXTS = ["host", "rank", "worker", "bundled", "page"] as const;
export type Context = (typeof CONTEXTS)[number];

/** A file of a program that is made for a piece. */
export interface MadeFile {
  readonly name: string;
  readonly text: string;
}

const HOST_PROGRAM = `
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

export function setup(context: RankContext) {
  const meet = (name: string): void => {
    const tensor = Tensor.from(context.heap, "f32", [1], [1]);
    context.group(name).allReduce(tensor, tensor);
    if (tensor.at(0) !== 2) throw new Error("the ranks did not meet");
    tensor.free();
  };
  return {
    pairStep: () => meet("pair"),
    step: (_tokens: number[]) => meet("world"),
    resume: () => meet("world"),
  };
}
`;

const openPiece = (methods: string): string => `
import { CollectiveTimeout, formatFlightRecord, openWorld } from "@lockstep/dist-groups";
await using world = await openWorld<typeof import("./piece-program.ts")>({
  size: 2,
  program: new URL("./piece-program.ts", import.meta.url),
});
const tokens = [1, 2];
${methods}
`;

const rankProgram = (code: string): string => `
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";

export async function setup(context: RankContext) {
  const { heap, world: group } = context;
  const backend = await openBackend("wasm", { heap });
  context.onClose(() => backend.close());
  const attention = DcpAttention.open({
    backend, heap, dcpGroup: group, layers: 1, queryHeads: 4, kvHeads: 2, headDim: 8,
    kvDtype: "f32", blockSize: 4, numBlocks: 16, prefillChunk: 8, maxStepQueries: 16,
  });
  context.onClose(() => attention.close());
  const sequence = attention.createSequence();
  const prompt = [1, 2, 3, 4, 5];
  const [layer, interleave, window] = [0, 1, 7];
  const tensor = (): Tensor => Tensor.zeros(heap, "f32", [prompt.length, 2, 8]).fill(0.5);
  const [query, key, value, out] = [tensor(), tensor(), tensor(), tensor()];
  return {
    async run(): Promise<void> {
${code}
    },
  };
}
`;

/** Opens a world over the module of a worker that a piece is. */
const openWorker = (file: string, demo: string, code: string): string =>
  code.includes("runGeneratorRank")
    ? `
import { Generator, openModel } from "@lockstep/language-model";
const options = { world: 2, capacity: 32, worker: new URL("./${file}", import.meta.url) };
await using generator = await Generator.open(openModel(${JSON.stringify(`${demo}/model`)}), options);
`
    : `
import { openWorld } from "@lockstep/dist-groups";
await using world = await openWorld({ size: 2, worker: new URL("./${file}", import.meta.url) });
`;

/** Runs a piece as a page would, whose server has the demo's model, and prints its title. */
const openPage = (file: string, demo: string): string => `
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch: async (request) => {
    const found = Bun.file(${JSON.stringify(demo)} + new URL(request.url).pathname);
    return (await found.exists()) ? new Response(found) : new Response("none", { status: 404 });
  },
});
const page = { title: "" };
Object.assign(globalThis, { document: page, location: { href: server.url.href } });
await import("./${file}");
console.log(page.title);
await server.stop(true);
`;

/**
 * The files that run a piece, the one to run last; `demo` is the folder of the demo. A piece that is a module of its
 * own lies beside them as `file`.
 */
export function filesOf(context: Context, file: string, code: string, demo: string): MadeFile[] {
  const main = { name: `run-${file}` };
  switch (context) {
    case "host":
      return [
        { name: "piece-program.ts", text: HOST_PROGRAM },
        { ...main, text: openPiece(code) },
      ];
    case "rank":
      return [
        { name: "piece-program.ts", text: rankProgram(code) },
        { ...main, text: openPiece('await world.call("run", []);') },
      ];
    case "worker":
      return [
        { name: file, text: code },
        { ...main, text: openWorker(file, demo, code) },
      ];
    case "bundled":
      return [{ name: file, text: code }];
    case "page":
      return [
        { name: file, text: code },
        { ...main, text: openPage(file, demo) },
      ];
  }
}
