import { expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import * as Cause from "effect/Cause";
import * as Context from "effect/Context";
import * as Effect from "effect/Effect";
import * as Exit from "effect/Exit";
import * as Fiber from "effect/Fiber";
import { untilIn } from "../../test/until-in.ts";
import type { MethodsOf } from "../rank/rank-context.ts";
import {
  call,
  callRank,
  createGroup,
  openWorld,
  renewGroups,
  type ScopedWorldOptions,
  type World,
  worldLayer,
} from "./effect.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

type Program = typeof import("../../test/world-program.ts");
const program = new URL("../../test/world-program.ts", import.meta.url);
const options: ScopedWorldOptions<Program> = { size: 2, program, options: { scale: 1 }, heapBytesPerRank: 1 << 20 };

test("a world lives as long as its scope", async () => {
  let escaped: World<MethodsOf<Program>> | undefined;
  const program = Effect.scoped(
    Effect.gen(function* () {
      const world = yield* openWorld<Program>(options);
      escaped = world;
      const all = yield* call(world, "rank", []);
      const one = yield* callRank(world, 1, "rank", []);
      return { all, one };
    }),
  );
  expect(await Effect.runPromise(program)).toEqual({ all: [0, 1], one: 1 });
  expect(await outcomeOf(escaped?.call("rank", []))).toThrow(/closed/);
});

test("failures are typed and caught by their tag", async () => {
  const program = Effect.scoped(
    Effect.gen(function* () {
      const world = yield* openWorld<Program>(options);
      return yield* call(world, "groups", [["nowhere"]]);
    }),
  ).pipe(Effect.catchTag("ArgumentError", (error) => Effect.succeed(error.argument)));
  expect(await Effect.runPromise(program)).toBe("name");
  const refused = await Effect.runPromiseExit(Effect.scoped(openWorld<Program>({ ...options, size: -1 })));
  expect(Exit.isFailure(refused) && Cause.squash(refused.cause)).toBeInstanceOf(ArgumentError);
});

test("interrupting a fiber gives its call up and frees the ranks", async () => {
  const program = Effect.scoped(
    Effect.gen(function* () {
      const world = yield* openWorld<Program>({ ...options, size: 3 });
      // Rank 0 waits for peers that never come.
      const fiber = yield* Effect.forkChild(callRank(world, 0, "sum", [[1]]));
      yield* Effect.sleep(100);
      const start = performance.now();
      yield* Fiber.interrupt(fiber);
      yield* callRank(world, 0, "rank", []);
      return performance.now() - start;
    }),
  );
  expect(await Effect.runPromise(program)).toBeLessThan(20_000);
});

test("a scope that closes in mid-collective releases everything", async () => {
  const start = performance.now();
  const program = Effect.scoped(
    Effect.gen(function* () {
      const world = yield* openWorld<Program>(options);
      yield* Effect.forkChild(callRank(world, 0, "sum", [[1]]));
      yield* Effect.sleep(50);
    }),
  );
  await Effect.runPromise(program);
  expect(performance.now() - start).toBeLessThan(20_000);
});

test("interrupting the opening leaves nothing behind", async () => {
  const fiber = Effect.runFork(
    Effect.scoped(Effect.flatMap(openWorld<Program>({ ...options, size: 4 }), () => Effect.never)),
  );
  await new Promise((resolve) => setTimeout(resolve, 20));
  await Effect.runPromise(Fiber.interrupt(fiber));
  const exit = await Effect.runPromise(Fiber.await(fiber));
  expect(Exit.isFailure(exit)).toBe(true);
});

test("as a layer", async () => {
  class Ranks extends Context.Service<Ranks, World<MethodsOf<Program>>>()("test/Ranks") {}
  const program = Effect.gen(function* () {
    const world = yield* Ranks;
    return yield* call(world, "rank", []);
  }).pipe(Effect.provide(worldLayer<Ranks, Program>(Ranks, options)));
  expect(await Effect.runPromise(program)).toEqual([0, 1]);
});

/** More than the control memory of a world holds at a time. */
const GROUPS = 100;
const groupProgram = new URL("../../test/closed-group-program.ts", import.meta.url);
const groupWorld = openWorld<typeof import("../../test/closed-group-program.ts")>({
  size: 2,
  program: groupProgram,
  heapBytesPerRank: 1 << 20,
});
const names = (world: Pick<World, "flightRecord">): string[] => world.flightRecord().groups.map(({ group }) => group);

test("a group lives as long as its scope, and its failures are typed", async () => {
  const program = Effect.gen(function* () {
    const world = yield* groupWorld;
    const inUse = yield* Effect.scoped(
      Effect.gen(function* () {
        const group = yield* createGroup(world, "pair", [1, 0]);
        yield* call(world, "keep", [group.name]);
        yield* call(world, "barrier", ["pair"]);
        return yield* createGroup(world, "pair", [0]).pipe(
          Effect.map(() => "made"),
          Effect.catchTag("ArgumentError", ({ argument }) => Effect.succeed(argument)),
        );
      }),
    );
    const closed = yield* call(world, "barrierOfKept", []).pipe(
      Effect.as("open"),
      Effect.catchTag("ResourceClosed", ({ operation }) => Effect.succeed(operation)),
    );
    return { inUse, closed, names: names(world) };
  });
  const outcome = await Effect.runPromise(Effect.scoped(program));
  expect(outcome).toEqual({ inUse: "name", closed: "group.barrier", names: ["world"] });
});

test("interrupting a fiber in mid-collective of its group closes the group", async () => {
  const program = Effect.gen(function* () {
    const world = yield* groupWorld;
    const life = Effect.scoped(
      Effect.flatMap(createGroup(world, "pair", [0, 1]), (group) => call(world, "stall", [group.name])),
    );
    for (let round = 0; round < GROUPS; round++) {
      const fiber = yield* Effect.forkChild(life);
      yield* Effect.promise(() => untilIn(world, "pair", [0], "waiting"));
      yield* Fiber.interrupt(fiber);
      expect(names(world)).toEqual(["world"]);
      // The group of all ranks had a rank in the call.
      expect((yield* renewGroups(world)).map(({ name }) => name)).toEqual(["world"]);
    }
    return yield* call(world, "work", []);
  });
  expect(await Effect.runPromise(Effect.scoped(program))).toEqual([2, 2]);
});

test("interrupting the making of a group, sooner or later, leaves nothing of it", async () => {
  const program = Effect.gen(function* () {
    const world = yield* groupWorld;
    const life = Effect.scoped(Effect.andThen(createGroup(world, "pair", [0, 1]), Effect.never));
    for (let round = 0; round < GROUPS; round++) {
      const fiber = yield* Effect.forkChild(life);
      for (let turn = 0; turn < round % 10; turn++) yield* Effect.yieldNow;
      if (round % 3 === 0) yield* Effect.sleep(round % 4);
      yield* Fiber.interrupt(fiber);
      while (names(world).includes("pair")) yield* Effect.sleep(1);
    }
    expect(names(world)).toEqual(["world"]);
    return yield* call(world, "work", []);
  });
  expect(await Effect.runPromise(Effect.scoped(program))).toEqual([2, 2]);
});
