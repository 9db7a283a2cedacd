// Opens and closes worlds one after another, or, with the argument `fail`, opens ones that fail when their ranks have
// started. Prints how many bytes of the process are resident after the first and after the last one, and how many
// listeners the signal that they were opened with has at the end.
import { getEventListeners } from "node:events";
import { openWorld, type World, WorldStartFailed } from "@lockstep/dist-groups";
import type * as program from "./touching-program.ts";

const fail = process.argv[2] === "fail";
const { signal } = new AbortController();
const resident: number[] = [];

function open(): Promise<World> {
  return openWorld<typeof program>({
    size: 2,
    program: new URL("./touching-program.ts", import.meta.url),
    options: { fail },
    signal,
  }) as unknown as Promise<World>;
}

for (let round = 0; round < 10; round++) {
  if (fail) {
    const error: unknown = await open().catch((thrown: unknown) => thrown);
    if (!(error instanceof WorldStartFailed)) throw error;
  } else {
    await using world = await open();
    await world.call("ready", [], { signal });
    await world.createGroup("pair", [1, 0], { signal });
  }
  await Bun.sleep(20);
  Bun.gc(true);
  resident.push(process.memoryUsage().rss);
}
const listeners = getEventListeners(signal, "abort").length;
console.log(JSON.stringify({ first: resident[0], last: resident.at(-1), listeners }));
