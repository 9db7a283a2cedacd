// The program of every process of Lockstep's side: the first opens a world over all of them and calls its methods as it
// is asked to, over a socket; the others run ranks.
//
//   bun lockstep-job.ts PROGRAM OPTIONS SOCKET
//
// PROGRAM is the address of the ranks' module; OPTIONS are those of `openWorld`, in JSON. A line is [method,
// arguments]; the answer {"values": one for each rank} or {"error": text}.
import { connect } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { joinJob, openWorld, type WorldOptions } from "@lockstep/dist-groups";

const CALL_MS = 120_000;

await joinJob();
const [program = "", options = "{}", path = ""] = process.argv.slice(2);
const socket = connect(path);
const size = Number(process.env.OMPI_COMM_WORLD_SIZE ?? process.env.PMI_SIZE);
await using world = await openWorld({
  ...(JSON.parse(options) as object),
  size,
  program: new URL(program),
} as WorldOptions);
socket.write("rank 0\n");
for await (const line of createInterface({ input: socket })) {
  const [method, args] = JSON.parse(line) as [string, unknown[]];
  let answer: object;
  try {
    answer = { values: await world.call(method, args, { deadlineMs: CALL_MS }) };
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  socket.write(`${JSON.stringify(answer)}\n`);
}
