// `bun run docs:check`: fails when something that is published has no comment, a bare parameter no meaning, a link no
// target, or a type no export. `bun run docs` writes the reference to build/api-reference.
import { join } from "node:path";
import process from "node:process";
import { findGaps } from "./find-gaps.ts";
import { installTypedoc, readReflections, writePages } from "./typedoc.ts";
import { UNPUBLISHED } from "./unpublished.ts";

const root = process.cwd();
installTypedoc();
if (process.argv.includes("--write")) {
  const out = join(root, "build/api-reference");
  writePages(root, out);
  console.log(`docs: the reference is ${join(out, "index.html")}`);
} else {
  const gaps = findGaps(readReflections(root), UNPUBLISHED);
  for (const gap of gaps) console.error(gap);
  if (gaps.length > 0) process.exitCode = 1;
  else console.log("docs: everything that is published is described, and links lead somewhere");
}
