// Type-checks a strict consumer of all packages, as strangers do: with the declarations that they get, which have to
// stand without the types of browsers and of Node.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Check, once } from "./checks.ts";
import type { Lab } from "./lab.ts";
import { type Packed, ROOT } from "./pack.ts";
import { toolFile } from "./tools.ts";

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
    for (const [name, resolution] of Object.entries(RESOLUTIONS)) {
      const config = { compilerOptions: { ...STRICT, ...resolution }, files: ["typed.ts"] };
      writeFileSync(join(consumer.folder, `${name}.json`), JSON.stringify(config));
    }
    return consumer;
  });
  return Object.entries(COMPILERS).flatMap(([compiler, path]) =>
    Object.keys(RESOLUTIONS).map((resolution) => ({
      name: `types of every package: ${compiler}, ${resolution}`,
      run: async () => {
        await (await installed()).run(`node ${path()} --project ${resolution}.json --pretty false`);
      },
    })),
  );
}
