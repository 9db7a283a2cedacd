import { addAttentionCases } from "./attention-cases.ts";
import { addCombineCases } from "./combine-cases.ts";
import { CorpusBuilder } from "./corpus-builder.ts";
import { addOwnershipCases } from "./ownership-cases.ts";
import { addPackCases } from "./pack-cases.ts";
import { addPrefillCases } from "./prefill-cases.ts";

/** All cases of the corpus. The same bytes on every runtime. */
export function corpusBuilder(): CorpusBuilder {
  const builder = new CorpusBuilder();
  addCombineCases(builder);
  addPackCases(builder);
  addOwnershipCases(builder);
  addAttentionCases(builder);
  addPrefillCases(builder);
  return builder;
}
