// The module of a worker that is a rank of a generator.
import { runGeneratorRank } from "@lockstep/language-model/rank";

runGeneratorRank();
