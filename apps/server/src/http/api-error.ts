import type { ContentfulStatusCode } from "hono/utils/http-status";

/** What an error is about, in OpenAI's words. */
export type ApiErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "permission_error"
  | "not_found_error"
  | "rate_limit_error"
  | "server_error";

/** More about an error. */
export interface ApiErrorDetails {
  /** Field of the request that is wrong, as in `messages[0].role`. */
  readonly param?: string;
  /** A word for programs. */
  readonly code?: string;
  /** When to try again. */
  readonly retryAfterMs?: number;
  /** More headers of the answer. */
  readonly headers?: Readonly<Record<string, string>>;
}

const TYPES: Readonly<Record<number, ApiErrorType>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
};

/** An answer that is an error, in OpenAI's form. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: ContentfulStatusCode;
  readonly details: ApiErrorDetails;

  constructor(status: ContentfulStatusCode, message: string, details: ApiErrorDetails = {}) {
    super(message);
    this.status = status;
    this.details = details;
  }

  /** What is wrong with the field `param`. */
  static field(param: string, problem: string, code = "invalid_value"): ApiError {
    return new ApiError(400, `'${param}': ${problem}`, { param, code });
  }

  /** As the body of an answer, or an event of a stream. */
  get body(): { error: { message: string; type: ApiErrorType; param: string | null; code: string | null } } {
    const { param = null, code = null } = this.details;
    const type = TYPES[this.status] ?? (this.status >= 500 ? "server_error" : "invalid_request_error");
    return { error: { message: this.message, type, param, code } };
  }

  /** Headers of an answer that is this error. */
  get headers(): Record<string, string> {
    const { retryAfterMs, headers = {} } = this.details;
    if (retryAfterMs === undefined) return { ...headers };
    return { ...headers, "retry-after": `${Math.max(1, Math.ceil(retryAfterMs / 1000))}` };
  }
}
