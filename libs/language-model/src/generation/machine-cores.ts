import { placementOf } from "@lockstep/dist-groups";

/** As many ranks as a world can have. */
const MOST_RANKS = 255;

/** Cores of all machines that ranks can run on, which are taken to be like this one. */
export function allCores(): number {
  return navigator.hardwareConcurrency * placementOf(MOST_RANKS).machines;
}
