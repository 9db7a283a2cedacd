// Prints the report of the check as JSON: `bun tests/any-runtime/print-report.ts`, and in Deno alike.
import { checkWorlds } from "./check-worlds.ts";

console.log(JSON.stringify(await checkWorlds(new URL("./rank.ts", import.meta.url))));
