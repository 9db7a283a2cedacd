// The server in Deno: `deno run -A --unstable-no-legacy-abort apps/server/src/main-deno.ts`.
import process from "node:process";
import { listenInDeno } from "./listen/deno.ts";
import { serve } from "./serve.ts";

process.exit(await serve(listenInDeno));
