import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("allToAll", standardCases("allToAll", {}));
