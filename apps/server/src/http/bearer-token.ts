import { createHash, timingSafeEqual } from "node:crypto";

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/**
 * Tells whether a header `Authorization: Bearer TOKEN` has the token. What is compared are hashes, in a time that does
 * not depend on them.
 */
export function bearerCheck(token: string): (authorization: string | undefined) => boolean {
  const wanted = digest(token);
  return (authorization) => {
    const [, given] = /^bearer +(\S+) *$/i.exec(authorization ?? "") ?? [];
    return timingSafeEqual(digest(given ?? ""), wanted) && given !== undefined;
  };
}
