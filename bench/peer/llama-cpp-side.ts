// llama.cpp's side, by node-llama-cpp: takes a job in JSON on its standard input, prints what it measured as JSON.
import { LLAMA_CPP_MODULE, type NodeLlamaCpp } from "./llama-cpp.ts";
import { readJob, timeWorks } from "./works.ts";

const job = readJob();
const { getLlama }: NodeLlamaCpp = await import(LLAMA_CPP_MODULE);
const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  logLevel: "error",
  maxThreads: job.parallel,
});
const model = await llama.loadModel({ modelPath: job.model });
const kvType = job.kvDtype?.toUpperCase();
const context = await model.createContext({
  contextSize: job.capacity,
  threads: { ideal: job.parallel, min: job.parallel },
  ...(kvType === undefined ? {} : { experimentalKvCacheKeyType: kvType, experimentalKvCacheValueType: kvType }),
});
const sequence = context.getSequence();

async function* continued(prompt: readonly number[], tokens: number): AsyncGenerator<number, void> {
  await sequence.clearHistory();
  let count = 0;
  for await (const token of sequence.evaluate([...prompt], { temperature: 0, yieldEogToken: true })) {
    yield token;
    if (++count === tokens) return;
  }
}

const times = await timeWorks(job.works, continued);
console.log(JSON.stringify(times));
await llama.dispose();
