/** What TypeDoc writes as JSON about one thing that is published, as far as it is read here. */
export interface Reflection {
  readonly name: string;
  readonly kind: number;
  readonly flags?: { readonly isExternal?: boolean; readonly isInherited?: boolean };
  readonly comment?: Comment;
  readonly children?: readonly Reflection[];
  readonly signatures?: readonly Reflection[];
  readonly getSignature?: Reflection;
  readonly setSignature?: Reflection;
  readonly parameters?: readonly Reflection[];
  readonly type?: Type;
  readonly sources?: readonly { readonly fileName: string; readonly line: number }[];
  readonly overwrites?: { readonly name: string };
}

/** A type; `type` says of which form. */
export interface Type {
  readonly type: string;
  readonly elementType?: Type;
  readonly declaration?: Reflection;
}

/** A name in a type, or in a comment's link. The target is a number for what the reference has. */
export interface Mention {
  readonly type?: string;
  readonly kind?: string;
  readonly name?: string;
  readonly text?: string;
  readonly target?: number | string | Place;
  readonly refersToTypeParameter?: boolean;
}

/** Where something is declared that the reference does not have. */
export interface Place {
  readonly packageName: string;
  readonly packagePath: string;
  readonly qualifiedName: string;
}

interface Comment {
  readonly summary: readonly Mention[];
  readonly blockTags?: readonly { readonly content: readonly Mention[] }[];
}

/** Numbers that TypeDoc gives to kinds of reflections. */
export const KIND = { constructor: 512, reference: 4194304 } as const;

/** All text of a comment, with code and names of links. */
export function textOf({ comment }: Reflection): string {
  if (comment === undefined) return "";
  const parts = [...comment.summary, ...(comment.blockTags ?? []).flatMap(({ content }) => content)];
  return parts.map(({ text = "" }) => text).join("");
}
