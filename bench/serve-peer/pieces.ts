/** The texts of a stream of UTF-8 that a separator ends. What comes after the last one is left out. */
export async function* piecesOf(stream: ReadableStream<Uint8Array>, separator: string): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const pieces = (rest + decoder.decode(bytes, { stream: true })).split(separator);
    rest = pieces.pop() ?? "";
    yield* pieces;
  }
}
