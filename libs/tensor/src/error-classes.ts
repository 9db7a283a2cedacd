// Which class an error with a `_tag` is an instance of, on this thread. Errors cross workers as data; whoever rebuilds
// one looks its class up here. A class joins as it is defined:
//
//   export class OutOfBlocks extends LockstepError {
//     static { registerErrorClass("OutOfBlocks", OutOfBlocks); }
//
// so whatever module can name a class has it registered. An error that arrives before its class is imported becomes an
// instance when the class joins.

/** What an error needs to become an instance of a class. */
export interface ErrorClass {
  /** What becomes the prototype of an error of the class. */
  readonly prototype: Error;
}

/** Errors of one tag that wait for their class; older ones are forgotten. */
const MOST_WAITING = 100;

const classes = new Map<string, ErrorClass>();
const waiting = new Map<string, WeakRef<Error>[]>();

/**
 * Makes errors whose `_tag` is `tag` and that come from another thread instances of `errorClass`, those that have come
 * already included.
 */
export function registerErrorClass(tag: string, errorClass: ErrorClass): void {
  classes.set(tag, errorClass);
  for (const reference of waiting.get(tag) ?? []) {
    const error = reference.deref();
    if (error !== undefined) Object.setPrototypeOf(error, errorClass.prototype);
  }
  waiting.delete(tag);
}

/** The class of errors whose `_tag` is `tag`, if it is defined on this thread. */
export function errorClassOf(tag: string): ErrorClass | undefined {
  return classes.get(tag);
}

/** Makes `error` an instance of the class of its tag once that is defined. */
export function becomeWhenRegistered(tag: string, error: Error): void {
  const references = (waiting.get(tag) ?? []).filter((reference) => reference.deref() !== undefined);
  references.push(new WeakRef(error));
  waiting.set(tag, references.slice(-MOST_WAITING));
}
