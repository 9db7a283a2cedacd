import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("allGatherCoalesced", standardCases("allGatherCoalesced", { dims: true, inPlace: true }));
