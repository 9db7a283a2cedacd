import { placementOf } from "@lockstep/dist-groups";

/** As many ranks as a world can have. */
const MOST_RANKS = 255;

/** How many processes a launcher such as `mpirun` started together with this one: 1 where none did. */
export function launchedTogether(): number {
  return placementOf(MOST_RANKS).processes.length;
}

/** Cores of all machines that ranks can run on, which are taken to be like this one. */
export function allCores(): number {
  return navigator.hardwareConcurrency * placementOf(MOST_RANKS).machines;
}
