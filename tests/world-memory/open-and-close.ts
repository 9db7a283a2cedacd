// Opens and closes worlds one after another and prints how many bytes of the process are resident after the first and
// after the last one.
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./touching-program.ts";

const resident: number[] = [];
for (let round = 0; round < 10; round++) {
  {
    await using world = await openWorld<typeof program>({
      size: 2,
      program: new URL("./touching-program.ts", import.meta.url),
    });
    await world.call("ready", []);
  }
  await Bun.sleep(20);
  Bun.gc(true);
  resident.push(process.memoryUsage().rss);
}
console.log(JSON.stringify({ first: resident[0], last: resident.at(-1) }));
