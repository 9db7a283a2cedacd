/** Code of a built module, and the files that it names by URL. */
export interface LinkedCode {
  readonly code: string;
  /** Relative to the module. */
  readonly files: readonly string[];
}

/**
 * Makes `new URL("./x.ts", import.meta.url)`, by which a module names a worker's file, name what x.ts was built to. The
 * compiler rewrites imports alone.
 */
export function withJavaScriptUrls(code: string): LinkedCode {
  const files: string[] = [];
  const linked = code.replace(/new URL\("(\.{1,2}\/[^"]+)\.ts", import\.meta\.url\)/g, (_, path: string) => {
    files.push(`${path}.js`);
    return `new URL("${path}.js", import.meta.url)`;
  });
  return { code: linked, files };
}

/** Makes the imports of a declaration file name modules by `.js`, as others do: the compiler leaves them at `.ts`. */
export function withJavaScriptImports(declarations: string): string {
  return declarations.replace(/((?:from|import) "|import\(")(\.{1,2}\/[^"]+)\.ts"/g, '$1$2.js"');
}
