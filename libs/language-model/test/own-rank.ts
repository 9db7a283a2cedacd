// The module of a worker of the test's own: a rank of a generator.
import { runGeneratorRank } from "@lockstep/language-model/rank";

runGeneratorRank();
