import { parse, tokenize } from "@huggingface/jinja";
import { unknownName } from "./known-names.ts";
import { lineAt, nodeLines, tokenLines, unendedLine } from "./template-lines.ts";
import { MOST_DEPTH } from "./template-limits.ts";
import { childrenOf, filterOf, isNode, type TemplateNode } from "./template-nodes.ts";

/** Most UTF-16 units of a template. */
const LONGEST_TEMPLATE = 2 ** 18;
/** Most white space in a row: the tokenizer's time grows with its square. */
const LONGEST_SPACE = 1024;
/** Filters that may make a text much longer than what they are given. */
const GUARDED = new Set(["replace", "join", "indent", "tojson"]);
/** Operators that go through lists, and filters that do not. */
const WALKING_OPERATORS = new Set(["+", "in", "not in"]);
const LOOKING_FILTERS = new Set(["length", "first", "last", "list", "default", "safe"]);
/** What @huggingface/jinja says when a tag or a text in it, or a comment, has no end. */
const [UNENDED_TAG, UNENDED_COMMENT] = ["Unexpected end of input", "Missing end of comment tag"];
const TOO_DEEP = "an expression nested too deeply";
/** How transformers has templates read: the line feed behind a tag, and white space before one, are no text. */
const READING = { lstrip_blocks: true, trim_blocks: true };

/** Why a text is no template that can be used. */
export class TemplateProblem extends Error {
  /** @param line the line, from 1, where the problem is; undefined when it is the whole template */
  constructor(problem: string, line?: number) {
    super(line === undefined ? problem : `${problem} in line ${line}`);
  }
}

/** A parsed template, with what is to be known of its nodes while it is rendered. */
export interface TemplateProgram {
  /** Its root. */
  readonly program: ReturnType<typeof parse>;
  /** The line of each node. */
  readonly lines: ReadonlyMap<unknown, number>;
  /** Nodes whose lists and objects are gone through, item by item. */
  readonly walked: ReadonlySet<unknown>;
  /** Nodes whose values are asked for when their filters' arguments or their methods are known. */
  readonly operands: ReadonlySet<unknown>;
  /** The filter that a node is an argument of, where the filter may make a text much longer. */
  readonly filterArguments: ReadonlyMap<unknown, { readonly name: string; readonly operand: unknown }>;
  /** The object of each member, as `x` of `x.y`. */
  readonly members: ReadonlyMap<unknown, unknown>;
}

/** Parses a template. @throws TemplateProblem with the line, when it is none, or names what is not there */
export function parseTemplate(source: string): TemplateProgram {
  if (source.length > LONGEST_TEMPLATE) {
    throw new TemplateProblem(`${source.length} characters, more than ${LONGEST_TEMPLATE}`);
  }
  const space = new RegExp(`\\s{${LONGEST_SPACE + 1}}`).exec(source);
  if (space !== null) {
    throw new TemplateProblem(`more than ${LONGEST_SPACE} white spaces in a row`, lineAt(source, space.index));
  }
  const tokens = tokensOf(source);
  const lines = tokenLines(source, tokens);
  const program = parsed(tokens, lines);
  if (!isNode(program)) throw new TemplateProblem("nothing");
  const deep = tooDeep(program);
  if (deep !== undefined) {
    const at = tokens.findIndex((token) => deep.operators.has(token));
    throw new TemplateProblem(TOO_DEEP, lines[at]);
  }
  const known = nodeLines(program, tokens, lines);
  const unknown = unknownName(program);
  if (unknown !== undefined) throw new TemplateProblem(unknown.what, known.get(unknown.node));
  return { program, lines: known, ...watchedNodes(program) };
}

/**
 * The operators around a node that more nodes are around than may be; undefined where there is none. Any depth is
 * looked through.
 */
function tooDeep(program: TemplateNode): { readonly operators: ReadonlySet<unknown> } | undefined {
  const path: TemplateNode[] = [];
  const left: { readonly node: TemplateNode; readonly depth: number }[] = [{ node: program, depth: 0 }];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { node, depth } = next;
    path.length = depth;
    path.push(node);
    if (depth >= MOST_DEPTH) return { operators: new Set(path.map(({ operator }) => operator)) };
    for (const child of childrenOf(node)) left.push({ node: child, depth: depth + 1 });
  }
  return undefined;
}

function tokensOf(source: string): ReturnType<typeof tokenize> {
  const problem = tokenizingProblem(source);
  if (problem === undefined) return tokenize(source, READING);
  const isUnended = problem === UNENDED_TAG || problem === UNENDED_COMMENT;
  const unended = isUnended ? unendedLine(source) : undefined;
  if (unended !== undefined) throw new TemplateProblem(problem, unended);
  // The first line with which it fails so: tokens are made from left to right, it fails so with all that follow.
  const ends = [...source.matchAll(/\n|$/g)].map(({ index }) => index + 1);
  let [good, bad] = [-1, ends.length - 1];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (tokenizingProblem(source.slice(0, ends[middle])) === problem) bad = middle;
    else good = middle;
  }
  throw new TemplateProblem(problem, bad + 1);
}

function tokenizingProblem(source: string): string | undefined {
  try {
    tokenize(source, READING);
    return undefined;
  } catch (error) {
    return problemOf(error);
  }
}

function parsed(tokens: ReturnType<typeof tokenize>, lines: readonly number[]): ReturnType<typeof parse> {
  try {
    return parse(tokens);
  } catch (error) {
    // The parser reads tokens in their order: it failed at the last that it asks for.
    let last = 0;
    const watched = new Proxy(tokens, {
      get(target, key) {
        const index = typeof key === "string" ? Number(key) : Number.NaN;
        if (index > last) last = index;
        return Reflect.get(target, key);
      },
    });
    try {
      parse(watched);
    } catch {
      // The same as before.
    }
    throw new TemplateProblem(problemOf(error), lines[Math.min(last, lines.length - 1)]);
  }
}

/** What @huggingface/jinja says of a template, in a line. */
function problemOf(error: unknown): string {
  if (error instanceof RangeError) return TOO_DEEP;
  // What it says of a token that is not there is the runtime's.
  if (error instanceof TypeError || !(error instanceof Error)) return "an end where more was to come";
  return JSON.stringify(error.message.replace(/^Parser Error: /, "").slice(0, 200)).slice(1, -1);
}

function watchedNodes(program: TemplateNode): Omit<TemplateProgram, "program" | "lines"> {
  const walked = new Set<unknown>();
  const operands = new Set<unknown>();
  const members = new Map<unknown, unknown>();
  const filterArguments = new Map<unknown, { name: string; operand: unknown }>();
  const visit = (node: TemplateNode): void => {
    switch (node.type) {
      case "For": {
        const { iterable } = node;
        walked.add(isNode(iterable) && iterable.type === "SelectExpression" ? iterable.lhs : iterable);
        break;
      }
      case "BinaryExpression":
        if (isNode(node.operator) && WALKING_OPERATORS.has(`${node.operator.value}`)) {
          walked.add(node.left);
          walked.add(node.right);
        }
        break;
      case "SpreadExpression":
        walked.add(node.argument);
        break;
      case "MemberExpression":
        operands.add(node.object);
        members.set(node, node.object);
        if (isNode(node.property) && node.property.type === "SliceExpression") walked.add(node.object);
        break;
      case "FilterExpression":
      case "FilterStatement": {
        const { name, args } = filterOf(node);
        if (!LOOKING_FILTERS.has(name)) walked.add(node.operand);
        operands.add(node.operand);
        for (const argument of args) {
          const value = argument.type === "KeywordArgumentExpression" ? argument.value : argument;
          if (GUARDED.has(name)) filterArguments.set(value, { name, operand: node.operand });
        }
        break;
      }
    }
    for (const child of childrenOf(node)) visit(child);
  };
  visit(program);
  return { walked, operands, members, filterArguments };
}
