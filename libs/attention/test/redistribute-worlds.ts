// The worlds in which contexts move in the tests.
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import type { RandomStream } from "../../../tests/random.ts";
import { groupsOf } from "./redistribute-cases.ts";
import type * as program from "./redistribute-program.ts";
import type { TestBackend } from "./test-backend.ts";

export function shuffled(list: readonly number[], random: RandomStream): number[] {
  const left = [...list];
  return list.flatMap(() => left.splice(random.below(left.length), 1));
}

/** Groups of a case, made for one run. */
export async function withGroups<T>(
  world: World<MethodsOf<typeof program>>,
  layouts: readonly (readonly number[])[],
  random: RandomStream,
  run: (unions: string[]) => Promise<T>,
  pcps: readonly number[] = [],
): Promise<T> {
  await using stack = new AsyncDisposableStack();
  const unions: string[] = [];
  for (const [at, ranks] of layouts.entries()) {
    for (const group of groupsOf(at, ranks, pcps[at] ?? 1)) stack.use(await world.createGroup(group.name, group.ranks));
    const next = layouts[at + 1];
    if (next === undefined) continue;
    unions.push(`union ${at}`);
    stack.use(await world.createGroup(`union ${at}`, shuffled([...new Set([...ranks, ...next])], random)));
  }
  return await run(unions);
}

export const open = (size: number, backend: TestBackend, deadlineMs = 60_000) =>
  openWorld<typeof program>({
    size,
    program: new URL("./redistribute-program.ts", import.meta.url),
    options: { backend },
    heapBytesPerRank: 8 << 20,
    deadlineMs,
  });
