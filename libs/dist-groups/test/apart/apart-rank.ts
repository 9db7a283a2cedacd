// The worker of a rank that shares nothing with its peers.

import { runRank } from "../../src/rank/run-rank.ts";
import { apartProgram } from "./apart-program.ts";
import { Peers } from "./peers.ts";
import type { ApartMessage } from "./ranks-apart.ts";

const peers = new Peers();
addEventListener("message", ({ data }: MessageEvent<ApartMessage>) => {
  if (typeof data !== "object" || data === null) return;
  if ("introduction" in data) peers.introduce(data.introduction);
  else if ("way" in data) peers.meet(data.way);
});
runRank(apartProgram(peers));
