/**
 * Yields what `make` puts, as soon as it is there. It runs on whether or not somebody takes it, and its failure comes
 * after all that it put before. Whoever stops taking waits until it has ended.
 * @param make is told with `isDropped` that nobody takes anything any more
 */
export async function* runAhead<T>(
  make: (put: (value: T) => void, isDropped: () => boolean) => Promise<void>,
): AsyncGenerator<T, void> {
  const made: T[] = [];
  let isDone = false;
  let isDropped = false;
  let wake = (): void => {};
  const running = make(
    (value) => {
      made.push(value);
      wake();
    },
    () => isDropped,
  );
  const end = running
    .catch(() => {})
    .then(() => {
      isDone = true;
      wake();
    });
  try {
    for (;;) {
      while (made.length > 0) yield* made.splice(0);
      if (isDone) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    await running;
  } finally {
    isDropped = true;
    await end;
  }
}
