import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("readPeers", standardCases("readPeers", {}));
