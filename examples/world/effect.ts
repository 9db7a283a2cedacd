import { call, openWorld } from "@lockstep/dist-groups/effect";
import * as Effect from "effect/Effect";

const sums = Effect.scoped(
  Effect.gen(function* () {
    const world = yield* openWorld<typeof import("./program.ts")>({
      size: 4,
      program: new URL("./program.ts", import.meta.url),
      groups: {
        pair: [
          [0, 1],
          [2, 3],
        ],
      },
    });
    console.log((yield* call(world, "sum", [10]))[0]);
    yield* call(world, "forgetful", []); // fails: rank 2 forgets to come
  }),
).pipe(Effect.catchTag("CollectiveTimeout", ({ missing }) => Effect.sync(() => console.log("missing:", missing))));

await Effect.runPromise(sums);
