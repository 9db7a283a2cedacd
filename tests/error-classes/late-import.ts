// A host that knows no package but dist-groups gets every error from a rank, and imports their classes afterwards.
// Prints a line per error: its name, whether it is an instance before and after, and its fields and causes.

import { openWorld } from "@lockstep/dist-groups";

type Program = typeof import("./throwing-program.ts");

const errors: Error[] = [];
const before: string[] = [];
{
  await using world = await openWorld<Program>({
    size: 1,
    program: new URL("./throwing-program.ts", import.meta.url),
    heapBytesPerRank: 1 << 20,
  });
  for (let at = 0; ; at++) {
    const thrown: unknown = await world.call("throwNumber", [at]).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(thrown instanceof Error)) break;
    errors.push(thrown);
    before.push(classOf(thrown));
  }
}

// Only now: the classes of the other packages.
const { THROWN } = await import("./throwing-program.ts");
for (const [at, error] of errors.entries()) {
  const original = THROWN[at]?.();
  const expected = original?.constructor as new () => Error;
  const wrapped = error.cause instanceof Error && original?.name !== "GroupAborted" ? error.cause : error;
  const isInstance = error instanceof expected || wrapped instanceof expected;
  const message = wrapped.message === original?.message;
  console.log(
    [original?.name, before[at], classOf(error), isInstance, message, fieldsOf(wrapped), causesOf(error)].join(" | "),
  );
}

function classOf(error: Error): string {
  return Object.getPrototypeOf(error).constructor.name;
}

function fieldsOf(error: Error): string {
  const skipped = ["rank", "line", "column", "sourceURL", "originalLine", "originalColumn"];
  return JSON.stringify(Object.fromEntries(Object.entries(error).filter(([key]) => !skipped.includes(key))));
}

function causesOf(error: Error): string {
  const inner = error instanceof AggregateError ? error.errors : [error.cause];
  const causes = inner.filter((cause): cause is Error => cause instanceof Error);
  return `[${causes.map((cause) => `${classOf(cause)}${causesOf(cause)}`).join(", ")}]`;
}
