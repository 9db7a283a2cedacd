// `bun run check:dependencies`: holds the imports of every package to layers.ts, with dependency-cruiser. It reads
// TypeScript by TypeScript 6, and so is installed in this folder, beside the workspace's TypeScript 7. Exit code 1 when
// a rule is broken.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { EXCEPTIONS, type Exception } from "./exceptions.ts";
import { FOLDERS, PACKAGES, TEST_CODE } from "./layers.ts";

interface Import {
  readonly from: string;
  readonly to: string;
}

/** What dependency-cruiser says, as far as it is read here. */
interface Cruise {
  readonly modules: readonly {
    readonly source: string;
    readonly dependencies: readonly { readonly resolved: string }[];
  }[];
  readonly summary: {
    readonly violations: readonly (Import & {
      readonly rule: { readonly name: string };
      readonly cycle?: readonly { readonly name: string }[];
    })[];
  };
}

const own = dirname(fileURLToPath(import.meta.url));

/** Packages and folders that layers.ts has no place for, or has one for though they are gone. */
function misplaced(root: string): string[] {
  const there = (path: string): string[] =>
    existsSync(join(root, path))
      ? readdirSync(join(root, path), { withFileTypes: true }).flatMap((entry) =>
          entry.isDirectory() ? entry.name : [],
        )
      : [];
  const found = ["libs", "apps"].flatMap((group) => there(group).map((name) => `${group}/${name}`));
  const problems = differences("package", found, Object.keys(PACKAGES));
  for (const folder of found) {
    const inside = there(`${folder}/src`).filter((name) => !new RegExp(TEST_CODE).test(`${folder}/src/${name}/x.ts`));
    problems.push(...differences(`folder of ${folder}/src`, inside, FOLDERS[folder] ?? []));
  }
  return problems;
}

function differences(what: string, found: readonly string[], listed: readonly string[]): string[] {
  return [
    ...found.filter((name) => !listed.includes(name)).map((name) => `${what} without a place in layers.ts: ${name}`),
    ...listed.filter((name) => !found.includes(name)).map((name) => `${what} in layers.ts that is not there: ${name}`),
  ];
}

function cruise(root: string): Cruise {
  const bin = join(own, "node_modules/dependency-cruiser/bin/dependency-cruiser.mjs");
  const args = ["libs", "apps", "tests", "bench", "scripts", "examples"].filter((folder) =>
    existsSync(join(root, folder)),
  );
  const options = ["--config", join(own, "rules.ts"), "--output-type", "json"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args, ...options], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  try {
    return JSON.parse(stdout);
  } catch {
    throw new Error(`dependency-cruiser ended with status ${status}: ${stderr}${stdout.slice(0, 2000)}`);
  }
}

function isAt(path: string, place: string): boolean {
  return place.endsWith("/") ? path.startsWith(place) : path === place;
}

function isException({ from, to }: Import, exception: Exception): boolean {
  return isAt(from, exception.from) && isAt(to, exception.to);
}

/** The imports of a circle, or the one that breaks another rule. */
function importsOf({ from, to, cycle }: Cruise["summary"]["violations"][number]): Import[] {
  if (cycle === undefined) return [{ from, to }];
  return cycle.map(({ name }, at) => ({ from: at === 0 ? from : (cycle[at - 1]?.name ?? ""), to: name }));
}

/** Everything wrong with the imports under `root`, a line each. */
export function problems(root: string, exceptions: readonly Exception[] = EXCEPTIONS): string[] {
  const { modules, summary } = cruise(root);
  const imports = modules.flatMap(({ source, dependencies }) =>
    dependencies.map(({ resolved }) => ({ from: source, to: resolved })),
  );
  const stale = exceptions.filter((exception) => !imports.some((found) => isException(found, exception)));
  const broken = summary.violations.filter(
    (violation) => !importsOf(violation).some((found) => exceptions.some((exception) => isException(found, exception))),
  );
  return [
    ...misplaced(root),
    ...stale.map(({ from, to }) => `exceptions.ts: ${from} imports ${to} no more: take it off the list`),
    ...broken.map(({ rule, from, to, cycle }) =>
      cycle === undefined
        ? `${rule.name}: ${from} imports ${to}`
        : `${rule.name}: ${[from, ...cycle.map(({ name }) => name)].join(" -> ")}`,
    ),
  ];
}

/** Installs dependency-cruiser, unless it is there. */
export function installTool(): void {
  const args = ["install", "--cwd", own, "--frozen-lockfile", "--silent"];
  const { status } = spawnSync(process.execPath, args, { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error(`\`bun ${args.join(" ")}\` failed; its messages are above`);
}

if (import.meta.main) {
  installTool();
  const found = problems(process.cwd());
  for (const line of found) console.error(line);
  if (found.length > 0) process.exitCode = 1;
  else console.log(`dependencies: all imports point downwards, but for ${EXCEPTIONS.length} exceptions`);
}
