// The place where consumers live: a temporary folder outside the repository, with a home, caches, an environment and
// commands of its own, so that nothing of this machine or of the workspace helps them.
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";
import { runCommand } from "./run-command.ts";
import { nodeBinary, toolFile } from "./tools.ts";

const programs = join(dirname(fileURLToPath(import.meta.url)), "programs");

/** A folder of a consumer. */
export interface Consumer {
  readonly folder: string;
  /** Runs a line of a shell in the folder. Returns what it printed. @throws Error when it fails */
  run(commandLine: string, options?: { readonly deadlineMs?: number }): Promise<string>;
}

export class Lab {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), "lockstep-consumers-")));
  readonly upstream: string;
  /** The whole environment of consumers. */
  readonly env: Readonly<Record<string, string>>;

  /**
   * @param registry address of the registry from which they install
   * @param upstream address of the registry that this machine uses
   */
  constructor(registry: string, upstream: string) {
    this.upstream = upstream;
    const bin = join(this.folder, "bin");
    for (const name of ["bin", "home", "tmp", "consumers"]) mkdirSync(join(this.folder, name));
    symlinkSync(process.execPath, join(bin, "bun"));
    symlinkSync(denoBinary(), join(bin, "deno"));
    symlinkSync(nodeBinary(), join(bin, "node"));
    symlinkSync(toolFile("npm/bin/npm-cli.js"), join(bin, "npm"));
    this.env = {
      PATH: `${bin}:/usr/bin:/bin`,
      HOME: join(this.folder, "home"),
      TMPDIR: join(this.folder, "tmp"),
      LANG: "C.UTF-8",
      NO_COLOR: "1",
      BUN_INSTALL_CACHE_DIR: join(this.folder, "bun-cache"),
      DENO_DIR: join(this.folder, "deno-cache"),
      DENO_NO_UPDATE_CHECK: "1",
      NPM_CONFIG_REGISTRY: registry,
      NPM_CONFIG_CACHE: join(this.folder, "npm-cache"),
      NPM_CONFIG_UPDATE_NOTIFIER: "false",
      NPM_CONFIG_FUND: "false",
      NPM_CONFIG_AUDIT: "false",
      // Publishing wants a token; this registry takes any.
      NPM_CONFIG_TOKEN: "anyone",
    };
  }

  /** Makes an empty folder for a consumer, with files of `programs/` copied into it. */
  consumer(name: string, files: readonly string[] = []): Consumer {
    const folder = join(this.folder, "consumers", name);
    mkdirSync(folder);
    for (const file of files) copyFileSync(join(programs, file), join(folder, file));
    return {
      folder,
      run: (commandLine, options = {}) =>
        runCommand(["sh", "-c", commandLine], { cwd: folder, env: this.env, ...options }),
    };
  }

  /** Gives a consumer files of `programs/` as JavaScript that Node 22 runs. */
  async addJavaScript(consumer: Consumer, files: readonly string[]): Promise<void> {
    const sources = files.map((file) => join(programs, file));
    const options = ["--format=esm", "--target=node22", `--outdir=${consumer.folder}`];
    await runCommand(["node", toolFile("esbuild/bin/esbuild"), ...sources, ...options], {
      cwd: consumer.folder,
      env: this.env,
    });
    for (const file of files) {
      const built = join(consumer.folder, file.replace(/\.ts$/, ".js"));
      writeFileSync(built, readFileSync(built, "utf8").replaceAll('.ts"', '.js"'));
    }
  }

  /** Removes the folder. */
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
