import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("allReduce", standardCases("allReduce", { reductions: true, inPlace: true }));
