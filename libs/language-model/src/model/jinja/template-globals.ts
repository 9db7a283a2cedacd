// The functions that transformers gives to chat templates.

/** A template raised an exception, as one does that takes no system messages. */
export class RaisedByTemplate extends Error {}

const LONGEST_RANGE = 65536;
const LONGEST_MESSAGE = 1000;

/** Variables of every template, but for those of the model and the conversation. `now` is for `strftime_now`. */
export function templateGlobals(now: Date): Readonly<Record<string, unknown>> {
  return {
    ...{ true: true, True: true, false: false, False: false, none: null, None: null },
    raise_exception: (message: unknown): never => {
      const text = typeof message === "string" ? message : "an exception without a text";
      throw new RaisedByTemplate(text.slice(0, LONGEST_MESSAGE));
    },
    range,
    strftime_now: (format: unknown): string => {
      if (typeof format !== "string") throw new Error("strftime_now takes a format");
      return strftime(now, format);
    },
  };
}

/** Python's `range` of whole numbers, of up to 65536 of them. */
function range(...bounds: unknown[]): number[] {
  const numbers = bounds.filter((bound): bound is number => typeof bound === "number" && Number.isInteger(bound));
  const [first = 0, second, step = 1] = numbers;
  if (numbers.length < 1 || numbers.length > 3 || numbers.length < bounds.length || step === 0) {
    throw new Error("range takes one to three whole numbers, the third other than 0");
  }
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > LONGEST_RANGE) throw new Error(`range of ${length} numbers, more than ${LONGEST_RANGE}`);
  return Array.from({ length }, (_, index) => start + index * step);
}

const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
const MONTHS = "January February March April May June July August September October November December".split(" ");

/** A date as Python's `strftime` writes it in the C locale, in local time. */
export function strftime(date: Date, format: string): string {
  const two = (value: number): string => `${value}`.padStart(2, "0");
  const day = DAYS[date.getDay()] ?? "";
  const month = MONTHS[date.getMonth()] ?? "";
  const hour = date.getHours() % 12 === 0 ? 12 : date.getHours() % 12;
  const dayOfYear =
    1 +
    Math.round(
      (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - Date.UTC(date.getFullYear(), 0, 1)) / 86_400_000,
    );
  const parts: Readonly<Record<string, string>> = {
    ...{ "%": "%", a: day.slice(0, 3), A: day, b: month.slice(0, 3), B: month, Y: `${date.getFullYear()}` },
    ...{ d: two(date.getDate()), e: `${date.getDate()}`.padStart(2), m: two(date.getMonth() + 1) },
    ...{ y: two(date.getFullYear() % 100), H: two(date.getHours()), I: two(hour), M: two(date.getMinutes()) },
    ...{ S: two(date.getSeconds()), p: date.getHours() < 12 ? "AM" : "PM", j: `${dayOfYear}`.padStart(3, "0") },
    ...{ w: `${date.getDay()}` },
  };
  return format.replaceAll(/%(.?)/gs, (_all, directive: string) => {
    const part = Object.hasOwn(parts, directive) ? parts[directive] : undefined;
    if (part === undefined) throw new Error(`strftime_now knows no %${directive}`);
    return part;
  });
}
