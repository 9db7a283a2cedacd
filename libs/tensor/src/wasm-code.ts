/** The bytes of a WebAssembly module that travels in a JavaScript module as base64. @throws for text that is not base64 */
export function wasmCode(base64: string): Uint8Array<ArrayBuffer> {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
