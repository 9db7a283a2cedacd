// A process under mpirun that starts MPI, sends a few bytes to the next process, waits for all others, and ends MPI.
import { exit } from "node:process";
import { meet } from "./exchange.ts";
import { attachMpi } from "../../src/transport/mpi/library/attach-mpi.ts";
import { finalizeMpi, initMpi } from "../../src/transport/mpi/library/init-mpi.ts";

const handles = initMpi();
const { rank, size } = handles;
const mpi = attachMpi(handles);
const numbers = new Int32Array(new SharedArrayBuffer(8));
numbers[0] = rank;
const address = mpi.addressOf(numbers.buffer);
const requests = [mpi.irecv(address + 4, 4, (rank + size - 1) % size, 1), mpi.isend(address, 4, (rank + 1) % size, 1)];
const idle = new Int32Array(new SharedArrayBuffer(4));
for (const request of requests) while (!mpi.test(request)) Atomics.wait(idle, 0, 0, 0.1);
meet(mpi, 2);
finalizeMpi(handles);
const refusals = [() => attachMpi(handles), () => initMpi()].map((call) => {
  try {
    call();
    return "nothing";
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
});
console.log(`rank ${rank} heard from ${numbers[1]}, then ${refusals.join(" and ")}`);
exit(0);
