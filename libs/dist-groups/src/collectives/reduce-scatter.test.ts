import { describeCollective, standardCases } from "../../test/collective-suite.ts";

describeCollective("reduceScatter", standardCases("reduceScatter", { dims: true, reductions: true, inPlace: true }));
