import process from "node:process";
import { openWorld } from "../src/index.ts";
const size = Number(process.argv[2] ?? 4),
  bench = Number(process.argv[3] ?? 0),
  staging = Number(process.argv[4] ?? 65536);
const t0 = performance.now();
{
  await using world = await openWorld<typeof import("./program.ts")>({
    size,
    program: new URL("./program.ts", import.meta.url),
    stagingBytes: staging,
  });
  console.log("open", performance.now() - t0);
  console.log(await world.call("reduce", [5]));
  if (bench) console.log((await world.call("bench", [bench]))[0]);
}
console.log("closed", performance.now() - t0);
