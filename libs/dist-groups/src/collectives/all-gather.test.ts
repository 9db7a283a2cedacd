import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("allGather", standardCases("allGather", { dims: true, inPlace: true }));
