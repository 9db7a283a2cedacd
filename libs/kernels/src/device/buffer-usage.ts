// The flags of GPUBufferUsage, which is a global only in browsers.

export const MAP_READ = 0x0001;
export const MAP_WRITE = 0x0002;
export const COPY_SRC = 0x0004;
export const COPY_DST = 0x0008;
export const UNIFORM = 0x0040;
export const STORAGE = 0x0080;

/** GPUMapMode.READ and WRITE */
export const MAP_MODE_READ = 0x0001;
export const MAP_MODE_WRITE = 0x0002;
