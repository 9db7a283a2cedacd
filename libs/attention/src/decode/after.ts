import type { Completion } from "@lockstep/kernels";

/**
 * Goes on with what `done` gives: there and then, or once it is there if it is a promise. So one piece of code serves
 * backends that have completed an op when it returns and those that have not.
 * @returns a promise where there is something to await; errors of `next` are thrown or, with a promise, reject it
 */
export function after<T>(done: T | Promise<T>, next: (value: T) => Completion): Completion {
  return done instanceof Promise ? done.then(next) : next(done);
}
