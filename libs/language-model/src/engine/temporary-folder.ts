import { builtinModule } from "@lockstep/tensor";

/** What is used of `node:fs`. Declared here so that declarations type-check where Node's types are unknown. */
interface FileSystem {
  mkdtempSync(prefix: string): string;
  rmSync(path: string, options: { readonly recursive: boolean; readonly force: boolean }): void;
}

/** A folder that nobody else knows, removed with all that is in it when it is disposed of. */
export interface TemporaryFolder extends Disposable {
  readonly path: string;
}

/** Makes one; undefined where the runtime has no file system, or none that takes it. */
export function openTemporaryFolder(): TemporaryFolder | undefined {
  const files = builtinModule<FileSystem>("node:fs");
  const parent = builtinModule<{ tmpdir(): string }>("node:os")?.tmpdir();
  if (files === undefined || parent === undefined) return undefined;
  try {
    const path = files.mkdtempSync(`${parent}/lockstep-resize-`);
    return { path, [Symbol.dispose]: () => files.rmSync(path, { recursive: true, force: true }) };
  } catch {
    return undefined;
  }
}
