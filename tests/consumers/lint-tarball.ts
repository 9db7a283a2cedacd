// publint and @arethetypeswrong, in this process: a process of their own for every tarball would take longer to start
// than to lint.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { toolFile } from "./tools.ts";

/** What is used of publint. */
interface Publint {
  publint(options: { readonly pack: { readonly tarball: ArrayBuffer }; readonly strict: boolean }): Promise<{
    readonly messages: readonly object[];
  }>;
}

/** What is used of `@arethetypeswrong/core`. */
interface TypesWrong {
  createPackageFromTarballData(tarball: Uint8Array): object;
  checkPackage(packed: object): Promise<{
    readonly types: unknown;
    readonly problems?: readonly { readonly kind: string; readonly resolutionKind?: string }[];
  }>;
}

/** Ways to find modules that are not served: packages are ES modules with `exports`. */
const NOT_SERVED = ["node10", "node16-cjs"];

/** @throws Error with all that the linters find in a tarball, suggestions too */
export async function lint(tarball: string): Promise<void> {
  const { publint } = await tool<Publint>("publint/src/index-node.js");
  const { createPackageFromTarballData, checkPackage } = await tool<TypesWrong>("@arethetypeswrong/core/dist/index.js");
  const bytes = new Uint8Array(readFileSync(tarball));
  const { messages } = await publint({ pack: { tarball: bytes.buffer }, strict: true });
  const { types, problems = [] } = await checkPackage(createPackageFromTarballData(bytes));
  const found: unknown[] = [
    ...messages,
    ...problems.filter(({ resolutionKind }) => !NOT_SERVED.includes(resolutionKind ?? "")),
  ];
  if (!types) found.push("it has no types");
  if (found.length > 0) throw new Error(found.map((one) => JSON.stringify(one)).join("\n"));
}

async function tool<T>(path: string): Promise<T> {
  return await import(pathToFileURL(toolFile(path)).href);
}
