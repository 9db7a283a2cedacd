// `bun run serve`: serves a language model over HTTP.
import process from "node:process";
import { listenInBun } from "./listen/bun.ts";
import { serve } from "./serve.ts";

process.exit(await serve(listenInBun));
