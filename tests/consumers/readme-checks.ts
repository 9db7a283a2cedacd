// The programs in the READMEs, by consumers who have what the READMEs say to install, and what they are said to print.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { agrees, exampleFiles, expectedLines, type Snippet, snippetsOf } from "../readme-snippets/snippets.ts";
import type { Check } from "./checks.ts";
import type { Consumer, Lab } from "./lab.ts";
import { ROOT } from "./pack.ts";

const READMES = [
  "README.md",
  ...["tensor", "kernels", "dist-groups", "attention"].map((name) => `libs/${name}/README.md`),
];
/** What they import. Deno lets a program import what it has added, and not what came with that. */
const PACKAGES = ["attention", "dist-groups", "kernels", "tensor"].map((name) => `@lockstep/${name}`);

interface ReadmeProgram {
  readonly snippet: Snippet;
  /** What it says that it prints. */
  readonly said: string;
  /** The blocks that belong to it, which name their files. */
  readonly modules: readonly Snippet[];
}

/** Blocks that are files of examples/ are run as these. */
const examples = exampleFiles(ROOT);

/** The programs that say what they print, each with the modules above it. */
function programsOf(readme: string): ReadmeProgram[] {
  const modules: Snippet[] = [];
  return snippetsOf(ROOT, readme).flatMap((snippet) => {
    const { code, context, file, output } = snippet;
    if (context !== undefined) return [];
    if (file !== undefined && /^export /m.test(code)) modules.push(snippet);
    const said = output ?? expectedLines(code).join("\n");
    return said === "" || examples.has(code) ? [] : [{ snippet, said, modules: [...modules] }];
  });
}

const oneLine = (text: string): string => text.replace(/\s+/g, " ");

export function readmeChecks(lab: Lab): Check[] {
  const programs = READMES.flatMap(programsOf);
  const run = async (consumer: Consumer, command: (program: ReadmeProgram) => string): Promise<string> => {
    for (const [index, program] of programs.entries()) {
      for (const { file = "", code } of program.modules) writeFileSync(join(consumer.folder, file), code);
      writeFileSync(join(consumer.folder, `main-${index}.ts`), program.snippet.code);
      const printed = await consumer.run(`${command(program)} main-${index}.ts`);
      // How lists are broken into lines depends on the runtime.
      if (!agrees(oneLine(printed), oneLine(program.said))) {
        throw new Error(`${program.snippet.at} printed\n${printed}\nwhere it says\n${program.said}`);
      }
    }
    return programs.map(({ snippet }) => snippet.at).join(", ");
  };
  return [
    {
      name: "Bun: programs of the READMEs",
      run: async () => {
        const consumer = lab.consumer("readmes-in-bun");
        await consumer.run(`bun add ${PACKAGES.join(" ")}`);
        return await run(consumer, () => "bun");
      },
    },
    {
      name: "Deno: programs of the READMEs, worlds with leave to read their folder, the others with none",
      run: async () => {
        const consumer = lab.consumer("readmes-in-deno");
        await consumer.run(`deno add ${PACKAGES.map((name) => `npm:${name}`).join(" ")}`);
        return await run(consumer, ({ modules }) =>
          modules.length > 0 ? "deno run --no-prompt --allow-read=." : "deno run --no-prompt",
        );
      },
    },
  ];
}
