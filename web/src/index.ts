/** All rooms by the names of their Python modules. As a worker it answers the page; the tests hold the rooms to Python. */

import { serve } from "./page/worker";

export * as classic_colour from "./classic/colour";
export * as classic_mvdr from "./classic/mvdr";
export * as classic_projection from "./classic/projection";
export * as confidence_evidence from "./confidence/evidence";
export * as confidence_keyframes from "./confidence/keyframes";
export * as confidence_model from "./confidence/model";
export * as confidence_verdict from "./confidence/verdict";
export * as frontend from "./frontend";
export * as measure from "./measure";
export * as meter from "./meter";
export * as networks from "./networks";
export * as runtime from "./runtime";
export * as signals_clock from "./signals/clock";
export * as signals_filters from "./signals/filters";
export * as signals_rate from "./signals/rate";
export * as video_detector from "./video/detector";
export * as video_opencv from "./video/opencv";
export * as video_pace from "./video/pace";
export * as video_regions from "./video/regions";
export * as video_tracker from "./video/tracker";

if ("WorkerGlobalScope" in globalThis) serve();
