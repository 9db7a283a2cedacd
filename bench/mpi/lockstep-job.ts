// The program of every process of Lockstep's side: the first opens a world over all of them and has its ranks run the
// windows that it is asked for; the others run ranks.
import { connect } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { joinJob, openWorld } from "@lockstep/dist-groups";
import type * as program from "../openmpi/lockstep-program.ts";
import type { Window } from "./windows.ts";

await joinJob();
const socket = connect(process.argv[2] ?? "");
const processes = Number(process.env.OMPI_COMM_WORLD_SIZE ?? process.env.PMI_SIZE);
await using world = await openWorld<typeof program>({
  size: processes,
  program: new URL("../openmpi/lockstep-program.ts", import.meta.url),
});
socket.write("rank 0\n");
for await (const line of createInterface({ input: socket })) {
  const [window, batch] = JSON.parse(line) as [Window & { readonly name: "barrier" }, number];
  let answer: unknown;
  try {
    answer = Math.max(...(await world.call("window", [window, batch], { deadlineMs: 120_000 })));
  } catch (error) {
    answer = error instanceof Error ? error.message : String(error);
  }
  socket.write(`${JSON.stringify(answer)}\n`);
}
