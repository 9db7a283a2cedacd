// A worker that is no rank: it stays, and talks of something else.
import { openHostPort } from "../../src/rank/host-port.ts";

const host = openHostPort();
setInterval(() => host?.postMessage({ hello: "world" }), 20);
