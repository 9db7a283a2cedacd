// llama.cpp's side, by node-llama-cpp: its batches of sequences, and a server before them that does no more than
// the route needs.
import { availableParallelism } from "node:os";
import { LLAMA_CPP_MODULE, type NodeLlamaCpp } from "../peer/llama-cpp.ts";
import { completionsRoute } from "./completions-route.ts";
import { LlamaCppTexts } from "./llama-cpp-texts.ts";
import { obey, readJob } from "./orders.ts";

const { model: modelPath, parallel, context: contextSize, texts: sequences, kvDtype } = readJob();
const threads = parallel === "auto" ? availableParallelism() : parallel;
const { getLlama }: NodeLlamaCpp = await import(LLAMA_CPP_MODULE);
const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  logLevel: "error",
  maxThreads: threads,
});
const model = await llama.loadModel({ modelPath });
const kvType = kvDtype.toUpperCase();
const context = await model.createContext({
  sequences,
  contextSize,
  threads: { ideal: threads, min: threads },
  experimentalKvCacheKeyType: kvType,
  experimentalKvCacheValueType: kvType,
});
const texts = new LlamaCppTexts(
  model,
  Array.from({ length: sequences }, () => context.getSequence()),
);
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  idleTimeout: 255,
  routes: { "/v1/completions": { POST: completionsRoute((request) => texts.generate(request)) } },
});
await obey(
  { url: `http://127.0.0.1:${server.port}`, about: `${threads} ${threads === 1 ? "thread" : "threads"}` },
  (request) => texts.generate(request),
);
await server.stop(true);
await llama.dispose();
