// The tarballs of the packages, as `npm pack` and `bun pm pack` make them.
import { mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PUBLISHED, type PublishedPackage } from "../../scripts/build-packages/published.ts";
import type { Lab } from "./lab.ts";
import { runCommand } from "./run-command.ts";

/** Root of the workspace. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");

export type Packer = "npm" | "bun";

/** A package's tarballs. */
export interface Packed {
  readonly name: string;
  readonly folder: string;
  readonly tarballs: Readonly<Record<Packer, string>>;
}

const DEADLINE_MS = 240_000;

/**
 * Packs all packages, each by npm and by Bun, from a state without anything built. The first pack of each has its
 * `prepack` build what is to be packed; the others find it built.
 */
export async function packAll(lab: Lab): Promise<Packed[]> {
  for (const packer of ["npm", "bun"]) mkdirSync(join(lab.folder, `packed-by-${packer}`));
  for (const { folder } of PUBLISHED) rmSync(join(ROOT, folder, "dist"), { recursive: true, force: true });
  const highest = (name: string): PublishedPackage => {
    const found = PUBLISHED.find((one) => one.name === name);
    if (found === undefined) throw new Error(`expected a package ${name}, but scripts/build-packages lists none`);
    return found;
  };
  const [model, goldens] = [highest("language-model"), highest("goldens")];
  const packed = new Map<string, string>();
  const add = async (packer: Packer, one: PublishedPackage, runsPrepack: boolean): Promise<void> => {
    packed.set(`${packer} ${one.name}`, await pack(lab, packer, one, runsPrepack));
  };
  await add("bun", model, true);
  await add("npm", goldens, true);
  const rest = async (packer: Packer, built: PublishedPackage): Promise<void> => {
    for (const one of PUBLISHED) if (one !== built) await add(packer, one, false);
  };
  await Promise.all([rest("bun", model), rest("npm", goldens)]);
  return PUBLISHED.map(({ name, folder }) => ({
    name,
    folder,
    tarballs: { npm: packed.get(`npm ${name}`) ?? "", bun: packed.get(`bun ${name}`) ?? "" },
  }));
}

/** Packs one package. Returns the tarball's path. */
async function pack(lab: Lab, packer: Packer, { folder }: PublishedPackage, runsPrepack: boolean): Promise<string> {
  const to = join(lab.folder, `packed-by-${packer}`);
  const command: [string, ...string[]] =
    packer === "npm"
      ? ["npm", "pack", "--silent", "--pack-destination", to]
      : ["bun", "pm", "pack", "--quiet", "--destination", to];
  if (!runsPrepack) command.push("--ignore-scripts");
  // A build may have to install packages by the way of this machine.
  const env = { ...(process.env as Record<string, string>), ...lab.env, NPM_CONFIG_REGISTRY: lab.upstream };
  const printed = await runCommand(command, { cwd: join(ROOT, folder), env, deadlineMs: DEADLINE_MS });
  // npm prints a name, Bun a path.
  const name = printed.trim().split("\n").at(-1)?.split("/").at(-1) ?? "";
  return join(to, name);
}
