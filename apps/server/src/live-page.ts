import { type EventsOptions, eventsRoute } from "./live/events-route.ts";
import { pageFiles } from "./page/page-files.ts";
import type { MakePageRoutes } from "./page-routes.ts";

/** The page at `/`, which shows what the ranks do, and the events that it is told. */
export function livePage(options: EventsOptions): MakePageRoutes {
  return (deps) => ({ files: pageFiles(), live: eventsRoute(deps, options) });
}
