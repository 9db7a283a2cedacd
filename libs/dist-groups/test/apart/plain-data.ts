/**
 * Throws unless a value could go to another process: structured cloning must take it, and nothing in it may be memory,
 * or a handle of this process.
 */
export function expectPlain(what: string, value: unknown): void {
  const handle = handleIn(value, new Set());
  if (handle !== undefined) throw new TypeError(`${what} has a ${handle}, which no other process could be sent`);
  structuredClone(value);
}

/** What of a value is no data; undefined when all is. */
function handleIn(value: unknown, seen: Set<object>): string | undefined {
  if (typeof value !== "object" || value === null || seen.has(value)) return undefined;
  seen.add(value);
  if (ArrayBuffer.isView(value)) return handleIn(value.buffer, seen);
  for (const kind of [SharedArrayBuffer, WebAssembly.Memory, WebAssembly.Module, MessagePort]) {
    if (value instanceof kind) return kind.name;
  }
  const parts = value instanceof Map ? [...value].flat() : value instanceof Set ? [...value] : Object.values(value);
  for (const part of parts) {
    const found = handleIn(part, seen);
    if (found !== undefined) return found;
  }
  return undefined;
}
