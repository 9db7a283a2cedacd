import { openWorld } from "@lockstep/dist-groups";

await using world = await openWorld<typeof import("./program.ts")>({
  size: 4,
  program: new URL("./program.ts", import.meta.url),
  groups: {
    pair: [
      [0, 1],
      [2, 3],
    ],
  },
});

console.log((await world.call("sum", [10]))[0]);
console.log(await world.call("pair", []));

try {
  await world.call("forgetful", []);
} catch (error) {
  console.log(`${error}`);
}
