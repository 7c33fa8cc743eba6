/** All rooms by the names of their Python modules: what the worker runs and the tests hold to Python. */

export * as classic_colour from "./classic/colour";
export * as classic_mvdr from "./classic/mvdr";
export * as classic_projection from "./classic/projection";
export * as confidence_evidence from "./confidence/evidence";
export * as confidence_keyframes from "./confidence/keyframes";
export * as confidence_model from "./confidence/model";
export * as confidence_verdict from "./confidence/verdict";
export * as signals_clock from "./signals/clock";
export * as signals_filters from "./signals/filters";
export * as signals_rate from "./signals/rate";
export * as video_opencv from "./video/opencv";
export * as video_regions from "./video/regions";
