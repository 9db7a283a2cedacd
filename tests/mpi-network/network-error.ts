/** The network could not be made or used as asked. The message says what was expected, what came and what to do. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
}
