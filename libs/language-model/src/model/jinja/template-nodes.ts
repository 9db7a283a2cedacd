/** A node of a parsed template: @huggingface/jinja tells its kinds apart by `type`. */
export interface TemplateNode {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Whether a value is a node. */
export function isNode(value: unknown): value is TemplateNode {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

/** The nodes right within a node, in the order in which they stand in the template. */
export function childrenOf(node: TemplateNode): readonly TemplateNode[] {
  if (node.type === "Ternary") return nodesIn([node.trueExpr, node.condition, node.falseExpr]);
  if (node.type === "CallStatement") return nodesIn([node.callerArgs, node.call, node.body]);
  // An operator is a token, which looks like a node.
  return nodesIn(Object.entries(node).map(([name, value]) => (name === "operator" ? undefined : value)));
}

function nodesIn(value: unknown): TemplateNode[] {
  if (isNode(value)) return [value];
  if (Array.isArray(value)) return value.flatMap(nodesIn);
  if (value instanceof Map) return [...value].flat().flatMap(nodesIn);
  return [];
}

/** The name that an identifier is; undefined for other nodes. */
export function nameOf(node: unknown): string | undefined {
  return isNode(node) && node.type === "Identifier" && typeof node.value === "string" ? node.value : undefined;
}

/** A filter's name, its node and its arguments, of `x | name` and `x | name(arguments)`. */
export function filterOf(node: TemplateNode): { name: string; at: TemplateNode; args: readonly TemplateNode[] } {
  const filter = isNode(node.filter) ? node.filter : node;
  const isCalled = filter.type === "CallExpression";
  const at = isCalled && isNode(filter.callee) ? filter.callee : filter;
  return { name: nameOf(at) ?? "", at, args: isCalled ? nodesIn(filter.args) : [] };
}
