// What the reference lacks: comments, the meaning of parameters, targets of links, types that are not published.
import { KIND, type Mention, type Reflection, textOf } from "./reflection.ts";

/** Everything that is missing, a line each, with its place. `unpublished` may be named by types without being there. */
export function findGaps(project: Reflection, unpublished: readonly string[]): string[] {
  const named = new Set<string>();
  const gaps = (project.children ?? []).flatMap((module) => [
    ...withoutComment(module, module.name),
    ...withoutTarget(module, module.name, unpublished, named),
  ]);
  const stale = unpublished.filter((type) => !named.has(type));
  return [...new Set([...gaps, ...stale.map((type) => `unpublished.ts: nothing names ${type} any more`)])];
}

/**
 * Parameters that are the same everywhere: a public function and its arguments, as errors name them; a file; a layer,
 * from 0. One that begins with an underscore is not read.
 */
const PLAIN = new Set(["operation", "argument", "otherArgument", "path", "layer"]);

const place = (...[source]: NonNullable<Reflection["sources"]>): string =>
  source === undefined ? "" : ` (${source.fileName}:${source.line})`;

/** Ours alone: what comes from TypeScript's libraries or a base class is described there, once. */
function withoutComment(reflection: Reflection, path: string): string[] {
  const { kind, flags = {}, sources = [], signatures = [], children = [], type } = reflection;
  if (flags.isExternal || flags.isInherited || kind === KIND.reference || isOfEveryError(reflection)) return [];
  if (kind === KIND.constructor && sources.length === 0) return []; // a class that has none
  const calls = [...signatures, ...((type?.type === "reflection" ? type.declaration : undefined)?.signatures ?? [])];
  const accessors = [reflection.getSignature, reflection.setSignature].filter((each) => each !== undefined);
  const said = [reflection, ...calls, ...accessors].map(textOf).join("\n");
  const gaps = said.trim() === "" ? [`no comment: ${path}${place(...sources)}`] : [];
  for (const parameter of calls.flatMap(({ parameters = [] }) => parameters)) {
    if (
      isBare(parameter) &&
      !PLAIN.has(parameter.name) &&
      !new RegExp(`\\b${parameter.name.replace(/^_/, "")}\\b`).test(said) &&
      textOf(parameter) === ""
    ) {
      gaps.push(`no meaning of parameter \`${parameter.name}\`: ${path}${place(...sources)}`);
    }
  }
  return [...gaps, ...children.flatMap((child) => withoutComment(child, `${path}.${child.name}`))];
}

/** Whether a parameter's type says nothing of its meaning: numbers, text, and lists of them. */
function isBare({ type }: Reflection): boolean {
  return type?.type === "intrinsic" || (type?.type === "array" && type.elementType?.type === "intrinsic");
}

/** What the base class of errors says for all of them: their tags, and constructors, which the library alone calls. */
function isOfEveryError({ overwrites }: Reflection): boolean {
  return /^LockstepError\.(_tag|constructor)$/.test(overwrites?.name ?? "");
}

/** Types of ours that the reference does not have, and links that lead nowhere, in all that belongs to a reflection. */
function withoutTarget(node: unknown, path: string, unpublished: readonly string[], named: Set<string>): string[] {
  if (Array.isArray(node)) return node.flatMap((each) => withoutTarget(each, path, unpublished, named));
  if (typeof node !== "object" || node === null) return [];
  const mention: Mention & Partial<Reflection> = node;
  // A signature has the name of its function.
  const isNamed = "variant" in mention && `${path}.`.endsWith(`${mention.name}.`) === false;
  const own = isNamed ? `${path}.${mention.name}` : path;
  const gaps = Object.values(node).flatMap((each) => withoutTarget(each, own, unpublished, named));
  if (mention.kind === undefined && mention.type !== "reference") return gaps;
  const { target } = mention;
  const outside = typeof target === "object" && target.packageName.startsWith("@lockstep/") ? target : undefined;
  if (mention.type === "reference" && outside !== undefined && mention.refersToTypeParameter !== true) {
    const type = `${outside.packageName}/${outside.packagePath}: ${outside.qualifiedName}`;
    named.add(type);
    if (!unpublished.includes(type)) gaps.push(`not exported: ${type}, named by ${own}`);
  }
  if (String(mention.kind) === "inline-tag" && (target === undefined || typeof target === "object")) {
    gaps.push(`broken link to ${mention.text}: ${own}`);
  }
  return gaps;
}
