/** What a heap rounds the bytes of each tensor up to. */
export const HEAP_LINE_BYTES = 128;
