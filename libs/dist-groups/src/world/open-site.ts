import { launchedProcesses } from "../job/launched-processes.ts";
import { ManyProcesses } from "../job/leader.ts";
import { OneProcess } from "../site/one-process.ts";
import type { WorldSettings } from "../site/world-settings.ts";
import type { WorldSite } from "../site/world-site.ts";

/** Where the ranks of a world are to live: in the processes that a launcher started together, or in this one. */
export function openSite(settings: WorldSettings): WorldSite {
  return launchedProcesses() > 1 ? new ManyProcesses(settings) : new OneProcess(settings);
}
