// A program that opens a network, starts a job on it, and waits to be killed: it cannot clean up.
import { startJob } from "./job.ts";
import { openNetwork } from "./network.ts";

const network = await openNetwork({ hosts: 2, delayMs: 0 });
const job = startJob(network, {
  implementation: "mpich",
  command: ["sh", "-c", "echo started; sleep 600"],
  deadlineMs: 600_000,
});
await job.printed("started");
console.log(JSON.stringify(network.hosts));
await job.ended;
