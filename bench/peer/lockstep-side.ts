// Lockstep's side: takes a job in JSON on its standard input, prints what it measured as JSON.
import { Generator, openModel } from "@lockstep/language-model";
import { readJob, timeWorks } from "./works.ts";

const job = readJob();
await using generator = await Generator.open(openModel(job.model), {
  world: job.parallel,
  backend: "wasm",
  weights: job.isInt8 === true ? "i8" : "stored",
  capacity: job.capacity,
  ...(job.kvDtype === undefined ? {} : { kvDtype: job.kvDtype }),
  deadlineMs: 600_000,
});
const times = await timeWorks(job.works, (prompt, maxTokens) => generator.generate(prompt, { maxTokens }));
console.log(JSON.stringify(times));
