/**
 * What a promise came to, as a function that throws its reason or returns its value:
 * `expect(await outcomeOf(promise)).toThrow(ArgumentError)`.
 *
 * `expect(promise).rejects` turns the event loop inside of the matcher, where Bun may not see a worker's message until
 * a deadline wakes it; the linter refuses it.
 */
export async function outcomeOf(promise: unknown): Promise<() => unknown> {
  try {
    const value = await promise;
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** Why a promise was rejected. @throws Error when it was not */
export async function reasonOf(promise: unknown): Promise<unknown> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected a rejected promise, but it came to ${Bun.inspect(value)}`);
}
