// Where the parts of a template stand: @huggingface/jinja keeps no positions.
import type { tokenize } from "@huggingface/jinja";
import { childrenOf, filterOf, isNode, nameOf, type TemplateNode } from "./template-nodes.ts";

type Tokens = ReturnType<typeof tokenize>;

/** Tags that mark what an assistant said, for training; they are dropped before tokens are made. */
const DROPPED_TAG = /\{%-?\s*(?:end)?generation\s*-?%\}/y;

/** The line on which each token begins, from 1: tokens are found again in the source, in their order. */
export function tokenLines(source: string, tokens: Tokens): readonly number[] {
  let line = 1;
  let counted = 0;
  let at = 0;
  return tokens.map((token) => {
    const place = findToken(source, at, token);
    at = place.end;
    for (; counted < place.start; counted++) if (source[counted] === "\n") line++;
    return line;
  });
}

interface Place {
  readonly start: number;
  readonly end: number;
}

function findToken(source: string, from: number, { type, value }: Tokens[number]): Place {
  switch (type) {
    case "Text":
      return { start: from, end: from };
    case "Comment": {
      const start = nextTag(source, from);
      const end = source.indexOf("#}", start + 2);
      return { start, end: end < 0 ? source.length : end + 2 };
    }
    case "OpenStatement":
    case "OpenExpression": {
      const start = nextTag(source, from);
      return { start, end: start + (source[start + 2] === "-" ? 3 : 2) };
    }
    case "StringLiteral": {
      const start = skipSpaces(source, from);
      return { start, end: endOfString(source, start) };
    }
    default: {
      const spaces = skipSpaces(source, from);
      const start = type.startsWith("Close") && source[spaces] === "-" ? spaces + 1 : spaces;
      return { start, end: start + value.length };
    }
  }
}

/** Where the next tag begins that is not dropped. */
function nextTag(source: string, from: number): number {
  for (let at = from; at < source.length; at++) {
    if (source[at] !== "{" || !"%{#".includes(source[at + 1] ?? " ")) continue;
    DROPPED_TAG.lastIndex = at;
    if (!DROPPED_TAG.test(source)) return at;
    at = DROPPED_TAG.lastIndex - 1;
  }
  return source.length;
}

function skipSpaces(source: string, from: number): number {
  let at = from;
  while (at < source.length && /\s/.test(source[at] ?? "")) at++;
  return at;
}

function endOfString(source: string, start: number): number {
  let at = start + 1;
  while (at < source.length && source[at] !== source[start]) at += source[at] === "\\" ? 2 : 1;
  return at + 1;
}

/** The line, from 1, of an index of a text. */
export function lineAt(source: string, index: number): number {
  let line = 1;
  for (let at = source.indexOf("\n"); at >= 0 && at < index; at = source.indexOf("\n", at + 1)) line++;
  return line;
}

/** The line of the first comment, text or tag that has no end; undefined where all have one. */
export function unendedLine(source: string): number | undefined {
  for (let tag = nextTag(source, 0); tag < source.length; ) {
    const isComment = source[tag + 1] === "#";
    const end = isComment ? source.indexOf("#}", tag + 2) + 2 : endOfTag(source, tag);
    if (typeof end !== "number") return lineAt(source, end.unended);
    if (end < tag + 2) return lineAt(source, tag);
    tag = nextTag(source, end);
  }
  return undefined;
}

/** Where a tag of an expression or a statement ends, or where what has no end begins. */
function endOfTag(source: string, start: number): number | { readonly unended: number } {
  const closing = source[start + 1] === "%" ? "%}" : "}}";
  let depth = 0;
  for (let at = start + 2; at < source.length; at++) {
    const unit = source[at];
    if (unit === "'" || unit === '"') {
      const end = endOfString(source, at);
      if (end > source.length) return { unended: at };
      at = end - 1;
    } else if (depth === 0 && source.startsWith(closing, at)) return at + 2;
    else if (unit === "{") depth++;
    else if (unit === "}") depth--;
  }
  return { unended: start };
}

/**
 * The line of each node: names and operators have those of their tokens; other nodes that of what they are about, as a
 * filter's name, or of the first node in them, or else that of the node around them.
 */
export function nodeLines(
  program: TemplateNode,
  tokens: Tokens,
  lines: readonly number[],
): ReadonlyMap<unknown, number> {
  const found = new Map<unknown, number>(tokens.map((token, index) => [token, lines[index] ?? 1]));
  const names = new Map<string, { readonly places: number[]; used: number }>();
  for (const [index, { type, value }] of tokens.entries()) {
    if (type !== "Identifier") continue;
    const name = names.get(value) ?? { places: [], used: 0 };
    name.places.push(index);
    names.set(value, name);
  }
  // The nodes of names stand in the order of their tokens; tokens between them are keywords.
  let next = 0;
  const visit = (node: TemplateNode): void => {
    const name = names.get(nameOf(node) ?? "");
    if (name !== undefined) {
      while ((name.places[name.used] ?? next) < next) name.used++;
      const index = name.places[name.used++];
      if (index !== undefined) {
        next = index + 1;
        found.set(node, lines[index] ?? 1);
      }
    }
    const children = childrenOf(node);
    for (const child of children) visit(child);
    const about = [node.operator, aboutOf(node), ...children].find((part) => found.has(part));
    const line = found.get(node) ?? found.get(about);
    if (line !== undefined) found.set(node, line);
  };
  visit(program);
  const inherit = (node: TemplateNode, around: number): void => {
    const line = found.get(node) ?? around;
    found.set(node, line);
    for (const child of childrenOf(node)) inherit(child, line);
  };
  inherit(program, 1);
  return found;
}

/** The part of a node that says what it does. */
function aboutOf(node: TemplateNode): unknown {
  switch (node.type) {
    case "FilterExpression":
      return filterOf(node).at;
    case "TestExpression":
      return node.test;
    case "CallExpression":
      return isNode(node.callee) && node.callee.type === "MemberExpression" ? node.callee.property : node.callee;
    case "MemberExpression":
      return node.property;
    default:
      return undefined;
  }
}
