// A process under mpirun: its main thread and its workers each exchange messages with the same thread of every process,
// at the same time. Prints `exchanged`, the number of messages, and what MPI tells of itself.

import process from "node:process";
import { Worker } from "node:worker_threads";
import { attachMpi } from "../../src/transport/mpi/library/attach-mpi.ts";
import { finalizeMpi, initMpi } from "../../src/transport/mpi/library/init-mpi.ts";
import { exchange, meet, type ThreadJob } from "./exchange.ts";

const WORKERS = 2;
/** The processes have all come to the end. */
const GOODBYE_TAG = 1000;

const handles = initMpi();
const workers = Array.from({ length: WORKERS }, (_, index) => {
  const job: ThreadJob = { handles, thread: index + 1, memory: index % 2 === 0 ? "shared" : "webassembly" };
  const worker = new Worker(new URL("./exchange-worker.ts", import.meta.url), { workerData: job });
  return new Promise<number>((resolve, reject) => {
    worker.on("message", resolve);
    worker.on("error", reject);
    worker.on("exit", (code) => reject(new Error(`worker ${index + 1} ended with ${code} before it answered`)));
  });
});
const mpi = attachMpi(handles);
const own = exchange({ handles, thread: 0, memory: "shared" });
const counts = await Promise.all(workers);
meet(mpi, GOODBYE_TAG);
finalizeMpi(handles);
const messages = own + counts.reduce((sum, count) => sum + count, 0);
const { communicator: _, ...told } = handles;
console.log(`exchanged ${messages} ${JSON.stringify(told)}`);
process.exit(0);
