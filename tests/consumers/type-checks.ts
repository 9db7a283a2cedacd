// Type-checks a strict consumer of all packages, as strangers do: with the declarations that they get, which have to
// stand without the types of browsers and of Node.
import { strictEqual } from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Check, once } from "./checks.ts";
import type { Lab } from "./lab.ts";
import { type Packed, ROOT } from "./pack.ts";
import { toolFile } from "./tools.ts";

/** Its types are Effect's as well, and those need the types of browsers. */
const EFFECT = "@lockstep/dist-groups/effect";

const COMPILERS = {
  "TypeScript 5.9": () => toolFile("typescript/lib/tsc.js"),
  "TypeScript 7": () => join(ROOT, "node_modules/typescript/bin/tsc"),
};
const RESOLUTIONS = {
  bundler: { module: "preserve", moduleResolution: "bundler" },
  nodenext: { module: "nodenext", moduleResolution: "nodenext" },
};
const STRICT = {
  target: "esnext",
  lib: ["esnext"],
  types: [],
  strict: true,
  skipLibCheck: false,
  noEmit: true,
  allowUnreachableCode: false,
  allowUnusedLabels: false,
  erasableSyntaxOnly: true,
  exactOptionalPropertyTypes: true,
  isolatedModules: true,
  noFallthroughCasesInSwitch: true,
  noImplicitOverride: true,
  noImplicitReturns: true,
  noPropertyAccessFromIndexSignature: true,
  noUncheckedIndexedAccess: true,
  noUncheckedSideEffectImports: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  verbatimModuleSyntax: true,
};

export function typeChecks(lab: Lab, packed: readonly Packed[]): Check[] {
  const installed = once(async () => {
    const consumer = lab.consumer("typed", ["typed.ts"]);
    writeFileSync(join(consumer.folder, "package.json"), '{ "type": "module" }\n');
    await consumer.run(`bun add ${packed.map(({ name }) => `@lockstep/${name}`).join(" ")}`);
    // Types without browsers and Node know no console.
    const declared = "declare namespace globalThis { const console: { log(text: string): void } }\n";
    writeFileSync(join(consumer.folder, "entries.ts"), declared + importAll(packed, (entry) => entry !== EFFECT));
    for (const [name, resolution] of Object.entries(RESOLUTIONS)) {
      const config = { compilerOptions: { ...STRICT, ...resolution }, files: ["typed.ts", "entries.ts"] };
      writeFileSync(join(consumer.folder, `${name}.json`), JSON.stringify(config));
    }
    return consumer;
  });
  const types = Object.entries(COMPILERS).flatMap(([compiler, path]) =>
    Object.keys(RESOLUTIONS).map((resolution) => ({
      name: `types of every package: ${compiler}, ${resolution}`,
      run: async () => {
        await (await installed()).run(`node ${path()} --project ${resolution}.json --pretty false`);
      },
    })),
  );
  return [
    ...types,
    {
      name: "every entry of every package is imported in Bun, Deno and Node 22",
      run: async () => {
        const { run, folder } = lab.consumer("entries");
        writeFileSync(
          join(folder, "entries.js"),
          importAll(packed, () => true),
        );
        const { peerDependencies } = JSON.parse(readFileSync(join(ROOT, "libs/dist-groups/package.json"), "utf8"));
        await run(
          `bun add effect@${peerDependencies.effect} ${packed.map(({ name }) => `@lockstep/${name}`).join(" ")}`,
        );
        const [inBun, ...others] = [
          await run("bun entries.js"),
          await run("deno run --no-prompt entries.js"),
          await run("node entries.js"),
        ];
        for (const other of others) strictEqual(other, inBun, "runtimes see different exports");
        return inBun.trim();
      },
    },
  ];
}

/** A program that imports all that packages export, and counts it. */
function importAll(packed: readonly Packed[], isWanted: (entry: string) => boolean): string {
  const entries = packed.flatMap(({ name, folder }) => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8"));
    const paths = Object.keys(exports).filter((path) => path !== "./package.json");
    return paths.map((path) => `@lockstep/${name}${path.slice(1)}`).filter(isWanted);
  });
  const imports = entries.map((entry, index) => `import * as entry${index} from ${JSON.stringify(entry)};`);
  const all = entries.map((_, index) => `entry${index}`).join(", ");
  return `${imports.join("\n")}
const count = [${all}].reduce((sum, entry) => sum + Object.keys(entry).length, 0);
globalThis.console.log(\`\${count} exports of ${entries.length} entries\`);
`;
}
