import { ArgumentError, describe } from "@lockstep/tensor";

/** A message of a conversation, as chat templates take it. */
export interface ChatMessage {
  /** Who says it: "system", "user", "assistant" or whatever else the model's template knows. */
  readonly role: string;
  /** What is said. */
  readonly content: string;
}

/** Most messages of a conversation. */
const MOST_MESSAGES = 16384;

/**
 * Checks a conversation: a list of 1 to 16384 messages with a role and a content, which are texts. Returns copies of
 * these two fields; others are not read.
 * @throws ArgumentError that names the message and the field, as `messages[1].role`
 */
export function checkMessages(operation: string, messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const list: unknown = messages;
  if (!Array.isArray(list) || list.length === 0 || list.length > MOST_MESSAGES) {
    const received = Array.isArray(list) ? `a list of ${list.length}` : describe(list);
    throw new ArgumentError(operation, "messages", `a list of 1 to ${MOST_MESSAGES} messages`, received);
  }
  return list.map((message: unknown, index) => {
    const name = `messages[${index}]`;
    if (typeof message !== "object" || message === null || Array.isArray(message)) {
      throw new ArgumentError(operation, name, "a message: an object with role and content", describe(message));
    }
    const field = (key: "role" | "content"): string => {
      const value: unknown = Reflect.get(message, key);
      if (typeof value === "string" && (key === "content" || value !== "")) return value;
      const expected = key === "role" ? "a text that is not empty" : "a text";
      throw new ArgumentError(operation, `${name}.${key}`, expected, describe(value));
    };
    return { role: field("role"), content: field("content") };
  });
}
