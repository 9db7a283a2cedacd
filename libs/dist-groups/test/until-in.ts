import type { FlightOp, World } from "../src/index.ts";

/**
 * Comes back when the last collective of each of these ranks in a group is in a state, which the flight record shows.
 */
export async function untilIn(
  world: Pick<World, "flightRecord">,
  name: string,
  ranks: readonly number[],
  state: FlightOp["state"],
): Promise<void> {
  for (;;) {
    const groups = world.flightRecord().groups.filter(({ group }) => group === name);
    const flights = groups.flatMap((group) => group.ranks);
    const isThere = (rank: number): boolean =>
      flights.some((flight) => flight.rank === rank && flight.ops.at(-1)?.state === state);
    if (ranks.every(isThere)) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
