// What templates may name: filters, tests, functions and methods of @huggingface/jinja. It finds an unknown one only
// when it comes to it; templates are asked before.
import { childrenOf, filterOf, isNode, nameOf, type TemplateNode } from "./template-nodes.ts";

const FILTERS = new Set(
  (
    "abs bool capitalize default dictsort first float get indent int items join keys last length list lower map " +
    "rejectattr replace reverse safe selectattr sort string title tojson trim unique upper values"
  ).split(" "),
);

const TESTS = new Set(
  (
    "boolean callable defined eq equalto even false integer iterable lower mapping none number odd sequence string " +
    "true undefined upper"
  ).split(" "),
);

/** Functions that the interpreter is given, and the one that a `call` block is for its macro. */
export const FUNCTIONS: ReadonlySet<string> = new Set("namespace raise_exception range strftime_now caller".split(" "));

const METHODS = new Set(
  (
    "capitalize endswith lower lstrip replace rstrip split startswith strip title upper " +
    "dictsort get items keys values"
  ).split(" "),
);

/** What a template names that is not there. */
export interface UnknownName {
  /** What it is, with its name. */
  readonly what: string;
  /** The node that names it. */
  readonly node: TemplateNode;
}

/** The first filter, test, function or method of a template that is none of the known ones. */
export function unknownName(program: TemplateNode): UnknownName | undefined {
  const own = ownNames(program);
  const visit = (node: TemplateNode): UnknownName | undefined => {
    const here = unknownOf(node, own);
    if (here !== undefined) return here;
    // The name and the arguments of a filter look like the call of a function.
    const isFilter = node.type === "FilterExpression" || node.type === "FilterStatement";
    const children = childrenOf(node).filter((child) => !isFilter || child !== node.filter);
    for (const child of isFilter ? [...children, ...filterOf(node).args] : children) {
      const within = visit(child);
      if (within !== undefined) return within;
    }
    return undefined;
  };
  return visit(program);
}

function unknownOf(node: TemplateNode, own: ReadonlySet<string>): UnknownName | undefined {
  const unknown = (kind: string, name: string) => ({ what: `an unknown ${kind} ${JSON.stringify(name)}`, node });
  switch (node.type) {
    case "FilterExpression":
    case "FilterStatement": {
      const { name, args } = filterOf(node);
      if (!FILTERS.has(name)) return unknown("filter", name);
      const test = name === "selectattr" || name === "rejectattr" ? args[1]?.value : undefined;
      return typeof test === "string" && !TESTS.has(test) ? unknown("test", test) : undefined;
    }
    case "TestExpression": {
      const name = nameOf(node.test) ?? "";
      return TESTS.has(name) ? undefined : unknown("test", name);
    }
    case "CallExpression": {
      const { callee } = node;
      const called = nameOf(callee);
      if (called !== undefined && !FUNCTIONS.has(called) && !own.has(called)) return unknown("function", called);
      const isMethod = isNode(callee) && callee.type === "MemberExpression" && callee.computed !== true;
      const method = isMethod ? nameOf(callee.property) : undefined;
      return method === undefined || METHODS.has(method) || own.has(method) ? undefined : unknown("method", method);
    }
    default:
      return undefined;
  }
}

/** Names that a template gives to values, which may be functions: macros, variables, parameters, attributes. */
function ownNames(program: TemplateNode): ReadonlySet<string> {
  const names = new Set<string>();
  const add = (target: unknown): void => {
    for (const each of Array.isArray(target) ? target : []) add(each);
    if (!isNode(target)) return;
    const name = nameOf(target);
    if (name !== undefined) names.add(name);
    add(target.type === "TupleLiteral" ? target.value : undefined);
    add(target.type === "MemberExpression" ? target.property : undefined);
    add(target.type === "KeywordArgumentExpression" ? target.key : undefined);
  };
  const visit = (node: TemplateNode): void => {
    if (node.type === "Set") add(node.assignee);
    if (node.type === "For") add(node.loopvar);
    if (node.type === "Macro") add([node.name, node.args]);
    if (node.type === "CallStatement") add(node.callerArgs);
    if (node.type === "KeywordArgumentExpression") add(node);
    for (const child of childrenOf(node)) visit(child);
  };
  visit(program);
  return names;
}
