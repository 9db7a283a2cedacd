// The module of the workers that `openWorld` starts by itself. It imports the program once the host has said which.

import { RankMisplaced } from "../errors/errors.ts";
import { openHostPort } from "./host-port.ts";
import { serveRank } from "./serve-rank.ts";

const host = openHostPort();
if (host === undefined) throw new RankMisplaced("outside a worker");
serveRank(host, async (address = "") => ({
  name: address,
  module: await import(/* @vite-ignore */ /* webpackIgnore: true */ address),
}));
