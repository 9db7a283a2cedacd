import type { SafetensorsFile } from "@lockstep/tensor";
import type { CaseParameters } from "./case-parameters.ts";
import type { OpName } from "./ops.ts";
import type { ToleranceName } from "./tolerances.ts";

/** An output of a case: its tensor, and how far a result may be off. */
export interface ExpectedOutput {
  readonly tensor: string;
  readonly tolerance: ToleranceName;
}

/** What named mistakes make of a case: tensors by the names of the outputs. */
export interface WrongOutputs {
  /** Several where they cannot be told apart here. */
  readonly mistakes: readonly string[];
  readonly outputs: ReadonlyMap<string, string>;
}

/** One case of the corpus. */
export interface CorpusCase {
  /** `op/what it is about`. */
  readonly name: string;
  readonly op: OpName;
  readonly file: SafetensorsFile;
  readonly parameters: CaseParameters;
  /** Tensors by name. */
  readonly inputs: ReadonlyMap<string, string>;
  /** None where it must be refused. */
  readonly outputs: ReadonlyMap<string, ExpectedOutput>;
  readonly wrong: readonly WrongOutputs[];
  /** Why an implementation must throw instead of giving a result; undefined where it must not. */
  readonly refuse: string | undefined;
}
