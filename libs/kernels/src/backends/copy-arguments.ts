import type { Tensor } from "@lockstep/tensor";
import { expectDType, expectShape, expectTensor, type Operand } from "../operand.ts";
import { expectApartOrSame, expectWritable } from "../overlapping-operands.ts";

/** The check of a backend's `upload`. @throws ArgumentError, UseAfterFree */
export function checkUpload(source: Tensor, target: Operand): void {
  expectTensor("upload", "source", source);
  expectShape("upload", "target", target, source.shape);
  expectDType("upload", "target", target, [source.dtype]);
  expectWritable("upload", "target", target);
  expectApartOrSame("upload", "target", target, "source", source);
}

/** The check of a backend's `download`. @throws ArgumentError, UseAfterFree */
export function checkDownload(source: Operand, target: Tensor): void {
  expectTensor("download", "target", target);
  expectShape("download", "source", source, target.shape);
  expectDType("download", "source", source, [target.dtype]);
  expectWritable("download", "target", target);
  expectApartOrSame("download", "target", target, "source", source);
}
