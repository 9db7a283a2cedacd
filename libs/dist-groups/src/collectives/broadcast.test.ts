import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("broadcast", standardCases("broadcast", { roots: true }));
