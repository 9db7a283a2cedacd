// The rules as dependency-cruiser reads them:
// https://github.com/sverweij/dependency-cruiser/blob/main/doc/rules-reference.md
import { readFileSync } from "node:fs";
import { EFFECT_FACE, FOLDERS, PACKAGES, TEST_CODE } from "./layers.ts";

interface Manifest {
  readonly name: string;
  /** What is published; apps of this workspace name their source. */
  readonly exports?: Readonly<Record<string, string | { readonly default: string }>>;
  readonly dependencies?: Readonly<Record<string, string>>;
}

const error = "error" as const;

/** Manifests of the packages of the folder that is checked, which is the working folder. */
const manifests = new Map(
  Object.keys(PACKAGES).map((folder): [string, Manifest] => [
    folder,
    JSON.parse(readFileSync(`${folder}/package.json`, "utf8")),
  ]),
);

const start = (...folders: readonly string[]): string => `^(${folders.join("|")})/`;
/** The source of what a manifest exports: `dist/x.js` is built from `src/x.ts`. */
const sourceOf = (folder: string, exported: string | { readonly default: string }): string => {
  const path = typeof exported === "string" ? exported : exported.default;
  return path
    .replace(/^\.\/(dist\/)?/, (_, dist) => `${folder}/${dist === undefined ? "" : "src/"}`)
    .replace(/\.js$/, ".ts");
};
const file = (path: string): string => `^${path.replaceAll(".", "\\.")}$`;

/** Packages import packages below them. */
const packages = Object.entries(PACKAGES).map(([folder, below]) => ({
  name: "package-above",
  comment: `${folder} imports ${below.length === 0 ? "no package" : `only ${below.join(", ")}`}`,
  severity: error,
  from: { path: start(folder), pathNot: TEST_CODE },
  to: { path: start("libs", "apps", "tests", "bench", "scripts"), pathNot: start(folder, ...below) },
}));

/** Packages import what their package.json says. */
const declared = [...manifests].map(([folder, { dependencies = {} }]) => ({
  name: "undeclared",
  comment: `package.json of ${folder} has everything that its code imports`,
  severity: error,
  from: { path: start(folder), pathNot: TEST_CODE },
  to: {
    path: start("libs", "apps"),
    pathNot: start(folder, ...[...manifests].flatMap(([other, { name }]) => (name in dependencies ? [other] : []))),
  },
}));

/** Nobody but a package's own tests gets past its `exports`; what its tests are made of is for all tests. */
const exported = [...manifests].map(([folder, { exports = {} }]) => ({
  name: "past-exports",
  comment: `others import what the package.json of ${folder} exports`,
  severity: error,
  from: { pathNot: start(folder) },
  to: {
    path: start(folder),
    pathNot: [TEST_CODE, ...Object.values(exports).map((path) => file(sourceOf(folder, path)))],
  },
}));

/** Folders import folders below them. */
const folders = Object.entries(FOLDERS).flatMap(([folder, order]) =>
  order.slice(0, -1).map((name, at) => ({
    name: "folder-above",
    comment: `${folder}/src/${name} imports no folder above it: ${order.slice(at + 1).join(", ")}`,
    severity: error,
    from: { path: start(`${folder}/src/${name}`), pathNot: TEST_CODE },
    to: { path: start(...order.slice(at + 1).map((above) => `${folder}/src/${above}`)) },
  })),
);

export default {
  forbidden: [
    {
      name: "circle",
      comment: "imports go round in no circle, those of types included",
      severity: error,
      from: {},
      to: { circular: true },
    },
    ...packages,
    ...declared,
    ...exported,
    ...folders,
    {
      name: "test-code",
      comment: "code imports no tests",
      severity: error,
      from: { path: start("libs", "apps"), pathNot: TEST_CODE },
      to: { path: TEST_CODE },
    },
    {
      name: "loads-effect",
      comment: `only ${EFFECT_FACE} loads Effect, and no library code imports it`,
      severity: error,
      from: { path: start("libs"), pathNot: [TEST_CODE, file(EFFECT_FACE)] },
      to: { path: ["node_modules/effect/", file(EFFECT_FACE)] },
    },
    {
      name: "unresolved",
      comment: "every import leads somewhere, and npm packages are in package.json",
      severity: error,
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "\\.as\\.ts$|^(libs|apps)/[^/]+/dist/" },
    // Imports of types count.
    tsPreCompilationDeps: true,
    combinedDependencies: true,
    // Packages of the workspace are their sources here.
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "default"],
      extensions: [".ts", ".js"],
    },
  },
};
