// Opens worlds by the Effect face, one after another, and interrupts the fiber of each in the middle of what the
// argument says: `opening`, `call` or `group`. Prints how many workers live and how many listeners signals have after
// each interruption, and how many bytes of the process are resident after the first and after the last.
import { getEventListeners } from "node:events";
import { call, createGroup, openWorld } from "@lockstep/dist-groups/effect";
import * as Effect from "effect/Effect";
import * as Exit from "effect/Exit";
import * as Fiber from "effect/Fiber";
import { untilIn } from "../until-in.ts";

type Program = typeof import("./waiting-program.ts");

const ROUNDS = 9;
const LONGEST_END_MS = 8_000;
const mode = process.argv[2];

let started = 0;
let living = 0;
globalThis.Worker = class extends Worker {
  constructor(url: string | URL, options?: WorkerOptions) {
    super(url, options);
    started++;
    living++;
    this.addEventListener("close", () => living--);
  }
};

const signals: AbortSignal[] = [];
globalThis.AbortController = class extends AbortController {
  constructor() {
    super();
    signals.push(this.signal);
  }
};

/** Settles when a world is in the middle of it. */
type Middle = PromiseWithResolvers<void>;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(1);
}

function world(begun: SharedArrayBuffer, forEver: boolean) {
  return openWorld<Program>({
    size: 2,
    program: new URL("./waiting-program.ts", import.meta.url),
    options: { begun, forEver },
  });
}

const opening = (begun: SharedArrayBuffer) => Effect.asVoid(world(begun, true));

const inCall = (begun: SharedArrayBuffer, middle: Middle) =>
  Effect.gen(function* () {
    const opened = yield* world(begun, false);
    untilIn(opened, "world", [0], "waiting").then(middle.resolve, middle.reject);
    yield* call(opened, "stall", ["world"]);
  });

const inGroup = (begun: SharedArrayBuffer, middle: Middle) =>
  Effect.gen(function* () {
    const opened = yield* world(begun, false);
    yield* call(opened, "ready", []);
    const group = yield* createGroup(opened, "pair", [1, 0]);
    untilIn(opened, group.name, [0], "waiting").then(middle.resolve, middle.reject);
    yield* call(opened, "stall", [group.name]);
  });

/** Where an opening is interrupted: before it begins, when its workers start, when their memory is resident. */
async function inOpening(round: number, begun: SharedArrayBuffer, startedBefore: number): Promise<void> {
  if (round % 3 === 1) await until(() => started > startedBefore);
  if (round % 3 === 2) await until(() => Atomics.load(new Int32Array(begun), 0) === 2);
}

const left: { readonly workers: number; readonly listeners: number }[] = [];
const resident: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const begun = new SharedArrayBuffer(4);
  const middle = Promise.withResolvers<void>();
  const startedBefore = started;
  const life = { opening, call: inCall, group: inGroup }[mode ?? ""];
  if (life === undefined) throw new Error(`expected opening, call or group, got ${mode}`);
  const fiber = Effect.runFork(Effect.scoped(life(begun, middle)));
  if (mode === "opening") await inOpening(round, begun, startedBefore);
  else await middle.promise;
  await Effect.runPromise(Fiber.interrupt(fiber));
  const exit = await Effect.runPromise(Fiber.await(fiber));
  if (!Exit.hasInterrupts(exit)) throw new Error(`not interrupted: ${exit}`);
  // Workers of a busy machine take their time to end.
  const late = performance.now() + LONGEST_END_MS;
  await until(() => living === 0 || performance.now() > late);
  const listeners = signals.reduce((sum, signal) => sum + getEventListeners(signal, "abort").length, 0);
  left.push({ workers: living, listeners });
  await Bun.sleep(20);
  Bun.gc(true);
  resident.push(process.memoryUsage().rss);
}
console.log(JSON.stringify({ started, left, first: resident[2], last: resident.at(-1) }));
